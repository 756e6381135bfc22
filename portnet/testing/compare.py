"""Strict comparison of what a backend returned with what the standard expects.

Nothing is forgiven but the case's tolerance: a missing output, another shape that would broadcast, another dtype or
a NaN in another place is a difference. Sequences, optionals, maps and strings are compared as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["difference", "differences_of_kind"]

# two units in the last place of bfloat16, as the standard's own runner allows
_BFLOAT16_RTOL = 2**-6


def difference(got: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> str | None:
    """Say how the outputs ``got`` differ from ``expected``, or return None when they agree.

    Args:
        got: what a backend returned, in the order of the graph's outputs.
        expected: what the standard says.
        rtol: allowed |got − expected| relative to |expected|.
        atol: added to what rtol allows.
    """
    structural = differences_of_kind(got, expected)
    if structural is not None:
        return structural
    pairs = enumerate(zip(got, expected, strict=True))
    return next((f"output {i}: {d}" for i, (g, e) in pairs if (d := _values(g, e, rtol, atol))), None)


def differences_of_kind(got: Sequence[Any], expected: Sequence[Any]) -> str | None:
    """Like `difference`, for count, kind, shape and dtype alone; values are not looked at."""
    if not isinstance(got, (list, tuple)):
        return f"got {type(got).__name__}, expected a tuple of outputs"
    if len(got) != len(expected):
        return f"got {len(got)} outputs, expected {len(expected)}"
    pairs = enumerate(zip(got, expected, strict=True))
    return next((f"output {i}: {d}" for i, (g, e) in pairs if (d := _kind(g, e))), None)


def _kind(got: Any, expected: Any) -> str | None:
    if expected is None or isinstance(expected, dict):
        same = got is None if expected is None else isinstance(got, dict)
        return None if same else f"got {type(got).__name__}, expected {type(expected).__name__}"
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            return f"got {type(got).__name__}, expected a sequence"
        return differences_of_kind(got, expected)
    if not isinstance(got, (np.ndarray, np.generic)):
        return f"got {type(got).__name__}, expected an array"
    if got.shape != expected.shape:
        return f"got shape {got.shape}, expected {expected.shape}"
    if _dtype(got) != _dtype(expected):
        return f"got dtype {got.dtype}, expected {expected.dtype}"
    return None


def _dtype(array: Any) -> str:
    return "string" if array.dtype.kind in "OUS" else array.dtype.name


def _values(got: Any, expected: Any, rtol: float, atol: float) -> str | None:
    if expected is None:
        return None
    if isinstance(expected, dict):
        return None if got == expected else f"got {got}, expected {expected}"
    if isinstance(expected, (list, tuple)):
        return difference(got, expected, rtol, atol)
    if _dtype(expected) == "string":
        same = [_text(x) for x in got.reshape(-1)] == [_text(x) for x in expected.reshape(-1)]
        return None if same else f"got {got.tolist()}, expected {expected.tolist()}"
    return _numbers(got, expected, rtol, atol)


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _numbers(got: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str | None:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, _BFLOAT16_RTOL)
    got, expected = _comparable(got), _comparable(expected)
    close = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if np.all(close):
        return None
    if np.any(np.isnan(got) != np.isnan(expected)):
        return f"got {np.isnan(got).sum()} NaN, expected {np.isnan(expected).sum()}, or in other places"
    error = np.abs(np.where(close, 0, got - expected)).max()
    return f"{(~close).sum()} of {close.size} values differ, by up to {error:.3g} (rtol {rtol:g}, atol {atol:g})"


def _comparable(array: np.ndarray) -> np.ndarray:
    """Return numbers that numpy can subtract; float32 and smaller types, and small integers, lose nothing."""
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    return array.astype(np.longdouble if array.dtype.itemsize == 8 else np.float64)
