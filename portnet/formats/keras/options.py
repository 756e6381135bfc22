"""`Options`: a layer's configuration, read with types and bounds, since it comes from a file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from portnet.errors import ModelError, UnsupportedError

__all__ = ["MAX_NUMBER", "Options"]

MAX_NUMBER = 1 << 31


class Options:
    """The configuration of one layer.

    Args:
        values: what Keras's ``get_config()`` gives, as plain data.
        layer: the layer's name, for messages.
    """

    def __init__(self, values: Mapping[str, Any], layer: str) -> None:
        self.values, self.layer = values, layer

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value as it stands."""
        value = self.values.get(key)
        return default if value is None else value

    def wrong(self, key: str, expected: str) -> ModelError:
        """Return the error for a value that is not what it should be."""
        return ModelError(f"layer {self.layer!r}: {key} got {_short(self.values.get(key))}, expected {expected}")

    def integer(self, key: str, default: int | None = None, low: int = 1) -> int:
        """Return a whole number from ``low`` to 2³¹."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < MAX_NUMBER:
            raise self.wrong(key, f"a whole number from {low}")
        return value

    def integers(self, key: str, count: int, default: int | None = None, low: int = 1) -> list[int]:
        """Return ``count`` whole numbers; one number stands for all."""
        value = self.get(key, default)
        found = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(found) != count or any(not _is_whole(n) or not low <= n < MAX_NUMBER for n in found):
            raise self.wrong(key, f"{count} whole numbers from {low}")
        return found

    def pairs(self, key: str, count: int) -> list[tuple[int, int]]:
        """Return a pair of whole numbers for each axis, written as Keras lets it: 1, (1, 2) or ((1, 1), (2, 2))."""
        value = self.get(key)
        if count == 1 and isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_whole, value)):
            value = [value]
        items = list(value) if isinstance(value, (list, tuple)) else [value] * count
        found = [tuple(item) if isinstance(item, (list, tuple)) else (item, item) for item in items]
        if len(found) != count or any(
            len(pair) != 2 or any(not _is_whole(n) or not 0 <= n < MAX_NUMBER for n in pair) for pair in found
        ):
            raise self.wrong(key, f"{count} pairs of whole numbers from 0")
        return found  # type: ignore[return-value]

    def axes(self, key: str, default: int) -> list[int]:
        """Return one axis or several."""
        value = self.get(key, default)
        found = list(value) if isinstance(value, (list, tuple)) else [value]
        if not found or not all(map(_is_whole, found)):
            raise self.wrong(key, "an axis, or a list of axes")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        value = self.get(key, default)
        if isinstance(value, Mapping):  # Keras 3 writes scalars of numpy as arrays
            value = value.get("config", value)
            value = value.get("value") if isinstance(value, Mapping) else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.wrong(key, "a number")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self.get(key, default)
        if not isinstance(value, bool) and value not in (0, 1):
            raise self.wrong(key, "true or false")
        return bool(value)

    def choice(self, key: str, default: str, known: Collection[str]) -> str:
        """Return one of the words that have a translation.

        Raises:
            UnsupportedError: another word.
        """
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, f"one of {', '.join(known)}")
        if value not in known:
            raise UnsupportedError(f"{key} {_short(value)}")
        return value

    def refuse(self, key: str, *harmless: Any) -> None:
        """Refuse an option unless it is left out or harmless.

        Raises:
            UnsupportedError: names it.
        """
        value = self.values.get(key)
        if value is not None and value is not False and value not in harmless:
            raise UnsupportedError(f"{key}={_short(value)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
