"""What an output that knows few characters is told in their place: an ASCII pipe shows 224x224 for 224×224."""

from __future__ import annotations

import codecs
from typing import Any

__all__ = ["HANDLER", "legible"]

HANDLER = "portnet.legible"
_PLAIN = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "…": "...", "·": "*", "≤": "<=", "≥": ">=", "→": "->", "’": "'", "μ": "u", "ε": "e"}
)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(HANDLER, _replace)


def legible(text: str, stream: Any) -> str:
    """Return what ``stream`` can encode of a text: other characters are spelt, or written as \\xNN."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, HANDLER).decode(encoding)
