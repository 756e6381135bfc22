"""Random ops on one engine against onnxruntime.

    python tests/fuzz_ops.py ENGINE SEED COUNT [KIND]

An engine refuses a model while converting it, or gives the values, shapes and dtypes of onnxruntime (of the standard's
reference where onnxruntime lacks the kernel). Where onnxruntime and the reference disagree, either will do. Prints
each bug in one line with its seed; ends with 1 if there was any.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from op_cases import KINDS as PLAIN
from op_cases import model_of, resized
from op_cases_layers import LAYERS
from op_cases_places import PLACES
from op_cases_quantized import QUANTIZED

from portnet.errors import PortNetError
from portnet.testing.backend import make_backend
from portnet.testing.compare import difference

KINDS = (*PLAIN, *QUANTIZED, *PLACES, *LAYERS)
TOLERANCE = {"float16": (1e-2, 1e-2)}


def draw(seed: int, number: int, kind: str | None = None) -> tuple[str, onnx.ModelProto, list[dict[str, np.ndarray]]]:
    """Return a title, a model of one op (of the kind of that name) and a set of inputs for it; two for free sizes."""
    kinds = [one for one in KINDS if kind in (None, one.__name__)]
    op = kinds[number % len(kinds)](np.random.default_rng([seed, number]))
    model, feeds = model_of(op)
    shapes = [None if x is None else f"{x.dtype}{list(x.shape)}" for x in op.inputs]
    plain = {key: value for key, value in op.attributes.items() if not isinstance(value, onnx.GraphProto)}
    sets = [feeds, {**feeds, "x0": resized(op, by=2)}] if op.free else [feeds]
    return f"{op.name}-{op.opset} {plain} {shapes}{f' free {op.free}' if op.free else ''}", model, sets


def runtime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[Any] | None:
    """Return onnxruntime's outputs with its optimiser off, or None where it has none."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception:
        return None


def reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[Any] | None:
    """Return the outputs of the standard's own implementation, or None where it has none."""
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, feeds)]
    except Exception:
        return None


def judge(backend: Any, model: onnx.ModelProto, sets: list[dict[str, np.ndarray]]) -> tuple[str, str]:
    """Return "agreed", "standard", "refused", "invalid", "wrong" or "crashed", and why.

    "standard": onnxruntime and the standard's reference differ, and the engine does what the reference does.
    """
    truths = [runtime(model, feeds) for feeds in sets]
    seconds = [reference(model, feeds) if truth is None else None for feeds, truth in zip(sets, truths, strict=True)]
    expected = [second if truth is None else truth for truth, second in zip(truths, seconds, strict=True)]
    if any(values is None for values in expected):
        return "invalid", ""
    try:
        prepared = backend.prepare(model)
        for feeds in sets:
            prepared.specialise(feeds)
    except PortNetError as error:
        return "refused", " ".join(str(error).split())
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    for feeds, values in zip(sets, expected, strict=True):
        try:
            got = prepared.run(feeds)
        except Exception as error:
            return "crashed", f"{type(error).__name__} while running: {' '.join(str(error).split())[:200]}"
        found = _differs(got, values)
        if found:
            second = reference(model, feeds)
            follows = second is not None and not _differs(got, second)
            return ("standard" if follows else "wrong"), found
    return "agreed", ""


def _differs(got: Any, expected: list[Any]) -> str | None:
    rtol, atol = max((TOLERANCE.get(value.dtype.name, (1e-4, 1e-4)) for value in expected), default=(1e-4, 1e-4))
    return difference(list(got), expected, rtol, atol)


def main(engine: str, seed: int, count: int, kind: str | None = None) -> int:
    """Try ``count`` models; print bugs to stdout and the totals to stderr."""
    backend, totals = make_backend(engine), Counter[str]()
    for number in range(count):
        title, model, sets = draw(seed, number, kind)
        status, why = judge(backend, model, sets)
        totals[status] += 1
        if status in ("wrong", "crashed"):
            print(f"{status} [{seed}, {number}] {title}: {why}", flush=True)
        elif status in ("standard", "refused", "invalid"):
            print(f"{status} [{seed}, {number}] {title}: {why}", file=sys.stderr)
    print(f"{engine}: {dict(totals)}", file=sys.stderr)
    return int(bool(totals["wrong"] or totals["crashed"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5]))
