"""A captured network beside the original in its own framework: what must agree before anybody sees the capture.

Outputs may differ by `RELATIVE` of their spread, so that neither large outputs fail for their rounding nor small ones
pass whatever they are. Behind a softmax, logarithms are compared as well. A network whose outputs are the same whatever
goes in, as an untrained one's can be, is compared at the last tensor inside that still tells inputs apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, PortNetError, UnsupportedError
from portnet.formats.captured import Source
from portnet.graph.model import Model
from portnet.parity.check import check
from portnet.parity.inputs import fitting_inputs, inputs_of_another_size, runnable_batch_sizes
from portnet.parity.report import RELATIVE, Report, compare_arrays
from portnet.parity.sides import OnnxruntimeSide, Side, SourceSide, WithLogits

__all__ = ["compare_with_source"]

# ops that move a softmax about
_PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# places inside that are looked at, from the end
_MOST_PLACES = 24
# units in the last place of 1, and how many of them layers add up to
_NARROW = {ir.DataType.FLOAT16: 2.0**-10, ir.DataType.BFLOAT16: 2.0**-7}
_STEPS = 8
# of a quantized output that integer kernels may be off
_MOST_STEPS = 3
# outputs that differ by less than this share of their size do not tell inputs apart
_FLAT = 1e-5


def compare_with_source(
    model: Model,
    source: Source,
    captured: Model | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    images: Any = None,
    find_layer: bool = True,
) -> Report:
    """Compare a captured network in onnxruntime with the original.

    Args:
        model: what was captured, folded for deployment or not.
        source: runs the original.
        captured: what was captured, where ``model`` is another form of it.
        inputs: arrays by input name; None for seeded random ones.
        images: images to compare on as well, where the network's preprocessing is known.
        find_layer: whether to look for the first layer that differs.
    """
    ours, theirs = OnnxruntimeSide(model), SourceSide(source, captured or model)
    sizes = runnable_batch_sizes(theirs.model, theirs.run)
    given = None if inputs is not None or images is not None else source.examples
    if given is not None and not _runs(theirs, fitting_inputs(theirs.model, sizes[0], theirs.run)):
        inputs, given = given, None
    places = _softmax_outputs(theirs.model)
    a, b = WithLogits(ours, places), WithLogits(theirs, places)
    relative = _relative(theirs.model)

    def compared(arrays: Mapping[str, np.ndarray] | None, **options: Any) -> Report:
        found = check(a, b, inputs=arrays, relative=relative, find_layer=find_layer, **options)
        _pass_over_steps(found, theirs.model)
        return found

    report = compared(inputs, images=images, batch_sizes=sizes)
    if given is not None and not report.differs:
        _take_in(report, compared(given))
    another = inputs_of_another_size(theirs.model, sizes[-1], theirs.run) if report.passed and inputs is None else None
    if another is not None:
        also = compared(another)
        _take_in(report, also)
        if not also.passed:
            shapes = ", ".join(f"{name} {'×'.join(map(str, array.shape))}" for name, array in another.items())
            report.problems.append(f"sizes are free in name alone: with {shapes} the original gives something else")
    if report.passed and report.comparisons:
        _look_inside(report, ours, theirs, dict(inputs or fitting_inputs(theirs.model, sizes[-1], theirs.run)))
    return report


def _relative(model: Model) -> float:
    """Return the share of the spread by which outputs may differ: more where weights are of less than float32."""
    held = {value.dtype for value in model.ir.graph.initializers.values()}
    return max([RELATIVE, *(_STEPS * unit for dtype, unit in _NARROW.items() if dtype in held)])


def _pass_over_steps(report: Report, model: Model) -> None:
    """Let outputs that are rounded to steps differ by a few: integer kernels round at other places than onnxruntime."""
    steps = _steps(model)
    for place, found in enumerate(report.comparisons):
        if found.where and found.max_abs <= _MOST_STEPS * steps.get(found.output, 0) * (1 + _FLAT):
            report.comparisons[place] = replace(found, problem="")
    if report.passed:
        report.first_divergence = ""


def _steps(model: Model) -> dict[str, float]:
    """Return how large a step is of each output that is quantized, or was."""
    found = {}
    for output in model.ir.graph.outputs:
        node = output.producer()
        while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        scale = node.inputs[1] if node is not None and len(node.inputs) > 1 else None
        if node is not None and node.op_type == "QuantizeLinear":
            found[output.name or ""] = 1.0
        elif node is not None and node.op_type == "DequantizeLinear" and scale is not None and scale.const_value:
            found[output.name or ""] = float(np.max(scale.const_value.numpy()))
    return found


def _take_in(report: Report, other: Report) -> None:
    report.comparisons += other.comparisons
    report.problems += other.problems
    report.leave_out_empty()
    report.first_divergence = report.first_divergence or other.first_divergence


def _runs(side: Side, batch: Mapping[str, Any]) -> bool:
    try:
        side.run(dict(batch))
    except PortNetError:
        return False
    return True


def _softmax_outputs(model: Model) -> list[int]:
    """Return the places of the outputs that are a softmax, moved about at most."""
    found = []
    for place, output in enumerate(model.ir.graph.outputs):
        node = output.producer()
        while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        if node is not None and node.op_type == "Softmax":
            found.append(place)
    return found


def _look_inside(report: Report, ours: Side, theirs: Side, batch: Mapping[str, np.ndarray]) -> None:
    """Where every output is flat, compare the last tensor inside that is not."""
    if not all(_is_flat(array) for array in theirs.run(batch).values()):
        return
    for name in _from_the_end(ours.model, theirs.model):
        try:
            part = theirs.at(name)
            reference = part.run(batch)[name]
            if _is_flat(reference):
                continue
            got = ours.at(name).run(batch)[name]
        except (UnsupportedError, ModelError):  # no such place in one of the two
            continue
        report.comparisons.append(compare_arrays(name, "inside, as outputs are flat", got, reference, report.tolerance))
        return


def _is_flat(array: Any) -> bool:
    """Whether numbers are all but the same, so that they prove nothing; few of them may be so by chance."""
    array = np.asarray(array)
    if array.dtype.kind != "f" or array.size < 2:
        return False
    return float(np.ptp(array)) <= _FLAT * float(np.abs(array).max())


def _from_the_end(ours: Model, theirs: Model) -> Iterator[str]:
    """Yield tensors that both have inside, the last first: a few near the end, then in longer and longer steps."""
    known = {value.name for node in ours.ir.graph for value in node.outputs}
    names = [node.outputs[0].name for node in theirs.ir.graph if node.outputs[0].name in known]
    place, step = len(names) - 1, 1
    for count in range(_MOST_PLACES):
        if place < 0:
            return
        yield names[place] or ""
        step = step if count < 8 else step + max(step // 2, 1)
        place -= step
