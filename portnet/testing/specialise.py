"""Lowering again at run time, for networks that cannot be built from the graph alone.

The standard's node tests pass as a graph *input* what exporters write as a constant: the shape of a Reshape, the
axes of a reduction, the k of a TopK. An engine whose networks are built ahead of time needs such a value while it
builds, and says so (`HostValueNeededError`). As tracing compilers do, the network is then specialised: the inputs
that the needed value is computed from become constants of the graph, and it is lowered once for each such set of
values. Where an engine needs sizes that the graph leaves free, the sizes of the inputs are written in, likewise.

Two rules keep the arithmetic with the engine:

* Only what the engine asked for is bound, and only small shape-like arrays: at most `MAX_BOUND` integers, booleans
  or strings, or at most `MAX_FLOATS` floats of rank 0 or 1 (the scales of a Resize).
* Every output that depends on a bound input must depend on an input that stays free too. Otherwise folding
  constants would be the whole computation, and the network is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.lowering import HostValueNeededError
from portnet.graph.parameters import mark_constant

if TYPE_CHECKING:
    from portnet.adapter import Adapter, Lowered
    from portnet.graph.model import Model

__all__ = ["MAX_BOUND", "MAX_FLOATS", "Specialiser", "bind", "origins", "with_sizes"]

MAX_BOUND = 4096
MAX_FLOATS = 16
# lowered networks kept, oldest dropped first
CACHE_SIZE = 16

# their result depends on the size of their input alone
_READS_SIZE_ONLY = frozenset({"Shape", "Size"})


class Specialiser:
    """Lowers one model onto one engine, from the graph alone if it can and for given inputs if it must.

    Args:
        adapter: the engine.
        model: the network as it came.
        device: see `Adapter.lower`.

    Raises:
        UnsupportedError: no input could change the engine's refusal.
        ModelError: the graph is broken.
    """

    def __init__(self, adapter: Adapter, model: Model, device: str) -> None:
        self.adapter, self.model, self.device = adapter, model, device
        self._bound: frozenset[str] = frozenset()
        self._sized = False
        self._cache: dict[Any, Lowered] = {}
        try:
            self._cache[()] = adapter.lower(model, device=device)
        except UnsupportedError as error:
            if not isinstance(error, HostValueNeededError) and not has_free_sizes(model):
                raise

    def lower(self, feeds: Mapping[str, Any]) -> Lowered:
        """Return a network that runs on ``feeds`` (arrays by input name), from the cache if one fits.

        Raises:
            UnsupportedError: the engine refuses it even so.
        """
        lowered = self._cache.get(self._key(feeds))
        if lowered is None:
            lowered = self._specialised(feeds)
            if len(self._cache) >= CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[self._key(feeds)] = lowered
        return lowered

    def _key(self, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
        if () in self._cache:
            return ()
        bound = tuple((name, _content(feeds[name])) for name in sorted(self._bound))
        sizes = tuple((name, _size(feeds[name])) for name in sorted(feeds)) if self._sized else ()
        return ("specialised", bound, sizes)

    def _specialised(self, feeds: Mapping[str, Any]) -> Lowered:
        while True:
            try:
                return self.adapter.lower(self._special_model(feeds), device=self.device)
            except UnsupportedError as error:
                self._learn(error, feeds)

    def _special_model(self, feeds: Mapping[str, Any]) -> Model:
        model = with_sizes(self.model, feeds) if self._sized else self.model
        return bind(model, {name: feeds[name] for name in self._bound}) if self._bound else model

    def _learn(self, error: UnsupportedError, feeds: Mapping[str, Any]) -> None:
        """Bind or size more for the next attempt, or raise ``error`` when nothing is left to try."""
        needed = origins(error.value) & set(feeds) if isinstance(error, HostValueNeededError) else set()
        new = needed - self._bound
        if new and all(is_bindable(feeds[name]) for name in new):
            check_free(self.model, self._bound | new, error)
            self._bound |= new
        elif not self._sized and has_free_sizes(self.model):
            self._sized = True
        else:
            raise error


def is_bindable(value: Any) -> bool:
    """Whether an input is small and shape-like enough to become a constant of the graph."""
    if not isinstance(value, np.ndarray):
        return False
    if value.dtype.kind in "iubO":
        return value.size <= MAX_BOUND
    return value.ndim <= 1 and value.size <= MAX_FLOATS


def check_free(model: Model, bound: frozenset[str], error: UnsupportedError) -> None:
    """Raise ``error`` if, with ``bound`` constant, folding could compute an output whole."""
    free = {port.name for port in model.inputs} - bound
    for output in model.ir.graph.outputs:
        sources = origins(output, through_sizes=True)
        if sources & bound and not sources & free:
            raise error


def bind(model: Model, arrays: Mapping[str, np.ndarray]) -> Model:
    """Return a copy in which the graph inputs named in ``arrays`` are constants."""
    copy = model.copy()
    graph = copy.ir.graph
    for value in [value for value in graph.inputs if value.name in arrays]:
        graph.inputs.remove(value)
        value.const_value = _tensor(value, arrays[value.name])  # type: ignore[index]
        value.shape, value.type = value.const_value.shape, ir.TensorType(value.const_value.dtype)  # type: ignore[assignment]
        graph.register_initializer(value)
        mark_constant(value)
    return copy


def with_sizes(model: Model, feeds: Mapping[str, Any]) -> Model:
    """Return a copy whose inputs have the sizes that the arrays in ``feeds`` have."""
    copy = model.copy()
    for value in copy.ir.graph.inputs:
        array = feeds.get(value.name or "")
        if isinstance(array, np.ndarray) and isinstance(value.type, ir.TensorType):
            value.shape = ir.Shape(array.shape)
    return copy


def has_free_sizes(model: Model) -> bool:
    """Whether any input's shape is not all numbers."""
    return any(port.shape is None or not all(isinstance(n, int) for n in port.shape) for port in model.inputs)


def origins(value: ir.Value, *, through_sizes: bool = False) -> set[str]:
    """Return the names of the graph inputs that ``value`` is computed from.

    Args:
        value: any value of the graph.
        through_sizes: count an input of which only the size is read as well.
    """
    found: set[str] = set()
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if node is None:
            found.add(current.name or "")
        elif through_sizes or node.op_type not in _READS_SIZE_ONLY:
            pending.extend(_reads(node))
    return found


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.value.all_nodes():
                yield from (value for value in inner.inputs if value is not None)
            yield from attribute.value.outputs


def _tensor(value: ir.Value, array: np.ndarray) -> ir.TensorProtocol:
    if array.dtype == object:
        encoded = np.array([str(text).encode() for text in array.reshape(-1)], dtype=object)
        return ir.StringTensor(encoded.reshape(array.shape), name=value.name)
    return ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=value.name)


def _content(array: np.ndarray) -> tuple[Any, ...]:
    content = tuple(array.reshape(-1)) if array.dtype == object else array.tobytes()
    return (array.shape, array.dtype.str, content)


def _size(value: Any) -> Any:
    return value.shape if isinstance(value, np.ndarray) else None
