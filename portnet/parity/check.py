"""`check`: run two networks on the same inputs, and say where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portnet.errors import InputError, ModelError, PortNetError, UnsupportedError
from portnet.graph.fix import Sizes
from portnet.parity.inputs import fitting_inputs, image_inputs
from portnet.parity.noise import ATOL, rounding_noise, tolerated
from portnet.parity.report import EMPTY, Report, Tolerance, compare_arrays
from portnet.parity.sides import OnnxruntimeSide, Side, side_of

__all__ = ["check"]


def check(
    a: Any,
    b: Any,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    images: Any = None,
    batch_sizes: Sequence[int] = (1, 3),
    atol: float | None = None,
    rtol: float = 1e-4,
    relative: float | None = None,
    seed: int = 0,
    find_layer: bool = True,
    shapes: Mapping[str, Sizes] | None = None,
) -> Report:
    """Compare two networks: inputs, outputs (count, shape, dtype), then values.

    Fails on a missing output, on shapes that agree only by broadcasting, on NaN and infinity, and when nothing
    was compared. Outputs are paired by name, or by place where names differ. If values differ and both have the same
    tensors inside, the first layer that differs is named (by bisection: no more than one tensor is held at a time).

    >>> portnet.check("pets.onnx", "torch").passed  # doctest: +SKIP
    True

    Args:
        a: the network in question: a Model, an .onnx file, a run or its folder, a Session, a `Lowered` network, the
            native network of a `Lowered` or run that is still at hand, or what runs the other side: an engine
            ("torch"), one on a device ("torch@cuda:0"), or another provider of onnxruntime ("onnxruntime@cuda").
        b: the reference, likewise; a file or Model runs in onnxruntime on the CPU.
        inputs: arrays by input name; None for seeded random ones at each of ``batch_sizes``.
        images: images, preprocessed as ``b`` (or else ``a``) says, compared as well.
        batch_sizes: batches to try where the network's batch is free.
        atol: absolute tolerance; None for 1e-4, and on a quantized network four times what onnxruntime's own
            optimisations change besides, in place of ``relative``: it rounds inside.
        rtol: relative tolerance, by element.
        relative: share of an output's spread by which it may differ, in place of both; see `Tolerance`.
        seed: seed of the random inputs.
        find_layer: whether to look for the first layer that differs.
        shapes: sizes to fix in both: by input name, None for a size that stays free, or a number by a size's name.

    Raises:
        InputError: a tolerance or a seed below 0, or ``shapes`` that do not fit.
        PortNetError: one of the two cannot be opened at all. What differs is in the report, not raised.
    """
    _check_numbers(atol or 0, rtol, seed, relative or 0)
    left, right = side_of(a, b, shapes=shapes), side_of(b, a, shapes=shapes)
    report = Report(left.label, right.label, Tolerance(ATOL if atol is None else atol, rtol, relative))
    report.problems += _signature_problems(left, right)
    if report.problems:
        return report
    failing: dict[str, np.ndarray] | None = None
    batches = _batches(right, inputs, images, batch_sizes, seed)
    reference = next((side for side in (right, left) if isinstance(side, OnnxruntimeSide)), None)
    noise = 0.0 if atol is not None or reference is None else rounding_noise(reference, [x for _, x in batches])
    if noise:
        report.tolerance = Tolerance(tolerated(noise), rtol)
    for label, batch in batches:
        if _compare_batch(report, left, right, label, batch):
            continue
        failing = failing or batch
    report.leave_out_empty()
    if failing is not None and find_layer and not report.problems:
        report.first_divergence = _first_divergence(left, right, failing, report.tolerance)
    return report


def _check_numbers(atol: float, rtol: float, seed: int, relative: float) -> None:
    for name, value in (("atol", atol), ("rtol", rtol), ("seed", seed), ("relative", relative)):
        if not 0 <= value < float("inf"):
            raise InputError(f"check: got {name} {value}, expected a number from 0 on")


def _signature_problems(left: Side, right: Side) -> list[str]:
    problems = []
    for kind in ("inputs", "outputs"):
        a, b = getattr(left.model, kind), getattr(right.model, kind)
        if len(a) != len(b):
            problems.append(
                f"{kind}: got {len(a)} ({', '.join(p.name for p in a)}), expected {len(b)} "
                f"({', '.join(p.name for p in b)})"
            )
    return problems


def _batches(
    side: Side, inputs: Mapping[str, np.ndarray] | None, images: Any, batch_sizes: Sequence[int], seed: int
) -> list[tuple[str, dict[str, np.ndarray]]]:
    batches = []
    if inputs is not None:
        batches.append(("given inputs", dict(inputs)))
    if images is not None:
        batches.append(("images", image_inputs(side.model, images)))
    if inputs is None:
        free = any(port.shape and not isinstance(port.shape[0], int) for port in side.model.inputs)
        for size in batch_sizes if free else batch_sizes[:1]:
            label = f"random, batch {size}" if free else "random"
            batches.append((label, fitting_inputs(side.model, size, side.run, seed)))
    return batches


def _compare_batch(report: Report, left: Side, right: Side, label: str, batch: Mapping[str, np.ndarray]) -> bool:
    """Compare all outputs on one batch; True when they agree."""
    try:
        reference = right.run(batch)
        got = left.run(_renamed(batch, right, left))
    except PortNetError as error:
        report.problems.append(f"{label}: {error}")
        return False
    pairs = _pairs(list(got), list(reference))
    found = [compare_arrays(b, label, got[a], reference[b], report.tolerance) for a, b in pairs]
    report.comparisons += found
    missing = [name for name in reference if name not in {b for _, b in pairs}]
    report.problems += [f"{label}: output {name!r} is missing" for name in missing]
    return not missing and all(comparison.problem in ("", EMPTY) for comparison in found)


def _pairs(got: list[str], reference: list[str]) -> list[tuple[str, str]]:
    if set(got) == set(reference):
        return [(name, name) for name in reference]
    return list(zip(got, reference, strict=False))


def _renamed(batch: Mapping[str, np.ndarray], source: Side, target: Side) -> dict[str, np.ndarray]:
    """Return the batch under the target's input names: the same ones, or else by place."""
    names, wanted = [p.name for p in source.model.inputs], [p.name for p in target.model.inputs]
    if set(names) == set(wanted):
        return dict(batch)
    return {new: batch[old] for old, new in zip(names, wanted, strict=True)}


