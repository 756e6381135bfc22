"""Lowered networks in the files that PyTorch's community keeps them in, and back."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from portnet.adapter import Reloaded
from portnet.errors import UnsupportedError
from portnet.graph.metadata import Metadata
from portnet.graph.travel import FILE, to_text
from portnet_torch.alone import Alone
from portnet_torch.network import TorchLowered
from portnet_torch.program import limits, program_of
from portnet_torch.source import SAFETENSORS_NAMES, network_source, stored_tensors

__all__ = ["TorchReloaded", "reload", "write"]


class TorchReloaded(Reloaded):
    """A network that torch read from files.

    Args:
        lowered: its border.
        call: takes and returns tensors as the network does.
        notes: see `Reloaded`.
    """

    def __init__(self, lowered: TorchLowered, call: Callable[..., Any], *notes: str) -> None:
        self._lowered, self._call, self.notes = lowered, call, notes

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode, on contiguous tensors."""
        arguments = [self._lowered.tensor(port, inputs) for port in self._lowered.model.inputs]
        plain = [value.contiguous() if isinstance(value, Tensor) else value for value in arguments]
        with torch.inference_mode():
            return self._lowered.named(self._call(*plain))


def write(lowered: TorchLowered, path: Path, form: str) -> list[Path]:
    """Write a network in a form of `portnet_torch.Engine.formats`; see `portnet.adapter.Adapter.write`."""
    return {"pt2": _write_program, "safetensors": _write_state, "code": _write_code}[form](lowered, path)


def reload(lowered: TorchLowered, path: Path, form: str) -> TorchReloaded:
    """Read what `write` wrote; see `portnet.adapter.Adapter.reload`."""
    return {"pt2": _read_program, "safetensors": _read_state, "code": _read_code}[form](lowered, path)


def _write_program(lowered: TorchLowered, path: Path) -> list[Path]:
    with warnings.catch_warnings():
        # about weights that lie channels last: they come back as they are
        warnings.simplefilter("ignore", UserWarning)
        program = io.BytesIO()  # where the disk is full, torch's own writer ends the process
        torch.export.save(program_of(lowered), program, extra_files={FILE: to_text(lowered.metadata)})
    path.write_bytes(program.getbuffer())
    return [path]


def _read_program(lowered: TorchLowered, path: Path) -> TorchReloaded:
    program = torch.export.load(path)
    notes = ["load with torch.export.load(path).module(); it is for inference", *limits(lowered, program)]
    return TorchReloaded(lowered, program.module(), *notes)


def _write_state(lowered: TorchLowered, path: Path) -> list[Path]:
    _save_tensors(lowered.native.state_dict(), path, lowered.metadata)
    return [path]


def _read_state(lowered: TorchLowered, path: Path) -> TorchReloaded:
    network = _emptied(lowered.native)
    network.load_state_dict(safetensors.torch.load_file(path))
    return TorchReloaded(
        lowered, network.eval(), "a state_dict: weights alone, under the names of the network's layers"
    )


def _emptied(native: nn.Module) -> nn.Module:
    """Return a copy of the architecture in which every tensor of the state dict is zero."""
    network = copy.deepcopy(native)
    for name, module in native.named_modules():  # a copied GraphModule saves every buffer, constants of the graph too
        network.get_submodule(name)._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    for tensor in network.state_dict().values():
        tensor.zero_()
    return network


def _write_code(lowered: TorchLowered, path: Path) -> list[Path]:
    source, weights = _code_files(path)
    source.parent.mkdir(exist_ok=True)
    source.write_text(network_source(lowered, weights.name), encoding="utf-8")
    _save_tensors(stored_tensors(lowered), weights, lowered.metadata)
    return [source, weights]


def _code_files(path: Path) -> tuple[Path, Path]:
    """Return model.py and weights.safetensors in a folder, or NAME.py and NAME.safetensors where a file is named."""
    source = path if path.suffix == ".py" else path / "model.py"
    return source, source.with_name("weights.safetensors" if source.stem == "model" else f"{source.stem}.safetensors")


def _read_code(lowered: TorchLowered, path: Path) -> TorchReloaded:
    source, _ = _code_files(path)
    return TorchReloaded(lowered, Alone(source), f"{source.name} needs torch alone")


def _save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Metadata) -> None:
    strange = [
        f"{name!r} ({tensor.dtype})" for name, tensor in tensors.items() if tensor.dtype not in SAFETENSORS_NAMES
    ]
    if strange:
        raise UnsupportedError(f"torch: safetensors has no element type for {', '.join(strange)}", engine="torch")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, path, metadata={"format": "pt", **metadata.to_props()})
