"""Which axes of its inputs a network leaves free: the batch, and where it is asked for all others that may be.

torch.export finds out: an axis that the network's code or weights tie to a number comes back as that number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int

__all__ = ["dims", "limits", "pinned"]

# a bound above this is none
_UNBOUNDED = 1 << 31
# torch.export takes sizes of 0 and 1 for special
_SMALLEST = 2


def dims(leaf: Any, batch: bool, others: bool) -> dict[int, Any] | None:
    """Return the axes of an argument that are to be free, as torch.export is told; None where it is no tensor.

    Of a recurrent state, (layers, batch, hidden), the second axis is the batch.
    """
    if not isinstance(leaf, Tensor):
        return None
    free = set(range(1, leaf.ndim)) if others else set[int]()
    if batch:
        free |= {0, 1} if leaf.ndim == 3 and leaf.shape[0] == 1 else {0}
    return {axis: Dim.AUTO for axis in sorted(free) if axis < leaf.ndim and leaf.shape[axis] > 1} or None


def pinned(program: ExportedProgram) -> dict[int, set[int]]:
    """Return axes, by the places of inputs, that are free in name alone.

    What the network's code asks of them holds for no other size that is tried.
    """
    found: dict[int, set[int]] = {}
    for place, (_, value) in enumerate(_inputs(program)):
        for axis, size in enumerate(() if value is None else value.shape):
            if axis > 0 and not is_concrete_int(size) and not _takes_others(size):
                found.setdefault(place, set()).add(axis)
    return found


def _takes_others(size: torch.SymInt) -> bool:
    """Whether all that was asked while tracing is true of another size as well."""
    environment, expression = size.node.shape_env, size.node.expr
    hints = dict(getattr(environment, "backed_var_to_val", None) or getattr(environment, "var_to_val", {}))
    same = getattr(environment, "replacements", {})
    asked = {guard.expr.xreplace(same) for guard in environment.guards}
    about = [guard for guard in asked if expression in guard.free_symbols]
    hint = int(hints.get(expression, size.node.hint))
    for other in (2 * hint, 3 * hint, hint + 1, 2 * hint + 1, hint + 16, hint // 2):
        values = {**hints, expression: other}
        if all(guard.xreplace({name: _integer(value) for name, value in values.items()}) != False for guard in about):  # noqa: E712
            return True
    return False


def _integer(value: Any) -> Any:
    import sympy

    return sympy.Integer(int(value))


def limits(program: ExportedProgram) -> list[str]:
    """Say which lengths a network is traced for, where these are not all."""
    found: dict[str, str] = {}
    for name, value in _inputs(program):
        for axis, size in enumerate(() if value is None else value.shape):
            if is_concrete_int(size):
                continue
            low, high = _range(program, size)
            if low > _SMALLEST or high < _UNBOUNDED:
                words = [f"at least {low}"] * (low > _SMALLEST) + [f"at most {high}"] * (high < _UNBOUNDED)
                text = f"axis {axis} of input {name!r} is {' and '.join(words)}: the network's code says so"
                found.setdefault(str(size), text)
    return list(found.values())


def _range(program: ExportedProgram, size: torch.SymInt) -> tuple[int, int]:
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return 0, _UNBOUNDED
    upper = int(bounds.upper) if bounds.upper.is_finite and bounds.upper < _UNBOUNDED else _UNBOUNDED
    return int(bounds.lower), upper


def _inputs(program: ExportedProgram) -> list[tuple[str, Tensor | None]]:
    """Return names of the inputs and the tensors that stand for them, None where one is no tensor."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found: list[tuple[str, Tensor | None]] = []
    for name in program.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if isinstance(name, str) and name in nodes else None
        found.append((str(name), value if isinstance(value, Tensor) else None))
    return found
