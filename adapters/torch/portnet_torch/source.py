"""A lowered network as Python source: one file that needs torch alone, to be read and changed by people."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

import portnet
from portnet.errors import UnsupportedError
from portnet.graph.model import Signature
from portnet_torch.copied import Copied
from portnet_torch.forward import TAKEN, forward_source, is_own
from portnet_torch.literals import access, call, is_name, layer_arguments, literal, numbers, quoted
from portnet_torch.naming import free, identifier
from portnet_torch.network import TorchLowered

__all__ = ["SAFETENSORS_NAMES", "network_source", "stored_tensors"]

# constants of so many elements stand in the source; larger ones go with the weights
INLINE = 16

# what safetensors calls torch's element types
SAFETENSORS_NAMES: dict[torch.dtype, str] = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
}

_FILE = '''"""{title}, converted from ONNX by PortNet {version}. It needs torch alone.

{signature}

    network = load()  # reads the weights beside this file
    network.train()   # its parameters train
"""

from __future__ import annotations

{imports}

DTYPES = {dtypes}


{body}


def load(weights: str | Path = Path(__file__).with_name({weights})) -> Model:
    """Return the network with its weights, in inference mode."""
    network = Model()
    tensors, network.metadata = read_safetensors(weights)  # labels and preprocessing go with the weights
    network.load_state_dict(tensors){memory_format}
    return network.eval()


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a .safetensors file: the length of a JSON header in 8 bytes, the header, the tensors."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {{}})
    tensors = {{}}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        dtype = DTYPES[entry["dtype"]]
        empty = torch.empty(0, dtype=dtype)
        tensor = torch.frombuffer(data[first:last], dtype=dtype) if last > first else empty
        tensors[name] = tensor.reshape(entry["shape"])
    return tensors, metadata
'''


def stored_tensors(lowered: TorchLowered) -> dict[str, Tensor]:
    """Return what goes into the weights file of `network_source`: the state dict, and constants too long to write."""
    stored = dict(lowered.native.state_dict())
    constants = {name: tensor for name, tensor in lowered.native.named_buffers() if name not in stored}
    return {**stored, **{name: tensor for name, tensor in constants.items() if tensor.numel() > INLINE}}


def network_source(lowered: TorchLowered, weights: str) -> str:
    """Return the source of a file that defines ``Model``, and ``load()``, which reads the file ``weights`` beside it.

    Raises:
        UnsupportedError: the network calls something that has no source of its own.
    """
    stored = stored_tensors(lowered)
    copied = Copied(_own(lowered.native), TAKEN)
    names = _class_names(lowered.native, copied.names)
    classes = [_Class(lowered.native, path, names, copied, set(stored)).text() for path in reversed(names)]
    body = "\n\n\n".join([copied.text(), *classes] if copied.names else classes)
    return _FILE.format(
        title=identifier(lowered.model.name or "network"),
        version=portnet.__version__,
        signature=_signature(lowered),
        weights=quoted(weights),
        imports=_imports(copied.imports(), body),
        dtypes=_dtypes(stored),
        body=body,
        memory_format=_memory_format(lowered.native, stored),
    )


def _memory_format(native: nn.Module, stored: Mapping[str, Tensor]) -> str:
    """Return the line that lays images channels last, where the network's kernels lie so."""
    if not any(tensor.ndim == 4 and not tensor.is_contiguous() for tensor in stored.values()):
        return ""
    if not any(tensor.ndim == 5 for tensor in [*native.parameters(), *native.buffers()]):
        return "\n    network.to(memory_format=torch.channels_last)"
    # torch would want all five axes laid so, which no format of four allows
    return "\n    for layer in network.modules():\n        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):\n" + (
        "            layer.to(memory_format=torch.channels_last)"
    )


def _own(native: nn.Module) -> Iterator[Callable[..., Any]]:
    """Yield functions and layers of this package that a network calls."""
    for module in native.modules():
        if isinstance(module, fx.GraphModule):
            yield from (
                node.target for node in module.graph.nodes if node.op == "call_function" and is_own(node.target)
            )
        elif is_own(type(module)):
            yield type(module)


def _class_names(native: nn.Module, taken: set[str]) -> dict[str, str]:
    """Return the name of the class that each graph of the network becomes, by the graph's path."""
    names: dict[str, str] = {}
    for path, module in native.named_modules():
        if isinstance(module, fx.GraphModule):
            name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", path)) or "Model"
            names[path] = free(name, taken | set(names.values())) if path else name
    return names


def _signature(lowered: TorchLowered) -> str:
    inputs, outputs = (", ".join(map(_port, ports)) for ports in (lowered.model.inputs, lowered.model.outputs))
    return f"{inputs} -> {outputs}"


def _port(port: Signature) -> str:
    sizes = "..." if port.shape is None else ", ".join(_size(size) for size in port.shape)
    return f"{identifier(port.name)}: {port.dtype} ({sizes})"


def _size(size: int | str | None) -> str:
    return "?" if size is None else str(size) if isinstance(size, int) else identifier(size)


