"""Sizes behind windows of free sizes: floors of sizes, in one form, so that equal ones are seen to be equal.

A convolution leaves ⌊(s + p) / q⌋ + r of a size s, the next one a floor of that; an exporter writes the same size in
its own arithmetic. Both become ⌊(s + k) / n⌋ + r with 0 ≤ k < n, since ⌊(⌊a / b⌋ + c) / d⌋ = ⌊(a + b·c) / (b·d)⌋ for
whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import sympy

from portnet.graph.sizes import MADE

__all__ = ["FLOORS", "Floors", "floor_of"]

# key of a graph's ``meta``: its `Floors`
FLOORS = "portnet.floors"


def floor_of(size: Any) -> Any:
    """Return ⌊size⌋, what is whole taken out and floors of floors joined."""
    constant, rest = sympy.expand(size).as_coeff_Add()
    terms = [term.as_coeff_Mul() for term in sympy.Add.make_args(rest) if term != 0]
    if not constant.is_Rational or not all(c.is_Rational and term.is_integer for c, term in terms):
        return sympy.floor(size)
    whole = sum((math.floor(c) * term for c, term in terms), sympy.Integer(0))
    parts = [(c - math.floor(c), term) for c, term in terms if not c.is_Integer]
    if not parts:
        return whole + math.floor(constant)
    divisor = math.lcm(*(int(c.q) for c, _ in parts))
    numerator = [(int(c * divisor), term) for c, term in parts]
    shared = math.gcd(divisor, *(c for c, _ in numerator))
    divisor, numerator = divisor // shared, [(c // shared, term) for c, term in numerator]
    # whole numbers stand above, so what is less than one below changes nothing
    added = math.floor(constant * divisor)
    inner = next((term for c, term in numerator if c == 1 and isinstance(term, sympy.floor)), None)
    if inner is not None:
        others = sum((c * term for c, term in numerator if term is not inner), sympy.Integer(0))
        return whole + floor_of((inner.args[0] + others + added) / divisor)
    total = sum((c * term for c, term in numerator), sympy.Integer(added % divisor))
    return whole + added // divisor + sympy.floor(sympy.expand(total / divisor))


class Floors:
    """The symbols of a graph that stand for ⌊(s + k) / n⌋ + r."""

    def __init__(self) -> None:
        self._symbols: dict[Any, tuple[sympy.Symbol, Any]] = {}
        self._meanings: dict[sympy.Symbol, Any] = {}

    def symbol_of(self, size: Any) -> Any | None:
        """Return the symbol (or its sum with a number) of a size, a new one where there is none yet.

        None where the size is no floor of one free size with a number.
        """
        size = self.expanded(size)
        number, floor = sympy.sympify(size).as_coeff_Add()
        is_one = isinstance(floor, sympy.floor) and len(floor.free_symbols) == 1 and number.is_Integer
        if not is_one or not floor.args[0].is_polynomial(*floor.free_symbols):
            return None
        if floor not in self._symbols:
            symbol = sympy.Symbol(f"{MADE}({str(size).replace(MADE, '')})", integer=True, positive=True)
            self._symbols[floor] = symbol, number
            self._meanings[symbol] = size
        symbol, own = self._symbols[floor]
        return symbol + (number - own)

    def respelled(self, size: Any, known: Container[Any]) -> Any:
        """Return a size with the symbols for floors in it, those that are ``known``."""
        if not self._symbols or not isinstance(size, sympy.Basic) or not size.has(sympy.floor):
            return size
        spelled = {}
        for floor in size.atoms(sympy.floor):
            number, own = sympy.sympify(self.expanded(floor)).as_coeff_Add()
            symbol, added = self._symbols.get(own, (None, 0))
            if symbol is not None and symbol in known:
                spelled[floor] = symbol + (number - added)
        return size.xreplace(spelled) if spelled else size

    def expanded(self, size: Any) -> Any:
        """Return a size in terms of those that are no floors themselves."""
        meant = sympy.sympify(size).xreplace(self._meanings)
        return meant.replace(sympy.floor, floor_of)
