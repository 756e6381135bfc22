"""The method ``forward`` of a network, written from what was recorded.

It is what `torch.fx` would write of the same calls, but for names: those of graphs are made of ONNX's, each of its own,
which takes longer than all the rest.
"""

from __future__ import annotations

import itertools
import linecache
import math
import operator
import weakref
from collections.abc import Callable
from typing import Any

from portnet_torch.literals import is_name
from portnet_torch.naming import free
from portnet_torch.recording import Call

__all__ = ["forward_of"]

_NUMBERS = itertools.count()
_WRITTEN = frozenset({int, bool, str, type(None)})
_INFIX = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//"}


def forward_of(inputs: list[Call], calls: list[Call], outputs: Any, name: str) -> Callable[..., Any]:
    """Return a function of a module and its inputs that does the calls and returns what ``outputs`` stand for.

    Args:
        inputs: the inputs' records; their targets are the parameters' names.
        calls: what to do, in order.
        outputs: a call, or a tuple of calls.
        name: whose method it is, for tracebacks.
    """
    body = _Body(inputs, calls, outputs)
    text, file = body.text(), f"<forward of {name}, {next(_NUMBERS)}>"
    exec(compile(text, file, "exec"), body.known)
    forward: Callable[..., Any] = body.known.pop("forward")
    # for tracebacks, and for torch.jit.script, which reads what it compiles
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    weakref.finalize(forward, linecache.cache.pop, file, None)
    return forward


class _Body:
    """Statements over variables that are used again once nobody reads what was in them, and memory is freed with it.

    Attributes:
        known: functions and constants by the names that the statements have for them.
    """

    def __init__(self, inputs: list[Call], calls: list[Call], outputs: Any) -> None:
        self.calls, self.outputs = calls, outputs
        self.parameters = [call.target for call in inputs]
        self.known: dict[str, Any] = {}
        self._taken = {"self", "getattr", "forward", *self.parameters}
        self._names: dict[Any, str] = {}
        self._paths: dict[str, str] = {"": "self"}
        self._variables = dict(zip(inputs, self.parameters, strict=True))
        self._free: list[str] = []
        self._unread = {call: call.readers for call in (*inputs, *calls)}

    def text(self) -> str:
        lines = [f"def forward({', '.join(['self', *self.parameters])}):"]
        for call in self.calls:
            if call.op == "get_attr":
                self._variables[call] = self._path(call.target)
            else:
                lines.append(f"    {self._statement(call)}")
        lines.append(f"    return {self._text(self.outputs)}\n")
        return "\n".join(lines)

    def _statement(self, call: Call) -> str:
        expression, last = self._expression(call), []
        for read in call.reads:
            self._unread[read] -= 1
            if not self._unread[read] and read.op != "get_attr":
                last.append(self._variables[read])
        if not call.readers:
            self._free += last
            return "; ".join([expression, *(f"{name} = None" for name in last)])
        variable = last.pop() if last else self._variable()
        self._variables[call] = variable
        self._free += last
        return "; ".join([f"{variable} = {expression}", *(f"{name} = None" for name in last)])

    def _variable(self) -> str:
        if self._free:
            return self._free.pop()
        name = next(name for name in (f"x{number}" for number in itertools.count()) if name not in self._taken)
        self._taken.add(name)
        return name

    def _expression(self, call: Call) -> str:
        arguments = [self._text(value) for value in call.args]
        if call.op == "call_function":
            if call.target in _INFIX:
                return f"{arguments[0]} {_INFIX[call.target]} {arguments[1]}"
            if call.target is operator.getitem:
                return f"{arguments[0]}[{arguments[1]}]"
            function = self._name(call.target, getattr(call.target, "__name__", "function"))
        elif call.op == "call_method":
            function = f"{arguments.pop(0)}.{call.target}"
        else:
            function = self._path(call.target)
        arguments += [f"{name}={self._text(value)}" for name, value in call.kwargs.items()]
        return f"{function}({', '.join(arguments)})"

    def _text(self, value: Any) -> str:
        kind = type(value)
        if kind is Call:
            return self._variables[value]
        if kind in _WRITTEN or (kind is float and math.isfinite(value)):
            return repr(value)
        if kind is list:
            return f"[{', '.join(map(self._text, value))}]"
        if kind is tuple:
            return f"({', '.join(map(self._text, value))}{',' if len(value) == 1 else ''})"
        if kind is dict:
            return f"{{{', '.join(f'{self._text(key)}: {self._text(entry)}' for key, entry in value.items())}}}"
        if kind is slice:
            return f"slice({', '.join(map(self._text, (value.start, value.stop, value.step)))})"
        return self._name(value, kind.__name__)

    def _name(self, thing: Any, name: str) -> str:
        """Return the name by which the statements know a function or a constant."""
        known = self._names.get(id(thing))
        if known is None:
            known = self._names[id(thing)] = free(name if is_name(name) else "thing", self._taken)
            self._taken.add(known)
            self.known[known] = thing
        return known

    def _path(self, path: str) -> str:
        """Return how ``self`` leads to a layer or tensor."""
        known = self._paths.get(path)
        if known is None:
            owner, _, leaf = path.rpartition(".")
            start = self._path(owner)
            known = self._paths[path] = f"{start}.{leaf}" if is_name(leaf) else f"getattr({start}, {leaf!r})"
        return known
