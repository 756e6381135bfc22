"""``.pt2``, the file of torch.export, without trusting it.

`torch.export.load` unpickles what a file holds, evaluates its sizes as Python (by sympy) and looks operations up by any
path below ``torch``. So each member is read and checked here, pickles are left out, and torch is given a new archive in
memory that holds nothing but what was checked.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from portnet.errors import InputError
from portnet.graph.metadata import Metadata
from portnet.graph.travel import FILE, from_text
from portnet.weights.zipped import Archive
from portnet_torch.capturing.modes import quiet
from portnet_torch.capturing.tracing import first_line

__all__ = ["carried_by", "load_program"]

_MODEL = "models/model.json"
_CARRIED = f"extra/{FILE}"
# example inputs are a pickle; sizes tell as much
_EXAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {"data/weights/": "model_weights_config.json", "data/constants/": "model_constants_config.json"}
_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
_MAX_JSON = 256 << 20
_MAX_EXPRESSION = 4096
_ALLOWANCE = 1 << 16

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.(sym_(float|int|ite|max|min|not|sum)|_sym_sqrt)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pos|pow|sub|truediv)"
    r"|math\.(ceil|floor|trunc)"
)
_FUNCTIONS = frozenset(
    """Symbol Integer Float Rational Add Mul Pow FloorDiv Mod PythonMod ModularIndexing Max Min CeilDiv CleanDiv
    CeilToInt FloorToInt TruncToInt ToFloat FloatTrueDiv IntTrueDiv Equality Unequality
    GreaterThan LessThan StrictGreaterThan StrictLessThan Eq Ne Ge Le Gt Lt And Or Not""".split()  # noqa: SIM905
)
_NAME = re.compile(r"[A-Za-z_]\w{0,63}")
_VALUES = re.compile(r"[sucz]\d+|oo|int_oo|true|false")


def load_program(path: Path) -> ExportedProgram:
    """Read a program of torch.export; nothing of the file is executed.

    Raises:
        InputError: no such file, another kind of archive, damaged, or with anything that torch would run.
    """
    if not path.is_file():
        raise InputError(f"source: no such file: {path}")
    try:
        members = _checked(Archive(path), path)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no program of torch.export, or damaged: {first_line(error)}") from error
    try:
        with quiet():
            return torch.export.load(_archive(members))
    except Exception as error:  # torch raises whatever it meets
        raise InputError(
            f"{path}: torch {torch.__version__} cannot read the program: {first_line(error)}. "
            "Write it again with torch.export.save."
        ) from error


def carried_by(path: Path) -> Metadata:
    """Return what PortNet left in a program's file besides the network.

    Raises:
        ModelError: it is ill-formed.
    """
    archive = Archive(path)
    name = next((name for name in archive.members if name.partition("/")[2] == _CARRIED), None)
    return Metadata() if name is None else from_text(archive.stored(name), str(path))


def _archive(members: dict[str, bytes | memoryview]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"program/{name}", bytes(data))
    buffer.seek(0)
    return buffer


def _checked(archive: Archive, path: Path) -> dict[str, bytes | memoryview]:
    """Return the members that torch may see, by their names below the archive's folder."""
    roots = [name.removesuffix(_MODEL) for name in archive.members if name.endswith(f"/{_MODEL}")]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise InputError(
            f"{path}: got {', '.join(sorted(archive.members)[:3]) or 'no members'}, expected a program that "
            "torch.export.save of torch 2.8 or later wrote. Load it where it was written, and save it again."
        )
    root = roots[0]
    members: dict[str, bytes | memoryview] = {_MODEL: archive.stored(root + _MODEL), _EXAMPLES: b""}
    members |= {name: archive.stored(root + name) for name in _PLAIN if root + name in archive.members}
    _check_graph(_json(members[_MODEL], _MODEL, path), path)
    for folder, config in _CONFIGS.items():
        name = folder + config
        members[name] = archive.stored(root + name)
        for entry in _payloads(_json(members[name], name, path), name, path):
            member = folder + entry["path_name"]
            members[member] = archive.stored(root + member)
            _check_size(entry, len(members[member]), path)
    return members


