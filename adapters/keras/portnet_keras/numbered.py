"""Where each number of a variable ends up in a graph that a converter laid out anew.

A converter transposes, cuts and joins the arrays of a network, and takes two that are equal for one. So it is given
arrays in which every number occurs once, in the whole network. What it did with them can then be read off.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from portnet.graph.names import take_name
from portnet.graph.parameters import FLOATS, ROLE_MARK, Role, mark_constant, roles
from portnet_keras.graphdef import Variable

__all__ = ["Numbered", "adopt", "is_numbered"]

# float32 from −5.9e20 to −1.7e38, by their bits: numbers that no network's own constants are
_FIRST, _LAST = 0xE2000000, 0xFF000000
_MAX_RANK = 6


class Numbered:
    """Variables whose numbers stand for their places.

    Args:
        variables: those of float32; see `is_numbered`.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self._variables = list(variables)
        sizes = [variable.array.size for variable in self._variables]
        self._starts = np.cumsum([0, *sizes])
        self._flat = np.concatenate([np.zeros(0, np.float32), *(v.array.reshape(-1) for v in self._variables)])

    def stand_in(self, index: int) -> np.ndarray:
        """Return the array that stands for a variable."""
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        bits = np.arange(_FIRST + start, _FIRST + end, dtype=np.uint32)
        return bits.view(np.float32).reshape(self._variables[index].array.shape)

    def places(self, array: np.ndarray) -> np.ndarray | None:
        """Return the place of every number of an array, −1 for one that is no variable's; None if none is."""
        if array.dtype != np.float32:
            return None
        found = np.ascontiguousarray(array).view(np.uint32).astype(np.int64) - _FIRST
        found[(found < 0) | (found >= len(self._flat))] = -1
        return found if array.size and found.max() >= 0 else None

    def restored(self, array: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return an array with the variables' own numbers."""
        return np.where(places >= 0, self._flat[places], array).astype(np.float32)

    def variable(self, places: np.ndarray) -> Variable:
        """Return the variable that the first of some places is in."""
        first = int(places[places >= 0][0])
        return self._variables[int(np.searchsorted(self._starts, first, "right")) - 1]

    def is_whole(self, places: np.ndarray) -> bool:
        """Whether some places are all those of one variable."""
        variable = self.variable(places)
        return places.size == variable.array.size and int(places.max()) - int(places.min()) + 1 == places.size


def is_numbered(variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """Return the variables that numbers can stand for: those of float32, if they are not too many."""
    found = {name: variable for name, variable in variables.items() if variable.array.dtype == np.float32}
    return found if sum(variable.array.size for variable in found.values()) < _LAST - _FIRST else {}


def adopt(model: ir.Model, numbered: Numbered, live: Mapping[str, Variable]) -> list[str]:
    """Give initializers the numbers and names of variables, and say which train.

    Args:
        model: what the converter made of a graph in which numbers stood for places.
        numbered: the variables.
        live: variables that are inputs of the graph, by the inputs' names.

    Returns:
        Names of variables that are in several initializers, which training moves apart.
    """
    graph, apart = model.graph, set[str]()
    before = list(graph.initializers.values())
    taken = {value.name or "" for value in (*graph.inputs, *graph.outputs, *before)}
    taken |= {output.name or "" for node in graph for output in node.outputs}
    settled: dict[str, Variable] = {}
    seen: dict[str, list[tuple[np.ndarray, ir.Value]]] = {}
    queue, known = deque(before), {value.name for value in before}
    while queue:
        value = queue.popleft()
        array = None if value.const_value is None else value.const_value.numpy()
        places = None if array is None else numbered.places(array)
        if array is None or places is None:
            mark_constant(value)
            continue
        if (places < 0).any() and _cut(graph, value, array, places):
            queue += [initializer for initializer in graph.initializers.values() if initializer.name not in known]
            known |= {initializer.name for initializer in graph.initializers.values()}
            continue
        variable = numbered.variable(places)
        others = seen.setdefault(variable.name, [])
        if _joined(graph, value, places, others):
            continue
        if any(np.intersect1d(places, known).size for known, _ in others):
            apart.add(variable.name)
        others.append((places, value))
        value.const_value = ir.Tensor(numbered.restored(array, places), name=value.name)
        value.name = take_name(variable.name if numbered.is_whole(places) else f"{variable.name}/part", taken)
        settled[value.name] = variable
    for name, variable in live.items():
        settled |= _promoted(graph, name, variable, taken)
    _mark(model, settled)
    return sorted(apart)


def _joined(graph: ir.Graph, value: ir.Value, places: np.ndarray, others: list[tuple[np.ndarray, ir.Value]]) -> bool:
    """Have a second initializer of a variable be the first, or the first transposed, if it is."""
    for known, first in others:
        perm = _permutation(known, places)
        if perm is None:
            continue
        new = first
        if perm != tuple(range(known.ndim)):
            node = ir.node("Transpose", [first], {"perm": perm}, name=f"{value.name}/transpose")
            new = node.outputs[0]
            new.name, new.shape, new.type = f"{value.name}/transposed", ir.Shape(places.shape), value.type
            graph.insert_before(graph[0], node)
        _replace(graph, value, new)
        return True
    return False


def _cut(graph: ir.Graph, value: ir.Value, array: np.ndarray, places: np.ndarray) -> bool:
    """Let an initializer be joined of pieces that are either variables' or constant, if an axis parts them."""
    for axis in range(array.ndim):
        is_learned = np.moveaxis(places >= 0, axis, 0).reshape(array.shape[axis], -1)
        if (is_learned.any(1) != is_learned.all(1)).any():
            continue
        ends = [0, *(np.flatnonzero(np.diff(is_learned[:, 0])) + 1).tolist(), array.shape[axis]]
        pieces = []
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            tensor = ir.Tensor(np.take(array, range(start, end), axis), name=f"{value.name}/{number}")
            shape, dtype = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
            pieces.append(ir.Value(name=tensor.name, shape=shape, type=dtype, const_value=tensor))
            graph.register_initializer(pieces[-1])
        node = ir.node("Concat", pieces, {"axis": axis}, name=f"{value.name}/concat")
        joined = node.outputs[0]
        joined.name, joined.shape, joined.type = f"{value.name}/joined", value.shape, value.type
        graph.insert_before(graph[0], node)
        _replace(graph, value, joined)
        return True
    return False


def _replace(graph: ir.Graph, value: ir.Value, new: ir.Value) -> None:
    for user, index in tuple(value.uses()):
        user.replace_input_with(index, new)
    del graph.initializers[value.name or ""]


def _permutation(known: np.ndarray, places: np.ndarray) -> tuple[int, ...] | None:
    if sorted(known.shape) != sorted(places.shape) or known.ndim > _MAX_RANK:
        return None
    for perm in itertools.permutations(range(known.ndim)):
        if np.array_equal(known.transpose(perm), places):
            return perm
    return None


def _promoted(graph: ir.Graph, name: str, variable: Variable, taken: set[str]) -> dict[str, Variable]:
    """Make an input an initializer."""
    value = next((value for value in graph.inputs if value.name == name), None)
    if value is None:
        return {}
    graph.inputs.remove(value)
    value.name = take_name(variable.name, taken)
    value.const_value = ir.Tensor(variable.array, name=value.name)
    value.shape, value.type = ir.Shape(variable.array.shape), ir.TensorType(value.const_value.dtype)
    graph.register_initializer(value)
    return {value.name: variable}


def _mark(model: ir.Model, settled: Mapping[str, Variable]) -> None:
    """Say which initializers train: those that the network says do."""
    for name, role in roles(model).items():
        value, variable = model.graph.initializers[name], settled.get(name)
        if variable is None or role is Role.STATISTIC:
            continue
        if not variable.trainable:
            mark_constant(value)
        elif role is Role.CONSTANT and value.dtype in FLOATS:
            value.metadata_props[ROLE_MARK] = (Role.WEIGHT if variable.array.ndim > 1 else Role.BIAS).name
