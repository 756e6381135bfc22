"""Choices on which the frameworks' editions of one architecture differ, though every shape is the same."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Convention"]


@dataclass(frozen=True)
class Convention:
    """How an edition of an architecture computes. The defaults are those of the zoo's reference implementations.

    Attributes:
        name: whose edition it is.
        epsilon: BatchNorm's.
        pads_end: whether a strided convolution pads an even size at its end alone, as Keras' ``correct_pad`` does.
        strides_first: whether a bottleneck has its stride in the first 1×1 convolution, as the paper of ResNet does.
    """

    name: str = "reference"
    epsilon: float = 1e-5
    pads_end: bool = False
    strides_first: bool = False