def _json(data: bytes | memoryview, name: str, path: Path) -> Any:
    if len(data) > _MAX_JSON:
        raise InputError(f"{path}: {name} has {len(data):,} bytes, expected at most {_MAX_JSON:,}. Refused.")
    return json.loads(bytes(data))


# ---- weights


def _payloads(config: Any, name: str, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entry of each tensor; what is stored as a pickle is refused."""
    for tensor, entry in config["config"].items():
        file = entry["path_name"]
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", file):
            raise InputError(
                f"{path}: {tensor!r} in {name} is stored as a pickle or an object of torch's own ({file}). Refused: "
                "reading it could run code. Export the network with plain tensors alone."
            )
        yield entry


def _check_size(entry: dict[str, Any], size: int, path: Path) -> None:
    """Make sure that a tensor has no more entries than its member has bytes: a stride of 0 makes any number of few."""
    sizes = [int(number["as_int"]) for number in entry["tensor_meta"]["sizes"]]
    if any(number < 0 for number in sizes) or math.prod(sizes) > size + _ALLOWANCE:
        raise InputError(f"{path}: a tensor of sizes {sizes} does not fit its {size} bytes. Refused.")


# ---- the graph


def _check_graph(program: Any, path: Path) -> None:
    """Refuse operations and sizes that are more than arithmetic.

    Raises:
        InputError: the first one, shortened.
    """
    for key, value in _entries(program):
        if key == "target" and isinstance(value, str) and _TARGET.fullmatch(value) is None:
            raise InputError(
                f"{path}: operation {value[:80]!r} is refused: only torch's own operations on tensors are read. "
                "A network with operations of your own is captured from its code: package.module:factory."
            )
        if key == "expr_str" and not _is_arithmetic(value):
            raise InputError(f"{path}: size {str(value)[:80]!r} is refused: only arithmetic on sizes is read")
        if key in ("in_spec", "out_spec", "dataclass_name", "as_custom_obj") and not _is_plain(key, value):
            raise InputError(f"{path}: {key} {str(value)[:80]!r} is refused: only tuples, lists and dicts are read")
    for symbol in program.get("range_constraints") or {}:
        if not _is_arithmetic(symbol):
            raise InputError(f"{path}: size {symbol[:80]!r} is refused: only arithmetic on sizes is read")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of every object inside, with its value."""
    todo = [value]
    while todo:
        current = todo.pop()
        if isinstance(current, dict):
            yield from current.items()
            todo += current.values()
        elif isinstance(current, list):
            todo += current


_BUILTIN = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})


def _is_plain(key: str, value: Any) -> bool:
    if key not in ("in_spec", "out_spec"):
        return value is None
    if not isinstance(value, str):
        return value is None
    kinds = (
        {entry for name, entry in _entries(json.loads(value)) if name == "type" and entry is not None}
        if value
        else set()
    )
    return kinds <= _BUILTIN


def _is_arithmetic(text: Any) -> bool:
    """Whether an expression holds sizes, whole numbers and known functions alone, none of which can grow large."""
    if not isinstance(text, str) or len(text) > _MAX_EXPRESSION:
        return False
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return _is_known(tree)


def _is_known(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        is_number = isinstance(node.value, (bool, int, float)) and abs(node.value) < 2**63
        return is_number or (isinstance(node.value, str) and _NAME.fullmatch(node.value) is not None)
    if isinstance(node, ast.Name):
        return _VALUES.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_known(node.operand)
    if isinstance(node, ast.BinOp):
        known = isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod))
        return known and _is_known(node.left) and _is_known(node.right)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    if node.func.id == "Pow" and not _is_small_power(node):
        return False
    return all(map(_is_known, node.args)) and all(_is_known(keyword.value) for keyword in node.keywords)


def _is_small_power(node: ast.Call) -> bool:
    """Whether a power is of something that holds none, by -8 to 8."""
    inner = [call for call in ast.walk(node) if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Pow"]
    if len(inner) != 1 or len(node.args) != 2:
        return False
    exponent = ast.unparse(node.args[1]).removeprefix("Integer(").removesuffix(")")
    return re.fullmatch(r"-?[0-8]", exponent) is not None
