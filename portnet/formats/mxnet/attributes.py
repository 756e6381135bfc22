"""What MXNet writes as text, read back: numbers, truth values, tuples. Nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping

from portnet.errors import ModelError

__all__ = ["Attributes"]

_MAX_TEXT = 1 << 16
_MAX_ITEMS = 256
# Python 2 wrote its long integers with an L
_INTEGER = re.compile(r"^[+-]?\d{1,18}L?$")
_TRUTH = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}
_OPENING, _CLOSING = ("(", "["), (")", "]")
_WITHOUT_BRACKETS = str.maketrans("", "", "()[]")
_NOTHING = frozenset({"None", "", "none"})
_MISSING = object()

# what has no say in what a network computes
_WITHOUT_EFFECT = frozenset(
    {
        *("workspace", "cudnn_tune", "cudnn_off", "cudnn_algo_verbose", "num_args", "key_var_num_args"),
        *("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "init", "dtype_hint"),
        *("min_calib_range", "max_calib_range", "sparse_grad", "lhs_stype", "name", "attr", "is_int"),
    }
)
_SUFFIXES = ("_lr_mult", "_wd_mult", "_init")


class Attributes:
    """The attributes of one node; what is asked for is remembered.

    Every method returns ``default`` where the attribute is absent.

    Args:
        texts: what the file says.
        where: the node, for messages.
    """

    def __init__(self, texts: Mapping[str, str], where: str) -> None:
        self._texts, self._where = texts, where
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def unread(self) -> list[str]:
        """Return the attributes that nobody asked for and that might change what the node computes."""
        return [key for key in self._texts if key not in self._read and not _is_without_effect(key)]

    def ignore(self, *keys: str) -> None:
        """Say that attributes are known, and have no say in inference."""
        self._read.update(keys)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a word."""
        value = self._take(key)
        if value is None:
            return self._default(key, default)
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return a truth value."""
        value = self._take(key)
        if value is None or value in _NOTHING:
            return self._default(key, default)
        if value not in _TRUTH:
            raise self._wrong(key, value, "True or False")
        return _TRUTH[value]

    def integer(self, key: str, default: int | None = None, least: int | None = None) -> int:
        """Return an integer of at least ``least``."""
        number = self.maybe_integer(key)
        if number is None:
            number = self._default(key, default)
        if least is not None and number < least:
            raise self._wrong(key, str(number), f"at least {least}")
        return number

    def maybe_integer(self, key: str) -> int | None:
        """Return an integer, or None where it is absent or None."""
        value = self._take(key)
        if value is None or value in _NOTHING:
            return None
        return self._integer(key, value)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a floating-point number."""
        value = self._take(key)
        if value is None or value in _NOTHING:
            return self._default(key, default)
        try:
            return float(value.rstrip("fL"))
        except ValueError:
            raise self._wrong(key, value, "a number") from None

    def maybe_number(self, key: str) -> float | None:
        """Return a floating-point number, or None where it is absent or None."""
        value = self._take(key)
        return None if value is None or value in _NOTHING else self.number(key)

    def integers(self, key: str, default: tuple[int, ...] = (), least: int | None = None) -> tuple[int, ...]:
        """Return a tuple of integers of at least ``least``; a bare number is a tuple of one."""
        items = self.maybe_integers(key)
        numbers = default if items is None else tuple(item for item in items if item is not None)
        if items is not None and len(numbers) != len(items):
            raise self._wrong(key, self._texts[key], "integers")
        if least is not None and any(number < least for number in numbers):
            raise self._wrong(key, self._texts.get(key, str(numbers)), f"integers of at least {least}")
        return numbers

    def maybe_integers(self, key: str) -> tuple[int | None, ...] | None:
        """Return a tuple in which numbers may be None, or None where it is absent or None.

        A tuple of tuples, as MXNet's numpy operators write it, is one long tuple.
        """
        value = self._take(key)
        if value is None or value in _NOTHING:
            return None
        inner = value.strip()
        if inner[:1] in _OPENING and inner[1:2] in _OPENING and inner[-2:-1] in _CLOSING and inner[-1:] in _CLOSING:
            inner = inner[1:-1].translate(_WITHOUT_BRACKETS)
        if inner[:1] + inner[-1:] in ("()", "[]"):
            inner = inner[1:-1]
        items = [item.strip() for item in inner.split(",")] if inner.strip() else []
        if items and items[-1] == "":
            items.pop()
        if len(items) > _MAX_ITEMS:
            raise self._wrong(key, f"{len(items)} numbers", f"at most {_MAX_ITEMS}")
        return tuple(None if item == "None" else self._integer(key, item) for item in items)

    # ---- how

    def _take(self, key: str) -> str | None:
        self._read.add(key)
        return self._texts.get(key)

    def _integer(self, key: str, value: str) -> int:
        if not _INTEGER.match(value):
            # "2.0", as some front ends wrote
            try:
                number = float(value)
            except ValueError:
                raise self._wrong(key, value, "an integer") from None
            if not number.is_integer() or abs(number) > 2**53:
                raise self._wrong(key, value, "an integer")
            return int(number)
        return int(value.rstrip("L"))

    def _default(self, key: str, default: object) -> any:  # type: ignore[valid-type]
        if default is None:
            raise ModelError(f"{self._where}: attribute {key!r} is missing")
        return default

    def _wrong(self, key: str, value: str, expected: str) -> ModelError:
        shown = value if len(value) <= 60 else value[:60] + "…"
        return ModelError(f"{self._where}: {key} got {shown!r}, expected {expected}")


def _is_without_effect(key: str) -> bool:
    return key in _WITHOUT_EFFECT or (key.startswith("__") and key.endswith("__")) or key.endswith(_SUFFIXES)
