"""Between which numbers a size lies, whatever the free sizes are that it is computed from.

What an exporter adds to a size so that windows fit, 2·⌈n / 2⌉ - n, lies between 0 and 1 for every n: each floor ⌊y⌋ of
a fraction with the divisor q is y less one of 0, 1/q, ..., (q - 1)/q, and the sizes themselves are 1 at least.
"""

from __future__ import annotations

import math
from typing import Any

import sympy

__all__ = ["bounds", "larger"]


def bounds(size: Any) -> tuple[float, float]:
    """Return the least and the largest number that a size can be; an infinity where nothing bounds it.

    They are safe, and not always met: floors that hang together are taken for independent.
    """
    size = sympy.sympify(size)
    ranges: dict[Any, tuple[Any, Any]] = {}
    low: Any = 0
    high: Any = 0
    for term in sympy.Add.make_args(sympy.expand(_opened(size, ranges))):
        factor, rest = term.as_coeff_Mul()
        least, most = _range(rest, ranges)
        if not factor.is_Rational or least is None:
            return -math.inf, math.inf
        ends = (factor * least, math.copysign(math.inf, factor) if most is None else factor * most)
        low, high = low + min(ends), high + max(ends)
    if not size.is_integer:
        return float(low), float(high)
    return (-math.inf if low == -math.inf else math.ceil(low)), (math.inf if high == math.inf else math.floor(high))


def larger(a: Any, b: Any) -> Any:
    """Return the larger one of two sizes, or sympy's ``Max`` of them where free sizes tell which that is."""
    least, most = bounds(sympy.sympify(a) - b)
    return a if least >= 0 else b if most <= 0 else sympy.Max(a, b)


def _opened(size: Any, ranges: dict[Any, tuple[Any, Any]]) -> Any:
    """Return a size as sums and products: ⌊y⌋ = y - share, and a new symbol for a ``Max``.

    ``ranges`` gets the least and the largest number of each new symbol.
    """
    if isinstance(size, sympy.floor):
        divisor = sympy.fraction(sympy.together(size.args[0]))[1]
        share = sympy.Symbol(f"share of {size}")
        ranges[share] = 0, (1 - sympy.Rational(1, divisor) if divisor.is_Integer else sympy.Integer(1))
        return _opened(size.args[0], ranges) - share
    if isinstance(size, sympy.Max):
        ends = [bounds(part) for part in size.args]
        symbol = sympy.Symbol(f"one of {size}")
        ranges[symbol] = tuple(max(end) for end in zip(*ends, strict=True))
        return symbol
    return size.func(*(_opened(part, ranges) for part in size.args)) if size.args else size


def _range(rest: Any, ranges: dict[Any, tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the least and the largest number of a term; None for what is not known."""
    if rest == 1:
        return 1, 1
    if rest in ranges:
        return ranges[rest]
    is_product = all(
        base.is_Symbol and base.is_positive and power.is_Integer and power > 0
        for base, power in (factor.as_base_exp() for factor in sympy.Mul.make_args(rest))
    )
    return (1, None) if is_product else (None, None)
