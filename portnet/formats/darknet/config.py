"""A .cfg: sections of options. https://github.com/pjreddie/darknet/blob/master/src/option_list.c and parser.c."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from portnet.errors import ModelError

__all__ = ["Section", "read_config"]

MAX_BYTES = 16 << 20
MAX_SECTIONS = 5_000
# what options may be; larger ones belong to no network
_LARGEST = 1 << 31
_INTEGER = re.compile(r"[-+]?\d{1,12}")


@dataclass
class Section:
    """A section.

    Attributes:
        kind: its name, e.g. "convolutional".
        place: what messages call it: file and line.
        options: as they are written.
        asked: options that somebody has read.
    """

    kind: str
    place: str
    options: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    @property
    def unasked(self) -> list[str]:
        """Options that nobody has read."""
        return [name for name in self.options if name not in self.asked]

    def word(self, name: str, default: str) -> str:
        """Return an option as it is written."""
        self.asked.add(name)
        return self.options.get(name, default)

    def integer(self, name: str, default: int) -> int:
        """Return an integer."""
        self.asked.add(name)
        return self._integer(name, self.options[name]) if name in self.options else default

    def integers(self, name: str) -> list[int]:
        """Return integers between commas."""
        text = self.word(name, "")
        return [self._integer(name, word) for word in text.split(",") if word] if text else []

    def number(self, name: str, default: float) -> float:
        """Return a finite number."""
        self.asked.add(name)
        text = self.options.get(name, str(default))
        try:
            number = float(text) if len(text) < 64 else math.inf
        except ValueError:
            number = math.inf
        if not math.isfinite(number):
            raise ModelError(f"{self.place}: {name} got {text[:40]!r}, expected a number")
        return number

    def _integer(self, name: str, text: str) -> int:
        if not _INTEGER.fullmatch(text) or abs(int(text)) > _LARGEST:
            raise ModelError(f"{self.place}: {name} got {text[:40]!r}, expected an integer")
        return int(text)


def read_config(path: Path) -> list[Section]:
    """Return the sections; spaces count nowhere, lines that begin with # or ; are comments, and so is what follows a #.

    Raises:
        ModelError: no such file, no .cfg, or none that begins with [net].
    """
    if not path.is_file():
        raise ModelError(f"no such architecture file: {path}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ModelError(f"{path}: got more than {MAX_BYTES >> 20} MiB, expected a .cfg. Refused.")
    sections: list[Section] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        text = "".join(line.split()).strip("\ufeff\0")
        if not text or text[0] in "#;":
            continue
        if text[0] == "[":
            sections.append(Section(text.strip("[]"), f"{path}, line {number}"))
        elif "=" in text and sections:
            name, _, value = text.partition("=")
            sections[-1].options[name] = value.partition("#")[0]
        else:
            raise ModelError(f"{path}, line {number}: got {text[:40]!r}, expected [section] or option=value")
    if not sections or sections[0].kind not in ("net", "network"):
        raise ModelError(f"{path}: expected a .cfg that begins with [net]")
    if len(sections) > MAX_SECTIONS:
        raise ModelError(f"{path}: got {len(sections)} sections, expected at most {MAX_SECTIONS}. Refused.")
    return sections
