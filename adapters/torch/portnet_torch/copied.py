"""Definitions copied out of their modules, with all that they need there, into a file that has no PortNet."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from portnet.errors import UnsupportedError

__all__ = ["Copied"]

_FOR_LINTERS = re.compile(r"\s*# (type: ignore|fmt: skip|noqa).*$", re.MULTILINE)

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


class Copied:
    """Functions and classes of this package that a generated file takes along.

    Args:
        things: what the file calls. All that they call in their own modules comes with them.
        taken: names that the file defines itself.
    """

    def __init__(self, things: Iterable[Callable[..., Any]], taken: Iterable[str]) -> None:
        self._wanted: dict[_Source, set[str]] = {}
        for thing in things:
            source = _source(thing.__module__)
            self._wanted.setdefault(source, set()).update(source.closure(thing.__name__))
        self._names: dict[tuple[str, str], str] = {}
        used = set(taken)
        for source, names in self._wanted.items():
            for name in source.ordered(names):
                new = name if name not in used else f"{source.stem}_{name}"
                self._names[source.module, name] = new
                used.add(new)

    @property
    def names(self) -> set[str]:
        """Names that the copies have in the file."""
        return set(self._names.values())

    def name(self, thing: Callable[..., Any]) -> str:
        """Return what a function or class is called in the file."""
        return self._names[thing.__module__, thing.__name__]

    def imports(self) -> set[str]:
        """Return the import statements that the copies need."""
        return {line for source, names in self._wanted.items() for line in source.imports_of(names)}

    def text(self) -> str:
        """Return the copies' source."""
        return "\n\n\n".join(self._text(source, names) for source, names in self._wanted.items())

    def _text(self, source: _Source, names: set[str]) -> str:
        renamed = {name: self._names[source.module, name] for name in names}
        nodes = dict.fromkeys(source.definitions[name] for name in source.ordered(names))
        text = "\n\n\n".join(map(source.text, nodes))
        changed = {old: new for old, new in renamed.items() if old != new}
        return _rename(text, changed) if changed else text


@dataclass(frozen=True, eq=False)
class _Source:
    """The top level of one module.

    Attributes:
        module: its dotted name.
        lines: its source.
        definitions: functions, classes and constants by name, in order.
        imports: import statement of each name that an import binds.
    """

    module: str
    lines: list[str]
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        return self.module.rpartition(".")[2].strip("_")

    def closure(self, name: str) -> set[str]:
        """Return a definition's name and those of all definitions of this module that it reaches."""
        found: set[str] = set()
        pending = [name]
        while pending:
            current = pending.pop()
            if current not in found and current in self.definitions:
                found.add(current)
                pending += _free_names(self.definitions[current])
        return found

    def ordered(self, names: set[str]) -> list[str]:
        return [name for name in self.definitions if name in names]

    def imports_of(self, names: set[str]) -> set[str]:
        used = {free for name in names for free in _free_names(self.definitions[name])}
        found = {statement for bound, statement in self.imports.items() if bound in used}
        if own := [statement for statement in found if "portnet" in statement]:
            raise UnsupportedError(f"torch: code cannot take {self.module} along: it needs {own[0]!r}", engine="torch")
        return found

    def text(self, node: Definition) -> str:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return _FOR_LINTERS.sub("", "\n".join(self.lines[first - 1 : node.end_lineno]))


@functools.cache
def _source(module: str) -> _Source:
    text = inspect.getsource(__import__(module, fromlist=["_"]))
    source = _Source(module, text.splitlines())
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            source.definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            bound = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            source.definitions.update(dict.fromkeys(bound, node))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            source.imports.update(_imported(node))
    return source


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Return the statement that imports each name, one name a statement."""
    found = {}
    for alias in node.names:
        single = ast.copy_location(type(node)(**{**vars(node), "names": [alias]}), node)
        found[alias.asname or alias.name.partition(".")[0]] = ast.unparse(single)
    return found


def _free_names(node: ast.AST) -> set[str]:
    """Return names that a definition reads and does not bind itself."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    arguments = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    stored = {each.id for each in names if isinstance(each.ctx, ast.Store)}
    return {each.id for each in names if isinstance(each.ctx, ast.Load)} - arguments - stored


def _rename(text: str, names: dict[str, str]) -> str:
    """Return source in which names, but no attributes of the same name, are replaced."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    pairs = list(zip([None, *tokens], tokens, strict=False))
    for before, token in reversed(pairs):
        if token.type == tokenize.NAME and token.string in names and (before is None or before.string != "."):
            row, start = token.start[0] - 1, token.start[1]
            lines[row] = lines[row][:start] + names[token.string] + lines[row][token.end[1] :]
    return "".join(lines)
