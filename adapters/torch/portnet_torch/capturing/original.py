"""The network as it came, to compare with: whole, up to a module, or up to an operation of the traced program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from portnet.errors import UnsupportedError
from portnet.formats.captured import Source
from portnet_torch.capturing.calling import Call, plain
from portnet_torch.capturing.labels import Places
from portnet_torch.capturing.modes import inference_mode
from portnet_torch.dtypes import to_array, to_tensor
from portnet_torch.exact import exact

__all__ = ["Original"]


class Original(Source):
    """A network of torch.

    Args:
        native: what to call, an nn.Module or a traced program's module.
        call: what it was traced with: says how inputs are nested, and what is no tensor.
        inputs: names of the tensors among them, in order.
        outputs: names of the tensors that it returns, in order.
        program: the program that was translated.
        places: where tensors are found in either.
        given: whether the arguments are the user's own.
    """

    label = "torch, as it came"

    def __init__(
        self,
        native: torch.nn.Module,
        call: Call,
        inputs: list[str],
        outputs: list[str],
        program: ExportedProgram,
        places: Places,
        given: bool = False,
    ) -> None:
        self._native, self._program, self._places = native, program, places
        self._leaves, self._tree = pytree.tree_flatten((call.positional, call.named))
        self._inputs, self._outputs = inputs, outputs
        if given:
            tensors = [leaf for leaf in self._leaves if isinstance(leaf, Tensor)]
            self.examples = {name: to_array(tensor) for name, tensor in zip(inputs, tensors, strict=False)}
        first = next(iter(native.parameters()), None)
        self._device = first.device if first is not None else torch.device("cpu")

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode; the network's own mode is as before afterwards."""
        with self._running():
            results = self.call(inputs).of(self._native)
        tensors = [leaf for leaf in pytree.tree_leaves(plain(results)) if isinstance(leaf, Tensor)]
        return {name: to_array(tensor) for name, tensor in zip(self._outputs, tensors, strict=True)}

    def at(self, tensor: str) -> Source:
        """Return the network up to a tensor: what a module gives, or an operation of the traced program."""
        if tensor in self._places.modules:
            path, calls = self._places.modules[tensor]
            return _Part(self.label, tensor, lambda inputs: self._of_module(path, calls, inputs))
        if tensor in self._places.traced:
            target = self._places.traced[tensor]
            return _Part(self.label, tensor, lambda inputs: self._of_operation(target, inputs))
        raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}")

    @contextmanager
    def _running(self) -> Iterator[None]:
        with inference_mode(self._native), torch.no_grad(), exact(str(self._device)):
            yield

    def call(self, inputs: Mapping[str, Any]) -> Call:
        """Return what to call the network with."""
        given = iter(self._tensors(inputs))
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return Call(*pytree.tree_unflatten(leaves, self._tree))

    def _tensors(self, inputs: Mapping[str, Any]) -> list[Tensor]:
        examples = [leaf for leaf in self._leaves if isinstance(leaf, Tensor)]
        # a tensor that no operation reads is no input of the graph
        return [
            to_tensor(inputs[name]).to(self._device) if name in inputs else example
            for name, example in zip(self._inputs, examples, strict=True)
        ]

    def _of_module(self, path: str, calls: int, inputs: Mapping[str, Any]) -> Tensor:
        remaining = calls

        def stop(module: torch.nn.Module, given: Any, result: Any) -> None:
            nonlocal remaining
            if remaining == 0:
                raise _ReachedError(result)
            remaining -= 1

        handle = self._native.get_submodule(path).register_forward_hook(stop)
        try:
            with self._running():
                self.call(inputs).of(self._native)
        except _ReachedError as reached:
            if isinstance(reached.value, Tensor):
                return reached.value
        finally:
            handle.remove()
        raise UnsupportedError(f"{self.label} gives no tensor at module {path!r}")

    def _of_operation(self, target: str, inputs: Mapping[str, Any]) -> Tensor:
        given = iter(self._tensors(inputs))
        arguments = [self._lifted(spec, given) for spec in self._program.graph_signature.input_specs]
        with self._running():
            try:
                _UpTo(self._program.graph_module, target).run(*arguments)
            except _ReachedError as reached:
                if isinstance(reached.value, Tensor):
                    return reached.value
        raise UnsupportedError(f"{self.label} gives no tensor at operation {target!r}")

    def _lifted(self, spec: Any, given: Any) -> Any:
        if spec.kind == InputKind.USER_INPUT:
            return next(given) if hasattr(spec.arg, "name") and not hasattr(spec.arg, "value") else spec.arg.value
        weights = {**self._program.state_dict, **self._program.constants}
        return weights[spec.target]


class _ReachedError(Exception):
    """Carries a value out of a network that need not run on."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _UpTo(fx.Interpreter):
    """Runs a traced program to one node and frees each value after its last use."""

    def __init__(self, module: fx.GraphModule, target: str) -> None:
        super().__init__(module)
        self._target = target

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        if n.name == self._target:
            raise _ReachedError(value)
        return value


class _Part(Source):
    def __init__(self, label: str, tensor: str, compute: Callable[[Mapping[str, Any]], Tensor]) -> None:
        self.label, self._tensor, self._compute = label, tensor, compute

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run up to the tensor."""
        return {self._tensor: to_array(self._compute(inputs))}