def _first_divergence(left: Side, right: Side, batch: Mapping[str, np.ndarray], tolerance: Tolerance) -> str:
    """Bisect over the tensors that both networks have, in graph order; return the first layer that differs."""
    inside = {value.name for node in left.model.ir.graph for value in node.outputs}
    layers = [
        (node.name or node.op_type, node.op_type, value.name or "")
        for node in right.model.ir.graph
        for value in node.outputs[:1]
        if value.name in inside
    ]
    low, high = 0, len(layers) - 1
    while low < high:
        middle = (low + high) // 2
        agree = _agree_at(left, right, layers[middle][2], batch, tolerance)
        if agree is None:  # one of the two has no such place: look at its neighbours
            del layers[middle]
            high -= 1
        elif agree:
            low = middle + 1
        else:
            high = middle
    if high < 0:
        return ""
    name, op, tensor = layers[low]
    return f"{name} ({op}), tensor {tensor!r}"


def _agree_at(
    left: Side, right: Side, tensor: str, batch: Mapping[str, np.ndarray], tolerance: Tolerance
) -> bool | None:
    """Whether both have the same values at a tensor; None where one of them cannot be cut there."""
    try:
        a, b = left.at(tensor), right.at(tensor)
    except (UnsupportedError, ModelError):
        return None
    try:
        got = a.run(_part(batch, a))
        reference = b.run(_part(batch, b))
    except PortNetError:
        return False
    return not compare_arrays(tensor, "", got[tensor], reference[tensor], tolerance).problem


def _part(batch: Mapping[str, np.ndarray], side: Side) -> dict[str, np.ndarray]:
    names = {port.name for port in side.model.inputs}
    return {name: array for name, array in batch.items() if name in names}
