"""A reader for the part of pickle that holds data. Nothing is imported and nothing of the file is called.

`pickle.load` runs whatever a file names. This machine knows the opcodes that build numbers, text, lists, tuples
and dicts, and looks every other name up in a table given by the caller; a name that is not in it ends the reading.
Opcodes and their arguments are decoded by the standard library's `pickletools`, which executes nothing.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from portnet.errors import WeightsError
from portnet.weights.arrays import Buffer

__all__ = ["Known", "Stateful", "Stream", "unpickle"]

# a network of 10,000 tensors takes about 300,000
MAX_OPERATIONS = 2_000_000
_MAX_LINE = 4096


class Known(NamedTuple):
    """A function of ours that stands for a name in the file, e.g. for ``torch._utils._rebuild_tensor_v2``."""

    function: Callable[..., Any]


class Stateful:
    """A value of ours that the file may give a state to (pickle's BUILD)."""

    def build(self, state: Any) -> None:
        """Take the state."""
        raise NotImplementedError


class Stream:
    """Bounded reads from bytes or a mapped file, as `pickletools.genops` asks for them.

    Args:
        data: where to read from.
        position: byte to begin at.
    """

    def __init__(self, data: Buffer, position: int = 0) -> None:
        self.data, self.position = data, position

    def read(self, count: int) -> bytes:
        """Return at most ``count`` bytes."""
        start, self.position = self.position, min(self.position + count, len(self.data))
        return bytes(self.data[start : self.position])

    def readline(self) -> bytes:
        """Return bytes up to and with the next newline, at most 4096."""
        start = self.position
        line = bytes(self.data[start : start + _MAX_LINE])
        line = line[: line.find(b"\n") + 1]
        self.position = start + len(line)
        return line

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self.position


def unpickle(stream: Stream, known: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return the value that the pickle at ``stream`` describes; the stream is left right behind it.

    Args:
        stream: where the pickle begins.
        known: what names in the file mean: a `Known` function, or a plain value.
        persistent: resolves persistent ids (torch's storages); None refuses them.

    Raises:
        WeightsError: a name or opcode that is not allowed, a broken pickle, or one of over 2,000,000 operations.
    """
    machine = _Machine(known, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(Any, stream))):
            if count >= MAX_OPERATIONS:
                raise WeightsError(f"pickle: more than {MAX_OPERATIONS} operations. Refused.")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except WeightsError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise WeightsError(f"broken pickle near byte {stream.position}: {error}. Fetch the file again.") from error


class _Machine:
    """Pickle's stack, marks and memo, and one method for each group of opcodes."""

    def __init__(self, known: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> None:
        self.known, self.persistent = known, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        elif name not in _SILENT:
            raise WeightsError(f"pickle: opcode {name} is refused: it is not needed for weights and could run code")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def drop(self, _: Any) -> None:
        self.since_mark()

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int) -> None:
        items = self.stack[len(self.stack) - count :]
        if len(items) != count:
            raise IndexError("stack underflow")
        self.stack[len(self.stack) - count :] = [tuple(items)]

    def append(self, items: list[Any]) -> None:
        _expect(list, self.stack[-1]).extend(items)

    def new_dict(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        target = _expect(dict, self.stack[-1])
        target.update(zip(map(_scalar, items[::2]), items[1::2], strict=True))

    def name(self, name: str) -> None:
        if name not in self.known:
            raise WeightsError(
                f"pickle: the file names {name!r}, which is refused: only tensors and plain values are read. "
                "Save the state_dict alone, or as .safetensors."
            )
        self.stack.append(self.known[name])

    def stack_name(self, _: Any) -> None:
        name, module = _expect(str, self.stack.pop()), _expect(str, self.stack.pop())
        self.name(f"{module}.{name}")

    def reduce(self, _: Any) -> None:
        arguments = _expect(tuple, self.stack.pop())
        self.stack.append(_expect(Known, self.stack.pop()).function(*arguments))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        # an OrderedDict of torch carries its _metadata as state: no weights in it
        if not isinstance(self.stack[-1], dict):
            _expect(Stateful, self.stack[-1]).build(state)

    def persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise WeightsError("pickle: persistent ids are refused in this kind of file")
        self.stack.append(self.persistent(self.stack.pop()))


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"got a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _scalar(key: Any) -> Any:
    # hashing a container of the file's making may take for ever or overflow the C stack
    if not isinstance(key, (str, int, float, bytes, type(None))):
        raise TypeError(f"got a {type(key).__name__} as key of a dict, expected text or a number")
    return key


_SILENT = {"PROTO", "FRAME", "STOP"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.drop,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "DICT": _Machine.new_dict,
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": lambda machine, pair: machine.name(pair.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
