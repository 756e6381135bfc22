"""Inputs to compare networks on: seeded random arrays for any signature, and real images."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from portnet.data.preprocess import preprocess
from portnet.errors import InputError, PortNetError
from portnet.graph.model import Model, Signature
from portnet.graph.sizes import NO_NAMES

__all__ = [
    "BATCH_SIZES",
    "fitting_inputs",
    "image_inputs",
    "inputs_of_another_size",
    "is_batch",
    "random_inputs",
    "runnable_batch_sizes",
]

# batch sizes that a network with a free batch is proved at
BATCH_SIZES = (1, 3)
# size of a free axis that is not the batch: images get their preprocessing's size, the rest this
FREE_AXIS = 16
# sizes to try where a network calls an axis free and then wants it longer, or of one height: text lines, sound
OTHER_SIZES = (48, 32, 256, 576, 1024, 4096, 16000)
# sizes unlike those, which no stride divides, and one that the usual ones do
UNLIKE_SIZES = (21, 37, 96)
# entries of an input that is tried: a size that suits sound is none for both sides of an image
MAX_ENTRIES = 1 << 24
# entries of all inputs that are made without being asked for: a file may declare any size
MAX_MADE = 1 << 28


def random_inputs(
    model: Model, batch: int, seed: int = 0, free: int | None = None, lowest: int = 0
) -> dict[str, np.ndarray]:
    """Return seeded random arrays for every input of ``model``: floats standard normal, integers ``lowest`` or 1.

    A symbolic first axis takes ``batch``; other free axes take ``free``, or a size that is likely to do.

    Raises:
        InputError: they would hold more than `MAX_MADE` numbers, or are strings or of an unknown rank.
    """
    generator = np.random.default_rng(seed)
    shapes = _shapes(model, batch, free)
    if sum(map(math.prod, shapes.values())) > MAX_MADE:
        largest = max(model.inputs, key=lambda port: math.prod(shapes[port.name]))
        raise InputError(
            f"check: got input {largest}, expected at most {MAX_MADE:,} numbers to make up. Pass inputs, or fix sizes."
        )
    return {port.name: _random(generator, port, shapes[port.name], lowest) for port in model.inputs}


def fitting_inputs(
    model: Model, batch: int, run: Callable[[dict[str, np.ndarray]], Mapping[str, Any]], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return `random_inputs` on which ``run`` raises no PortNetError and gives finite numbers, or else the usual ones.

    A network may call an axis free and want a length of its own, or have nothing to say of a short one; and some
    integers are lengths, of which 0 gives NaN.
    """
    usual = random_inputs(model, batch, seed)
    sizes = (None, *OTHER_SIZES) if _has_free_axes(model) else (None,)
    lows = (0, 1) if any(np.issubdtype(array.dtype, np.integer) for array in usual.values()) else (0,)
    for size, lowest in itertools.product(sizes, lows):
        if size is not None and max(map(math.prod, _shapes(model, batch, size).values())) > MAX_ENTRIES:
            continue
        inputs = random_inputs(model, batch, seed, size, lowest)
        with contextlib.suppress(PortNetError):
            results = run(inputs).values()
            if all(map(_is_finite, results)) and any(map(np.size, results)):
                return inputs
    return usual


def inputs_of_another_size(
    model: Model, batch: int, run: Callable[[dict[str, np.ndarray]], Mapping[str, Any]]
) -> dict[str, np.ndarray] | None:
    """Return `random_inputs` whose free axes but the batch have a size that is not the usual one, and on which ``run``
    raises no PortNetError and gives finite numbers; None where there are no such axes or no such size is found.

    What is free must not only be so in name: code that was traced at one size may hold for that one alone.
    """
    for size in UNLIKE_SIZES if _has_free_axes(model) else ():
        inputs = random_inputs(model, batch, free=size)
        with contextlib.suppress(PortNetError):
            results = run(inputs).values()
            if all(map(_is_finite, results)) and any(map(np.size, results)):
                return inputs
    return None


def runnable_batch_sizes(model: Model, run: Callable[[dict[str, np.ndarray]], Mapping[str, Any]]) -> tuple[int, ...]:
    """Return those of `BATCH_SIZES` that the original itself runs: its batch may be called free and fixed inside."""
    *first, last = BATCH_SIZES
    try:
        run(fitting_inputs(model, last, run))
    except PortNetError:
        return tuple(first)
    return BATCH_SIZES


def _is_finite(array: Any) -> bool:
    array = np.asarray(array)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _has_free_axes(model: Model) -> bool:
    name = _batch_name(model)
    return any(
        axis > 0 and not isinstance(dim, int) and (dim is None or dim != name)
        for port in model.inputs
        for axis, dim in enumerate(port.shape or ())
    )


def _batch_name(model: Model) -> str | None:
    first = model.inputs[0].shape if model.inputs else None
    return first[0] if first and isinstance(first[0], str) else None


def _shapes(model: Model, batch: int, free: int | None) -> dict[str, tuple[int, ...]]:
    """Return a shape for every input; axes of one name have one size."""
    batch_name, named, shapes = _batch_name(model), dict[str, int](), {}
    for port in model.inputs:
        if port.shape is None:
            raise InputError(f"check: input {port.name!r} has no known rank. Pass inputs.")
        sizes = []
        for axis, dim in enumerate(port.shape):
            size = dim if isinstance(dim, int) else batch if _is_batch(port, axis, batch_name) else None
            if size is None:
                size = _free_size(model, port, axis) if free is None else free
                size = named.setdefault(dim, size) if isinstance(dim, str) and dim not in NO_NAMES else size
            sizes.append(size)
        shapes[port.name] = tuple(sizes)
    return shapes


def _free_size(model: Model, port: Signature, axis: int) -> int:
    if len(port.shape or ()) != 4 or axis < 2:
        return FREE_AXIS
    return model.preprocessing.size[axis - 2] if model.preprocessing else 64


def is_batch(model: Model, port: Signature, axis: int) -> bool:
    """Whether an axis of an input is a free batch: the first, one of the batch's name, or a recurrent state's."""
    return not isinstance((port.shape or ())[axis], int) and _is_batch(port, axis, _batch_name(model))


def _is_batch(port: Signature, axis: int, batch_name: str | None) -> bool:
    dim = (port.shape or ())[axis]
    return axis == 0 or (dim is not None and dim == batch_name) or _is_state(port, axis)


def _is_state(port: Signature, axis: int) -> bool:
    """Whether an axis is the batch of a recurrent state (layers, batch, hidden)."""
    shape = port.shape or ()
    return len(shape) == 3 and axis == 1 and isinstance(shape[0], int) and isinstance(shape[2], int)


def _random(generator: np.random.Generator, port: Signature, shape: tuple[int, ...], lowest: int) -> np.ndarray:
    if port.dtype == "string":
        raise InputError(f"check: input {port.name!r} holds strings. Pass inputs.")
    dtype = np.dtype(port.dtype) if port.dtype != "bfloat16" else _bfloat16()
    if dtype.kind in "iub":
        return generator.integers(lowest, 2, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def _bfloat16() -> Any:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def image_inputs(model: Model, images: Any) -> dict[str, np.ndarray]:
    """Return the network's input made from real images by its own preprocessing."""
    if len(model.inputs) != 1:
        raise InputError(f"check: images need a network of one input, got {len(model.inputs)}")
    return {model.inputs[0].name: preprocess(model, images)}
