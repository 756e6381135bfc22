"""The graph in a symbol's JSON, as plain data, whichever MXNet wrote it.

The form is nnvm's: a list of nodes in the order of their dependence, and heads, which are the outputs. MXNet up to 0.8
keeps an operator's parameters under ``param`` and what the user noted under ``attr``; 0.9 to 0.11 keep both under
``attr``, later ones under ``attrs``. Inputs are pairs (node, output) in the first and triples with a version later.
Before 0.9 auxiliary states (BatchNorm's running mean and variance) are not listed: `AUXILIARY` adds them under the
names that MXNet gives them (``src/nnvm/legacy_json_util.cc``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from portnet.errors import ModelError

__all__ = ["ATTRIBUTE", "MAX_BYTES", "VARIABLE", "Entry", "Node", "Symbol", "parse_symbol"]

MAX_BYTES = 64 << 20
_MAX_NODES = 100_000
_MAX_INPUTS = 4096
_MAX_NAME = 4096
VARIABLE = "null"
# of the graph: what PortNet left besides it
ATTRIBUTE = "portnet"

# operators whose last inputs MXNet before 0.9 did not write: their count of inputs, and the names of those
AUXILIARY = {"BatchNorm": (5, ("moving_mean", "moving_var")), "CuDNNBatchNorm": (5, ("moving_mean", "moving_var"))}


class Entry(NamedTuple):
    """One output of one node."""

    node: int
    output: int


@dataclass(frozen=True)
class Node:
    """A variable or an operator.

    Attributes:
        op: the operator's name, or `VARIABLE`.
        name: the layer's or the variable's name.
        attributes: the operator's parameters and the user's notes, as text.
        inputs: what it reads.
    """

    op: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[Entry, ...] = ()

    @property
    def is_variable(self) -> bool:
        """Whether it is an input or a parameter."""
        return self.op == VARIABLE


@dataclass(frozen=True)
class Symbol:
    """A graph; every node reads only nodes before it.

    Attributes:
        nodes: variables and operators.
        heads: the graph's outputs.
        carried: what PortNet left besides the graph, as text; "" where it left nothing.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    carried: str = ""

    @property
    def variables(self) -> list[str]:
        """Names of the inputs and parameters, in order."""
        return [node.name for node in self.nodes if node.is_variable]


def parse_symbol(text: str | bytes, source: str) -> Symbol:
    """Return the graph that a JSON text describes.

    Args:
        text: what ``Symbol.save`` or ``Symbol.tojson`` wrote.
        source: what it is called in messages.

    Raises:
        ModelError: no JSON, no symbol, too large, or indices that point nowhere.
    """
    if len(text) > MAX_BYTES:
        raise ModelError(f"{source}: got {len(text)} bytes, expected at most {MAX_BYTES}. Refused.")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{source} is no JSON: {_first_line(error)}. Expected what MXNet's Symbol.save wrote."
        ) from error
    nodes = tree.get("nodes") if isinstance(tree, dict) else None
    if not isinstance(nodes, list) or not nodes or len(nodes) > _MAX_NODES:
        raise ModelError(f"{source} is no symbol of MXNet: expected 1 to {_MAX_NODES} nodes")
    reader = _Reader(source)
    read = [reader.node(index, node) for index, node in enumerate(nodes)]
    heads = reader.entries(tree.get("heads"), len(nodes), "heads")
    if not heads:
        raise ModelError(f"{source}: a symbol without heads has no outputs")
    return _with_auxiliary(Symbol(tuple(read), heads, _carried(tree.get("attrs"))))


def _carried(attributes: Any) -> str:
    entry = attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
        return entry[1]
    return ""


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source

    def node(self, index: int, node: Any) -> Node:
        if not isinstance(node, dict):
            raise ModelError(f"{self.source}: node {index} is no object")
        op, name = node.get("op"), node.get("name")
        if not isinstance(op, str) or not isinstance(name, str) or not op or max(len(op), len(name)) > _MAX_NAME:
            raise ModelError(f"{self.source}: node {index} lacks an op or a name")
        if not (op.isprintable() and name.isprintable()):
            raise ModelError(f"{self.source}: node {index}: the name holds what cannot be printed")
        inputs = self.entries(node.get("inputs", []), index, f"inputs of node {name!r}")
        if op == VARIABLE and inputs:
            raise ModelError(f"{self.source}: variable {name!r} got inputs, expected none")
        return Node(op, name or f"node{index}", self.attributes(node, name), inputs)

    def attributes(self, node: dict[str, Any], name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for key in ("attr", "attrs", "param"):
            given = node.get(key)
            if given is None:
                continue
            if not isinstance(given, dict):
                raise ModelError(f"{self.source}: node {name!r}: {key} got no object")
            for each, value in given.items():
                if isinstance(value, (dict, list)) or value is None:
                    raise ModelError(f"{self.source}: node {name!r}: attribute {each!r} is no text")
                found[each] = value if isinstance(value, str) else str(value)
        return found

    def entries(self, given: Any, before: int, what: str) -> tuple[Entry, ...]:
        """Return pairs (node, output) whose node stands before ``before``."""
        if not isinstance(given, list) or len(given) > _MAX_INPUTS:
            raise ModelError(f"{self.source}: {what}: expected a list of at most {_MAX_INPUTS}")
        return tuple(self.entry(item, before, what) for item in given)

    def entry(self, given: Any, before: int, what: str) -> Entry:
        numbers = given if isinstance(given, list) else [given, 0]
        if not 2 <= len(numbers) <= 3 or not all(type(n) is int for n in numbers):
            raise ModelError(f"{self.source}: {what}: expected [node, output, version]")
        node, output = numbers[:2]
        if not 0 <= node < before or not 0 <= output < _MAX_INPUTS:
            raise ModelError(
                f"{self.source}: {what}: got node {node} output {output}, expected one of the {before} nodes before it"
            )
        return Entry(node, output)


def _with_auxiliary(symbol: Symbol) -> Symbol:
    """Add the states that MXNet before 0.9 left out."""
    lacking = {i for i, node in enumerate(symbol.nodes) if node.op in AUXILIARY and len(node.inputs) == 3}
    if not lacking:
        return symbol
    nodes: list[Node] = []
    moved: list[int] = []
    for index, node in enumerate(symbol.nodes):
        inputs = tuple(Entry(moved[entry.node], entry.output) for entry in node.inputs)
        if index in lacking:
            for state in AUXILIARY[node.op][1]:
                inputs += (Entry(len(nodes), 0),)
                nodes.append(Node(VARIABLE, f"{node.name}_{state}", {}))
        moved.append(len(nodes))
        nodes.append(Node(node.op, node.name, node.attributes, inputs))
    heads = tuple(Entry(moved[head.node], head.output) for head in symbol.heads)
    return Symbol(tuple(nodes), heads, symbol.carried)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120] or type(error).__name__
