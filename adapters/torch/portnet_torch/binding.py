"""What keeps ONNX names and layouts on one side and torch's parameters on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PLAIN", "TRANSPOSED", "Binding", "Layout", "resolve"]


@dataclass(frozen=True)
class Layout:
    """How one ONNX array lies in one or several native tensors.

    Attributes:
        split: ONNX array to native tensors, in the order of `Binding.paths`.
        join: native tensors back to the ONNX array.
    """

    split: Callable[[Tensor], Sequence[Tensor]]
    join: Callable[[Sequence[Tensor]], Tensor]


PLAIN = Layout(lambda array: [array], lambda tensors: tensors[0])
TRANSPOSED = Layout(lambda array: [array.t()], lambda tensors: tensors[0].t())


@dataclass(frozen=True)
class Binding:
    """Where an ONNX initializer lives in the native network.

    Attributes:
        name: the initializer's name.
        paths: dotted paths of the native tensors that hold it.
        layout: the layout change between the two.
        is_statistic: a running mean or variance, no parameter.
    """

    name: str
    paths: tuple[str, ...]
    layout: Layout = PLAIN
    is_statistic: bool = False


def resolve(root: torch.nn.Module, path: str) -> Tensor:
    """Return the parameter or buffer at a dotted path."""
    owner, _, leaf = path.rpartition(".")
    tensor: Tensor = getattr(root.get_submodule(owner), leaf)
    return tensor
