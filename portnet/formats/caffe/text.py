"""Protobuf's text format, in which Caffe keeps architectures, as messages of untyped fields.

https://protobuf.dev/reference/protobuf/textformat-spec. A field's type is known to whoever asks for it, so forks of
Caffe with fields of their own can be read, and what nobody asked for can be told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from portnet.errors import ModelError

__all__ = ["Message", "Scalar", "parse"]

MAX_BYTES = 64 << 20
MAX_DEPTH = 24
MAX_FIELDS = 2_000_000

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?|inf(?:inity)?|nan))
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<mark>[-{}<>:\[\],;])""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})")
_REAL = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?|inf(?:inity)?|nan)", re.IGNORECASE)
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_CLOSING = {"{": "}", "<": ">"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Scalar:
    """A value as it was written: a number, a name of an enum, or a string."""

    text: str
    quoted: bool
    line: int


@dataclass
class Message:
    """Fields by name, each with its values in order.

    Attributes:
        source: what the file is called in messages.
        line: where it begins.
        fields: values by field.
        asked: fields that somebody has read.
    """

    source: str
    line: int = 1
    fields: dict[str, list[Scalar | Message]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    @property
    def unasked(self) -> list[str]:
        """Fields that nobody has read."""
        return [name for name in self.fields if name not in self.asked]

    # ---- values, by the type that the reader expects

    def messages(self, name: str) -> list[Message]:
        """Return the messages of a repeated field."""
        found = self._values(name)
        for value in found:
            if isinstance(value, Scalar):
                raise self._wrong(name, value, "a message in braces")
        return [value for value in found if isinstance(value, Message)]

    def message(self, name: str) -> Message:
        """Return a message; an empty one where there is none. Several are merged, as protobuf does."""
        found = self.messages(name)
        if len(found) == 1:
            return found[0]
        if not found:
            return Message(self.source, self.line)
        merged = Message(self.source, found[0].line)
        for part in found:
            for key, values in part.fields.items():
                merged.fields.setdefault(key, []).extend(values)
        self.fields[name] = [merged]
        return merged

    def strings(self, name: str) -> list[str]:
        """Return the strings or names of a repeated field."""
        return [value.text for value in self._scalars(name)]

    def string(self, name: str, default: str = "") -> str:
        """Return a string or name; of several, the last."""
        found = self.strings(name)
        return found[-1] if found else default

    def word(self, name: str, default: str, numbers: tuple[str, ...] = ()) -> str:
        """Return the name of an enum's value; ``numbers`` are the names by number."""
        text = self.string(name, default)
        if text.isascii() and text.isdigit() and len(text) < 4 and int(text) < len(numbers):
            return numbers[int(text)]
        return text

    def integers(self, name: str) -> list[int]:
        """Return the integers of a repeated field."""
        return [self._integer(name, value) for value in self._scalars(name)]

    def integer(self, name: str, default: int) -> int:
        """Return an integer; of several, the last."""
        found = self.integers(name)
        return found[-1] if found else default

    def numbers(self, name: str) -> list[float]:
        """Return the finite numbers of a repeated field."""
        return [self._number(name, value) for value in self._scalars(name)]

    def number(self, name: str, default: float) -> float:
        """Return a finite number; of several, the last."""
        found = self.numbers(name)
        return float(found[-1] if found else default)

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        found = self._scalars(name)
        if not found:
            return default
        if found[-1].quoted or found[-1].text.lower() not in _FLAGS:
            raise self._wrong(name, found[-1], "true or false")
        return _FLAGS[found[-1].text.lower()]

    # ---- how

    def _values(self, name: str) -> list[Scalar | Message]:
        self.asked.add(name)
        return self.fields.get(name, [])

    def _scalars(self, name: str) -> list[Scalar]:
        found = self._values(name)
        for value in found:
            if isinstance(value, Message):
                raise ModelError(f"{self.source}, line {value.line}: {name} got a message, expected a value")
        return [value for value in found if isinstance(value, Scalar)]

    def _integer(self, name: str, value: Scalar) -> int:
        if value.quoted or not _INTEGER.fullmatch(value.text):
            raise self._wrong(name, value, "an integer")
        digits = value.text.lstrip("+-")
        base = 10 if digits == "0" or digits[0] != "0" else 0
        if base == 0:
            base = 16 if digits[1] in "xX" else 8
        try:
            number = int(value.text, base)
        except ValueError:
            raise self._wrong(name, value, "an integer") from None
        if not -(1 << 63) <= number < 1 << 63:
            raise self._wrong(name, value, "an integer of 64 bits")
        return number

    def _number(self, name: str, value: Scalar) -> float:
        if value.quoted or not _REAL.fullmatch(value.text):
            raise self._wrong(name, value, "a number")
        number = float(value.text.lower().removesuffix("f") if "inf" not in value.text.lower() else value.text)
        if not math.isfinite(number):
            raise self._wrong(name, value, "a finite number")
        return number

    def _wrong(self, name: str, value: Scalar, expected: str) -> ModelError:
        return ModelError(f"{self.source}, line {value.line}: {name} got {value.text[:40]!r}, expected {expected}")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(path: Path) -> Message:
    """Read a file in text format.

    Raises:
        ModelError: no such file, no text format, or more than 64 MiB or 24 levels.
    """
    if not path.is_file():
        raise ModelError(f"no such architecture file: {path}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ModelError(f"{path}: got more than {MAX_BYTES >> 20} MiB, expected a prototxt. Refused.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is no prototxt: byte {error.start} is not UTF-8") from error
    return _Parser(text, str(path)).message()


class _Parser:
    """A stack of open messages, so that nesting costs no recursion."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._tokens = _tokens(text, source)
        self._next: _Token | None = next(self._tokens, None)
        self._count = 0

    def message(self) -> Message:
        """Parse the file."""
        root = Message(self.source)
        stack, closers = [root], [""]
        while self._next is not None:
            token = self._take()
            if token.text in ("}", ">") and token.kind == "mark":
                if token.text != closers[-1]:
                    raise self._error(token, f"got {token.text!r}, expected {closers[-1] or 'a field'}")
                stack.pop()
                closers.pop()
                self._separator()
            elif token.kind == "word":
                opened = self._field(stack[-1], token)
                if opened is not None:
                    stack.append(opened[0])
                    closers.append(opened[1])
                    if len(stack) > MAX_DEPTH:
                        raise self._error(token, f"got more than {MAX_DEPTH} levels. Refused.")
            else:
                raise self._error(token, f"got {token.text[:40]!r}, expected a field's name")
        if len(stack) > 1:
            raise ModelError(f"{self.source} ends inside a message that began in line {stack[-1].line}")
        return root

    def _field(self, parent: Message, name: _Token) -> tuple[Message, str] | None:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise ModelError(f"{self.source}: got more than {MAX_FIELDS:,} fields. Refused.")
        values = parent.fields.setdefault(name.text, [])
        has_colon = self._accept(":")
        for opening, closing in _CLOSING.items():
            if self._accept(opening):
                inner = Message(self.source, name.line)
                values.append(inner)
                return inner, closing
        if not has_colon:
            raise self._error(self._next or name, f"field {name.text!r}: expected ':' or '{{'")
        if self._accept("["):
            self._list(values, name)
        else:
            values.append(self._scalar(name))
        self._separator()
        return None

    def _list(self, values: list[Scalar | Message], name: _Token) -> None:
        while not self._accept("]"):
            values.append(self._scalar(name))
            self._count += 1
            if not self._accept(",") and (self._next is None or self._next.text != "]"):
                raise self._error(self._next or name, f"field {name.text!r}: expected ',' or ']'")

    def _scalar(self, name: _Token) -> Scalar:
        if self._next is None:
            raise self._error(name, f"field {name.text!r} has no value")
        token = self._take()
        if token.kind == "string":
            text = _unquoted(token.text)
            while self._next is not None and self._next.kind == "string":
                text += _unquoted(self._take().text)
            return Scalar(text, True, token.line)
        if token.text == "-" and self._next is not None and self._next.kind in ("number", "word"):
            return Scalar(f"-{self._take().text}", False, token.line)
        if token.kind == "mark":
            raise self._error(token, f"field {name.text!r}: got {token.text!r}, expected a value")
        return Scalar(token.text, False, token.line)

    def _separator(self) -> None:
        if not self._accept(","):
            self._accept(";")

    def _accept(self, mark: str) -> bool:
        if self._next is None or self._next.kind != "mark" or self._next.text != mark:
            return False
        self._take()
        return True

    def _take(self) -> _Token:
        token, self._next = self._next, next(self._tokens, None)
        assert token is not None
        return token

    def _error(self, token: _Token, what: str) -> ModelError:
        return ModelError(f"{self.source}, line {token.line}: no prototxt: {what}")


def _tokens(text: str, source: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ModelError(f"{source}, line {line}: no prototxt: got {text[position : position + 20]!r}")
        kind, found = match.lastgroup or "", match.group()
        if kind != "space":
            yield _Token(kind, found, line)
        line += found.count("\n")
        position = match.end()


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(_escaped, text[1:-1])


def _escaped(match: re.Match[str]) -> str:
    what = match.group(1)
    if what[0] == "x" and len(what) > 1:
        return chr(int(what[1:], 16))
    if what[0] in "01234567":
        return chr(int(what, 8) & 0xFF)
    return _ESCAPED.get(what, what)
