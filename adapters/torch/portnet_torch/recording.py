"""Calls of layers, functions and methods on tensors, recorded while a network is lowered.

A record becomes the body of ``forward`` (`portnet_torch.body`), and an `fx.Graph` where somebody asks for one: a
graph takes three times as long to make as all of the records, and most networks are converted to be run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from portnet_torch.naming import identifier

__all__ = ["Call", "Recorder", "graph_of"]

_LEAVES = frozenset({int, float, bool, str, type(None)})
_READ = frozenset({"call_function", "call_method"})
_CALLS = _READ | {"call_module"}


class Call:
    """A call, and the tensor, or whatever it is, that it returns.

    Attributes:
        op: what is called, in the words of `fx.Node`: "placeholder", "get_attr", "call_function", "call_method" or
            "call_module".
        target: the function, the name of the method, or the path of the layer or tensor.
        args: positional arguments; those before it, here and inside of lists, tuples, dictionaries and slices, are
            calls.
        kwargs: arguments by name.
        name: what a graph calls it; None for a name made from its target.
        reads: the calls among its arguments.
        readers: how many calls have it among their arguments.
    """

    __slots__ = ("args", "kwargs", "name", "op", "readers", "reads", "recorder", "target")
    __iter__ = None  # or Python would ask for one entry after another, without an end

    def __init__(
        self, recorder: Recorder, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None
    ) -> None:
        self.recorder, self.op, self.target, self.name = recorder, op, target, name
        self.args, self.kwargs = args, kwargs
        self.readers = 0
        self.reads: list[Call] = []
        _find_calls(args, self.reads)
        if kwargs:
            _find_calls(tuple(kwargs.values()), self.reads)
        for call in self.reads:
            call.readers += 1

    def __bool__(self) -> bool:
        raise TypeError("what a network computes is not known while it is built")

    def __getitem__(self, index: Any) -> Call:
        return self.recorder.record("call_function", operator.getitem, (self, index))


def _infix(function: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    def method(self: Call, other: Any) -> Call:
        return self.recorder.record("call_function", function, (self, other))

    def reflected(self: Call, other: Any) -> Call:
        return self.recorder.record("call_function", function, (other, self))

    return method, reflected


# arithmetic on sizes
Call.__add__, Call.__radd__ = _infix(operator.add)  # type: ignore[attr-defined]
Call.__sub__, Call.__rsub__ = _infix(operator.sub)  # type: ignore[attr-defined]
Call.__mul__, Call.__rmul__ = _infix(operator.mul)  # type: ignore[attr-defined]
Call.__floordiv__, Call.__rfloordiv__ = _infix(operator.floordiv)  # type: ignore[attr-defined]


class Recorder:
    """What was recorded so far.

    Attributes:
        inputs: placeholders, in order.
        calls: the others, in order.
    """

    def __init__(self) -> None:
        self.inputs: list[Call] = []
        self.calls: list[Call] = []

    def record(
        self,
        op: str,
        target: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Append a call and return it, for others to have it among their arguments."""
        call = Call(self, op, target, args, kwargs or {}, name)
        (self.inputs if op == "placeholder" else self.calls).append(call)
        return call

    def name(self, call: Call, name: str) -> None:
        """Name a call; one that has a name keeps it."""
        if call.name is None and call.op in _CALLS:
            call.name = name

    def live(self, outputs: Any) -> list[Call]:
        """Return the calls but those of functions and methods that nobody reads; layers stay, for they hold weights."""
        returned: list[Call] = []
        _find_calls((outputs,), returned)
        for call in returned:
            call.readers += 1
        kept = []
        for call in reversed(self.calls):
            if call.op in _READ and not call.readers:
                for other in call.reads:
                    other.readers -= 1
            else:
                kept.append(call)
        return kept[::-1]


def _find_calls(values: tuple[Any, ...] | list[Any], found: list[Call]) -> None:
    for value in values:
        kind = type(value)
        if kind is Call:
            found.append(value)
        elif kind in _LEAVES:
            continue
        elif kind is tuple or kind is list:
            _find_calls(value, found)
        elif kind is dict:
            _find_calls(list(value.values()), found)
        elif kind is slice:
            _find_calls([value.start, value.stop, value.step], found)


def graph_of(inputs: list[Call], calls: list[Call], outputs: Any) -> fx.Graph:
    """Return recorded calls as a graph."""
    graph = fx.Graph()
    nodes: dict[Call, fx.Node] = {}

    def argument(value: Any) -> Any:
        return nodes[value] if type(value) is Call else value

    for call in (*inputs, *calls):
        name = None if call.name is None else identifier(call.name)
        args, kwargs = fx.node.map_aggregate((call.args, call.kwargs), argument)
        nodes[call] = graph.create_node(call.op, call.target, args, kwargs, name)
    graph.output(fx.node.map_aggregate(outputs, argument))
    graph.lint()
    return graph
