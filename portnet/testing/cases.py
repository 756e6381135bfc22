"""The ONNX standard's own test cases, as they lie in the ``onnx`` package."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["KINDS", "Case", "DataSet", "case_names", "cases", "find_case"]

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")

# one run: values of the inputs, and of the outputs, each in the order of the graph
DataSet = tuple[list[Any], list[Any]]

_DRAWS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


@dataclass(frozen=True)
class Case:
    """One case of the standard's suite.

    Attributes:
        name: unique name, e.g. ``test_relu``.
        kind: one of `KINDS`.
        op: op under test, e.g. ``Relu``; "" for whole networks.
        rtol: largest relative error allowed, the case's own.
        atol: largest absolute error allowed, the case's own.
        load: reads the model and its data sets; expected values are arrays (strings have dtype object), lists
            for sequences, None for an empty optional.
    """

    name: str
    kind: str
    op: str
    rtol: float
    atol: float
    load: Callable[[], tuple[onnx.ModelProto, list[DataSet]]]


def cases(kind: str | None = None) -> Iterator[Case]:
    """Yield all cases, or those of one kind, in a stable order.

    Raises:
        KeyError: no such kind.
    """
    for name in KINDS if kind is None else (kind,):
        yield from _SOURCES[name](name)


@functools.cache
def _by_name() -> dict[str, Case]:
    return {case.name: case for case in cases()}


def case_names() -> list[str]:
    """Names of all cases; the first call makes the node cases, which takes seconds."""
    return list(_by_name())


def find_case(name: str) -> Case:
    """Return the case called ``name``.

    Raises:
        KeyError: no such case.
    """
    return _by_name()[name]


def is_random(model: onnx.ModelProto, inputs: list[Any]) -> bool:
    """Whether the expected values come from a random generator that the standard does not define."""
    return any(node.op_type in _DRAWS or _is_live_dropout(node, inputs) for node in model.graph.node)


def _is_live_dropout(node: onnx.NodeProto, inputs: list[Any]) -> bool:
    if node.op_type != "Dropout" or len(node.input) < 3 or len(inputs) < 2:
        return False
    ratio = 0.5 if not node.input[1] else float(np.asarray(inputs[1]))
    return bool(np.asarray(inputs[-1]).any()) and ratio > 0


# ---- node cases: made by functions of the package


def _node_cases(kind: str) -> Iterator[Case]:
    found = _load_node_tests()
    ops = {test.name: test.model.graph.node[0].op_type for test in found if "_expanded" not in test.name}
    for test in found:
        op = ops.get(test.name.split("_expanded")[0], "")
        yield Case(test.name, kind, op, test.rtol, test.atol, functools.partial(_node_data, test))


@functools.cache
def _load_node_tests() -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def _node_data(test: Any) -> tuple[onnx.ModelProto, list[DataSet]]:
    return test.model, [([_plain(x) for x in i], [_plain(x) for x in o]) for i, o in test.data_sets]


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, dict) else np.asarray(value)


# ---- cases on disk


def _disk_cases(kind: str) -> Iterator[Case]:
    for test in sorted(_disk_tests(kind), key=lambda test: test.name):
        yield Case(test.name, kind, "", test.rtol, test.atol, functools.partial(_disk_data, Path(test.model_dir)))


def _disk_tests(kind: str) -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    return list(load_model_tests(kind=kind))


def _disk_data(folder: Path) -> tuple[onnx.ModelProto, list[DataSet]]:
    model = onnx.load(folder / "model.onnx")
    inputs = _free_inputs(model)
    sets = sorted(folder.glob("test_data_set_*"))
    return model, [(_read_all(s, "input", inputs), _read_all(s, "output", list(model.graph.output))) for s in sets]


def _free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    given = {tensor.name for tensor in model.graph.initializer}
    return [port for port in model.graph.input if port.name not in given]


def _read_all(folder: Path, stem: str, ports: list[onnx.ValueInfoProto]) -> list[Any]:
    count = len(list(folder.glob(f"{stem}_*.pb")))
    return [_read(folder / f"{stem}_{i}.pb", port.type) for i, port in enumerate(ports[:count])]


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


# ---- real architectures: light copies without weights, expected outputs beside them


def _real_cases(kind: str) -> Iterator[Case]:
    root = Path(onnx.__file__).parent.parent
    for test in sorted(_disk_tests(kind), key=lambda test: test.name):
        yield Case(test.name, kind, "", test.rtol, test.atol, functools.partial(_real_data, root / test.url))


def _real_data(path: Path) -> tuple[onnx.ModelProto, list[DataSet]]:
    model = onnx.load(path)
    inputs = [_ramp(port) for port in _free_inputs(model)]
    stem = path.with_suffix("")
    outputs = [_read(Path(f"{stem}_output_{i}.pb"), port.type) for i, port in enumerate(model.graph.output)]
    return model, [(inputs, outputs)]


def _ramp(port: onnx.ValueInfoProto) -> np.ndarray:
    """Return 0 to 1 in equal steps, float32: the input that the package's own runner gives these networks."""
    shape = tuple(dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim)
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


_SOURCES: dict[str, Callable[[str], Iterator[Case]]] = {
    "node": _node_cases,
    "simple": _disk_cases,
    "pytorch-converted": _disk_cases,
    "pytorch-operator": _disk_cases,
    "real": _real_cases,
}
