"""Draws random networks and holds an engine to onnxruntime: ``python tests/drawn_graphs.py ENGINE SEED COUNT``.

A network is a chain of 3 to 12 nodes of ops that real networks mix: convolutions, pooling, norms, moves of axes, shape
arithmetic, broadcasting, cuts along channels. That is where rewriting and planning of layouts would go wrong. The batch
is free and each network runs at two sizes of it. Prints what differs, and exits 1 if anything does; a refusal
(`UnsupportedError`) is counted.
"""

from __future__ import annotations

import collections
import math
import sys

import numpy as np
import onnx
import onnxruntime
from drawn_steps import STEPS, Draw
from onnx import TensorProto, helper

import portnet
from portnet.errors import UnsupportedError
from portnet.graph.model import Model
from portnet.testing.compare import difference

MAX_SCALARS = 6000
BATCHES = (2, 3)
TOLERANCE = 2e-4


def _shape_of(d: Draw, name: str) -> tuple[int, ...] | None:
    """Return the sizes behind the batch as onnxruntime finds them, or None where it does not run."""
    x = np.zeros((1, *d.shapes["x"]), np.float32)
    try:
        (result,) = _session(_model(d, [name])).run(None, {"x": x})
    except Exception:
        return None
    return tuple(result.shape[1:]) if result.ndim and result.shape[0] == 1 else None


def _model(d: Draw, outputs: list[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        d.nodes,
        "drawn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *d.shapes["x"]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        d.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", d.opset)], ir_version=10)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def draw(seed: int) -> onnx.ModelProto:
    """Return the network of a seed; its outputs are the end of the chain and, at times, a tensor on the way."""
    d = Draw(seed)
    d.goes_on("x", d.pick((4, 6, 6), (3, 7, 5), (8, 4, 4), (2, 9, 6), (6, 8), (5, 7)))
    wanted = d.whole(3, 12)
    for _ in range(60):
        if len(d.shapes) > wanted:
            break
        before, nodes, constants = d.last, len(d.nodes), len(d.constants)
        STEPS[d.pick(*STEPS)](d, before, d.shapes[before])
        if d.last == before:
            del d.nodes[nodes:], d.constants[constants:]
            continue
        shape = _shape_of(d, d.last)
        if shape is None or not shape or 0 in shape or len(shape) > 4 or math.prod(shape) > MAX_SCALARS:
            d.shapes.pop(d.last)
            d.last = before
            del d.nodes[nodes:], d.constants[constants:]
            continue
        d.shapes[d.last] = shape
    others = [name for name in d.shapes if name not in ("x", d.last)]
    return _model(d, [d.last, *([d.pick(*others)] if others and d.chance() else [])])


def judge(engine: str, seed: int) -> str:
    """Return "agrees", "refused: ..." or what differs, for the network of a seed on an engine."""
    proto = draw(seed)
    if not proto.graph.node:
        return "agrees"
    try:
        lowered = portnet.engine(engine).lower(Model.from_bytes(proto.SerializeToString()))
    except UnsupportedError as error:
        return f"refused: {error}"
    session = _session(proto)
    names = [output.name for output in proto.graph.output]
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    for batch in BATCHES:
        x = np.random.default_rng(seed).standard_normal((batch, *sizes)).astype(np.float32)
        wanted = dict(zip(names, session.run(None, {"x": x}), strict=True))
        got = lowered.run({"x": x})
        for name in names:
            found = differs(got[name], wanted[name])
            if found:
                return f"{name} at batch {batch}: {found}"
    return "agrees"


def differs(got: np.ndarray, wanted: np.ndarray) -> str | None:
    """Say how two outputs differ, by more than `TOLERANCE` of the largest number; NaN and infinities must be alike."""
    finite = np.abs(wanted[np.isfinite(wanted)])
    return difference([got], [wanted], TOLERANCE, TOLERANCE * max(1.0, float(finite.max(initial=0))))


def main(engine: str, seed: int, count: int) -> int:
    """Judge ``count`` networks from ``seed`` on; print what differs and a count of the rest."""
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(seed, seed + count):
        try:
            outcome = judge(engine, number)
        except Exception as error:
            outcome = f"{type(error).__name__}: {str(error)[:300]}"
        kind = outcome if outcome == "agrees" else outcome.partition(":")[0] if outcome[:7] == "refused" else "wrong"
        outcomes[kind] += 1
        if kind != "agrees":
            print(f"{engine} {number}: {outcome}", flush=True)
    print(dict(outcomes))
    return int(outcomes["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
