"""The method ``forward`` of a network's source."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from portnet.errors import UnsupportedError
from portnet_torch.copied import Copied
from portnet_torch.literals import access, call, literal
from portnet_torch.naming import free, identifier

__all__ = ["TAKEN", "forward_source", "is_own"]

WIDTH = 116

# names that the file gives a meaning
TAKEN = {"Model", "load", "read_safetensors", "DTYPES", "json", "math", "operator", "np", "torch", "F", "nn"} | {
    *("Path", "Tensor", "self", "annotations")
}

_INFIX = {
    **{operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//"},
    **{operator.mod: "%", operator.pow: "**", operator.matmul: "@"},
    **{operator.and_: "&", operator.or_: "|", operator.xor: "^"},
    **{operator.gt: ">", operator.ge: ">=", operator.lt: "<", operator.le: "<=", operator.eq: "==", operator.ne: "!="},
}

_MODULES = {
    "torch": torch,
    "F": F,
    "torch.fft": torch.fft,
    "torch.linalg": torch.linalg,
    "torch.special": torch.special,
    "math": math,
    "operator": operator,
    "": builtins,
}


def is_own(thing: Any) -> bool:
    """Whether a function or class is of this package."""
    return (getattr(thing, "__module__", None) or "").startswith("portnet_torch.")


def forward_source(graph: fx.Graph, copied: Copied) -> list[str]:
    """Return the lines of the method.

    A value that only the next line reads is called x; the others keep the names of their ONNX nodes.

    Raises:
        UnsupportedError: a call of something that has no name in torch.
    """
    return _Forward(graph, copied).lines()


class _Forward:
    def __init__(self, graph: fx.Graph, copied: Copied) -> None:
        self.copied = copied
        self.nodes = _live(graph)
        self.inputs = [node for node in graph.nodes if node.op == "placeholder"]
        self.output = next(node for node in graph.nodes if node.op == "output")
        self.used = TAKEN | copied.names
        self.text_of = {node: self._new(str(node.target)) for node in self.inputs}
        self.chained = next(name for name in ("x", "h", "y", "z", "hidden", "_") if name not in self.used)
        self.used.add(self.chained)

    def _new(self, name: str) -> str:
        name = free(identifier(name), self.used)
        self.used.add(name)
        return name

    def lines(self) -> list[str]:
        body = []
        for place, node in enumerate(self.nodes):
            if node.op == "get_attr":
                self.text_of[node] = access(str(node.target), tensor=True)
                continue
            head, arguments = self._statement(node)
            self.text_of[node] = self.chained if self._is_link(place) else self._new(node.name)
            body += _wrapped(f"{self.text_of[node]} = ", head, arguments)
        result = self._argument(self.output.args[0])
        parameters = ["self", *(f"{self.text_of[node]}: Tensor" for node in self.inputs)]
        returned = "Tensor" if isinstance(self.output.args[0], fx.Node) else "tuple[Tensor, ...]"
        *first, last = _wrapped("def ", "forward", parameters)
        lines = [*first, f"{last} -> {returned}:", *(f"    {line}" for line in [*body, f"return {result}"])]
        return [f"    {line}" for line in lines]

    def _is_link(self, place: int) -> bool:
        """Whether the next statement alone reads a node's value."""
        following = next((n for n in self.nodes[place + 1 :] if n.op != "get_attr"), self.output)
        return set(self.nodes[place].users) & {*self.nodes, self.output} == {following}

    def _statement(self, node: fx.Node) -> tuple[str, list[str] | None]:
        """Return the callee and its arguments, or an expression and None."""
        arguments = [self._argument(value) for value in node.args]
        # where a tensor is made is torch's default device, which the network's user may choose
        kept = {name: value for name, value in node.kwargs.items() if name != "device"}
        named = [f"{name}={self._argument(value)}" for name, value in kept.items()]
        if node.op == "call_module":
            return access(str(node.target)), arguments + named
        if node.op == "call_method":
            return f"{arguments[0]}.{node.target}", arguments[1:] + named
        if node.target in _INFIX and len(arguments) == 2:
            left, right = arguments
            return f"{f'({left})' if left.startswith('-') else left} {_INFIX[node.target]} {right}", None
        if node.target is operator.getitem:
            return f"{arguments[0]}[{arguments[1]}]", None
        if node.target is operator.neg:
            return f"-{arguments[0]}", None
        return self._function(node.target), arguments + named

    def _function(self, function: Any) -> str:
        if is_own(function):
            return self.copied.name(function)
        name = getattr(function, "__name__", "")
        for prefix, module in _MODULES.items():
            if getattr(module, name, None) is function:
                return f"{prefix}.{name}".lstrip(".")
        raise UnsupportedError(f"torch: code cannot write a call of {function!r}", engine="torch")

    def _argument(self, value: Any) -> str:
        return self.text_of[value] if isinstance(value, fx.Node) else literal(value, self._argument)


def _live(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes between inputs and output whose values reach the output, in order."""
    wanted: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in wanted and node.op != "placeholder"]


def _wrapped(start: str, head: str, arguments: list[str] | None) -> list[str]:
    """Return a statement on one line, or with its arguments on lines of their own where it is long."""
    line = start + (head if arguments is None else call(head, arguments))
    if len(line) <= WIDTH - 8 or not arguments:
        return [line]
    rows = ["   "]
    for argument in arguments:
        if len(rows[-1]) + len(argument) > WIDTH - 10 and rows[-1].strip():
            rows.append("   ")
        rows[-1] += f" {argument},"
    return [f"{start}{head}(", *rows, ")"]
