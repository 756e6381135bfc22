"""The table of upgrade rules: which ops, and in which version of the standard their meaning changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from portnet.graph.passes.rewrite import Site

__all__ = ["Rule", "rules_for", "upgrade"]

_ANY = "*"
_RULES: dict[str, list[Rule]] = {}


@dataclass(frozen=True)
class Rule:
    """One change of the standard.

    Attributes:
        since: opset from which the op is written in the new way.
        repairs: the old way cannot be mistaken for the new one (an attribute that became an input), so that it is
            rewritten at any opset: exporters that stamp a newer opset than they write are understood.
        apply: rewrites one node in place, or replaces it.
    """

    since: int
    repairs: bool
    apply: Callable[[Site, ir.Node], None]


def upgrade(
    *op_types: str, since: int, repairs: bool = False
) -> Callable[[Callable[[Site, ir.Node], None]], Callable[[Site, ir.Node], None]]:
    """Register a rule for some ops; "*" is every op."""

    def register(function: Callable[[Site, ir.Node], None]) -> Callable[[Site, ir.Node], None]:
        for op_type in op_types:
            _RULES.setdefault(op_type, []).append(Rule(since, repairs, function))
        return function

    return register


@functools.cache
def rules_for(op_type: str) -> list[Rule]:
    """Return the rules of an op, oldest first; all are registered when this package is imported."""
    return sorted([*_RULES.get(op_type, ()), *_RULES.get(_ANY, ())], key=lambda rule: rule.since)
