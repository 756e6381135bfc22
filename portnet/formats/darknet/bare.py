"""A .weights file without its .cfg: numbers, cut as a network of known layers would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portnet.formats.darknet.arrays import Stored
from portnet.weights.grouped import FileLayer

__all__ = ["Convolution", "read_layers"]


@dataclass(frozen=True)
class Convolution:
    """A convolution that a file is thought to hold.

    Attributes:
        shape: of its kernel, (out, in / groups, height, width).
        is_normalised: whether scales, means and variances lie before the kernel, too.
    """

    shape: tuple[int, ...]
    is_normalised: bool


def read_layers(path: Path, convolutions: Sequence[Convolution], *, is_whole: bool) -> list[FileLayer]:
    """Return a file's arrays, convolution by convolution, each followed by its norm.

    The order of a convolution's arrays is that of load_convolutional_weights in Darknet's parser.c: biases, scales,
    means, variances, kernel. Arrays are called by the convolution's number, ``0/biases``.

    Args:
        path: the file.
        convolutions: what it is thought to hold.
        is_whole: whether it must end behind them.

    Raises:
        WeightsError: no such file, or a count of numbers that is not theirs.
    """
    stored, layers = Stored(path), []
    for number, convolution in enumerate(convolutions):
        width = convolution.shape[:1]
        roles = ("beta", "gamma", "mean", "variance") if convolution.is_normalised else ("bias",)
        told = ("biases", "scales", "means", "variances")
        vectors = {
            role: (name := f"{number}/{what}", stored.take(name, width))
            for role, what in zip(roles, told, strict=False)
        }
        kernel = (name := f"{number}/kernel", stored.take(name, convolution.shape))
        if convolution.is_normalised:
            layers += [FileLayer(str(number), {"weight": kernel}), FileLayer(f"{number}, norm", vectors)]
        else:
            layers.append(FileLayer(str(number), {"weight": kernel, **vectors}))
    if is_whole:
        stored.end()
    return layers