def _dtypes(stored: dict[str, Tensor]) -> str:
    used = {SAFETENSORS_NAMES[tensor.dtype]: tensor.dtype for tensor in stored.values()}
    return "{" + ", ".join(f'"{name}": {dtype}' for name, dtype in sorted(used.items())) + "}"


def _imports(statements: set[str], body: str) -> str:
    """Return the import statements: those of the copied functions, and what the rest of the file uses."""
    lines = statements - {"from torch import Tensor", "from torch import nn"}
    lines |= {"import json", "import torch", "from pathlib import Path", "from torch import Tensor, nn"}
    aliases = {
        **{"F": "import torch.nn.functional as F", "np": "import numpy as np"},
        **{"math": "import math", "operator": "import operator"},
    }
    lines |= {line for name, line in aliases.items() if re.search(rf"(?<![\w.]){name}\.", body)}
    third = {line for line in lines if re.match(r"\w+ (torch|numpy|PIL)", line)}
    blocks = (sorted(block, key=lambda line: (line.startswith("from"), line)) for block in (lines - third, third))
    return "\n\n".join(map("\n".join, blocks))


class _Class:
    """One graph as a class: the network itself, a branch of an If, a body of a loop."""

    def __init__(self, native: nn.Module, path: str, names: dict[str, str], copied: Copied, stored: set[str]) -> None:
        self.module: fx.GraphModule = native.get_submodule(path)  # type: ignore[assignment]
        self.path, self.names, self.copied, self.stored = path, names, copied, stored

    def text(self) -> str:
        """Return the source of the class."""
        about = f"What runs inside {self.path}." if self.path else "The network; `load` fills it with its weights."
        lines = [f"class {self.names[self.path]}(nn.Module):", f'    """{about}"""', ""]
        if members := [*self._layers(), *self._tensors()]:
            start = ["    def __init__(self) -> None:", "        super().__init__()"]
            lines += [*start, *(f"        {member}" for member in members), ""]
        return "\n".join([*lines, *forward_source(self.module.graph, self.copied)])

    # ---- layers

    def _layers(self) -> Iterator[str]:
        for name, child in self.module.named_children():
            expression = self._expression(child, name, " " * 8)
            yield f"self.{name} = {expression}" if is_name(name) else f"self.add_module({quoted(name)}, {expression})"

    def _expression(self, module: nn.Module, path: str, indent: str) -> str:
        kind = type(module)
        if kind is nn.Module:
            return self._container(module, path, indent)
        if isinstance(module, fx.GraphModule):
            return f"{self.names[self._full(path)]}()"
        if is_own(kind):
            arguments = ((name, getattr(module, name)) for name in inspect.signature(kind).parameters)
            texts = [f"{name}={self._argument(value, f'{path}.{name}', indent)}" for name, value in arguments]
            return call(self.copied.name(kind), texts)
        if getattr(nn, kind.__name__, None) is not kind:
            raise UnsupportedError(f"torch: code cannot write a layer of {kind.__qualname__}", engine="torch")
        return call(f"nn.{kind.__name__}", layer_arguments(module))

    def _container(self, module: nn.Module, path: str, indent: str) -> str:
        deeper = indent + " " * 4
        children = [
            f"\n{deeper}{quoted(name)}: {self._expression(child, f'{path}.{name}', deeper)},"
            for name, child in module.named_children()
        ]
        return f"nn.ModuleDict({{{''.join(children)}\n{indent}}})" if children else "nn.ModuleDict()"

    def _argument(self, value: Any, path: str, indent: str) -> str:
        return self._expression(value, path, indent) if isinstance(value, nn.Module) else literal(value)

    def _full(self, path: str) -> str:
        return f"{self.path}.{path}" if self.path else path

    # ---- tensors that belong to no layer

    def _tensors(self) -> Iterator[str]:
        for path, owner in self._owners(self.module, ""):
            for name, value in [*owner._parameters.items(), *owner._buffers.items()]:
                if value is not None:
                    yield self._tensor(path, name, value)
            for name, value in vars(owner).items():
                if isinstance(value, np.ndarray):
                    yield f"setattr({access(path)}, {quoted(name)}, np.array({literal(value.tolist())}, dtype=object))"

    def _owners(self, module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        """Yield the graph's own module and the containers in it, but no layer and no other graph."""
        yield path, module
        for name, child in module.named_children():
            if type(child) is nn.Module:
                yield from self._owners(child, f"{path}.{name}" if path else name)

    def _tensor(self, path: str, name: str, value: Tensor) -> str:
        owner = access(path)
        dtype = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
        empty = f"torch.empty({literal(tuple(value.shape))}{dtype})"
        if isinstance(value, nn.Parameter):
            made = f"nn.Parameter({empty}{'' if value.requires_grad else ', requires_grad=False'})"
            return (
                f"{owner}.{name} = {made}" if is_name(name) else f"{owner}.register_parameter({quoted(name)}, {made})"
            )
        if self._full(f"{path}.{name}" if path else name) in self.stored:
            return f"{owner}.register_buffer({quoted(name)}, {empty})"
        made = f"torch.tensor({numbers(value)}, dtype={value.dtype})"
        return f"{owner}.register_buffer({quoted(name)}, {made}, persistent=False)"
