"""A module that lies on another device, copied to the CPU.

torch.export takes other operations apart for CUDA than for the CPU (a GRU cell and adaptive max pooling stay whole),
and numbers of CUDA are compared with less certainty than those of the CPU: so a network is captured there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from portnet_torch.capturing.facts import facts_of, remember

__all__ = ["on_cpu"]


def on_cpu(native: nn.Module) -> nn.Module:
    """Return a module whose tensors are all on the CPU: ``native`` itself, or a copy that is not on its device.

    A module that cannot be copied is returned as it is.
    """
    elsewhere = {id(tensor): tensor for tensor in _tensors(native) if tensor.device.type != "cpu"}
    if not elsewhere:
        return native
    try:
        # deepcopy takes these for copies that it has made already, and so needs no memory on the device
        made: dict[int, object] = {key: _hosted(tensor) for key, tensor in elsewhere.items()}
        copied = copy.deepcopy(native, made)
    except Exception:  # whatever the code of a network's own raises, and torch for tensors without numbers
        return native
    remember(copied, facts_of(native))
    return copied


def _hosted(tensor: Tensor) -> Tensor:
    found = tensor.detach().cpu()
    return nn.Parameter(found, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found


def _tensors(native: nn.Module) -> Iterator[Tensor]:
    for module in native.modules():
        yield from module.parameters(recurse=False)
        yield from module.buffers(recurse=False)
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))
