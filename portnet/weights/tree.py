"""Names for the arrays in nested dicts and lists, as checkpoints hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from portnet.errors import WeightsError
from portnet.weights.arrays import MAX_ARRAYS

__all__ = ["flatten", "strip_prefixes", "unwrap"]

_Leaf = TypeVar("_Leaf")

# keys that training scripts put a network's weights under, the first that fits is taken
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "params", "weights")
# DistributedDataParallel's and torch.compile's
PREFIXES = ("module.", "_orig_mod.")

_MAX_DEPTH = 16
_MAX_ENTRIES = 10 * MAX_ARRAYS


def unwrap(tree: Any, leaf: type) -> Any:
    """Return the dict of weights inside a checkpoint such as ``{"epoch": 3, "state_dict": {...}}``.

    While no value of the dict is itself a ``leaf``, the first of `WRAPPERS` that holds a dict is entered.
    """
    for _ in range(_MAX_DEPTH):
        if not isinstance(tree, dict) or any(isinstance(value, leaf) for value in tree.values()):
            break
        inner = next((tree[key] for key in WRAPPERS if isinstance(tree.get(key), dict)), None)
        if inner is None:
            break
        tree = inner
    return tree


def flatten(tree: Any, leaf: type[_Leaf], separator: str) -> dict[str, _Leaf]:
    """Return the leaves of nested dicts and lists by path, in order; values of other kinds are left out.

    >>> flatten({"conv1": [1.5, 2.5], "epoch": "3"}, float, "/")
    {'conv1/0': 1.5, 'conv1/1': 2.5}

    Raises:
        WeightsError: nested deeper than 16, over a million entries, or two leaves of one path.
    """
    found: dict[str, _Leaf] = {}
    for count, (path, value) in enumerate(_walk(tree, (), _MAX_DEPTH)):
        if count > _MAX_ENTRIES:
            raise WeightsError(f"checkpoint: more than {_MAX_ENTRIES} entries. Refused.")
        if isinstance(value, leaf):
            name = separator.join(path)
            if name in found:
                raise WeightsError(f"checkpoint: two arrays are named {name!r}")
            found[name] = value
    return found


def strip_prefixes(arrays: Mapping[str, _Leaf]) -> dict[str, _Leaf]:
    """Remove each of `PREFIXES` from the names if every name bears it.

    >>> strip_prefixes({"module.fc.weight": 1, "module.fc.bias": 2})
    {'fc.weight': 1, 'fc.bias': 2}
    """
    stripped = dict(arrays)
    for prefix in PREFIXES:
        if stripped and all(name.startswith(prefix) for name in stripped):
            stripped = {name[len(prefix) :]: value for name, value in stripped.items()}
    return stripped


def _walk(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every entry, containers too, so that a caller's count bounds the walk itself."""
    yield path, value
    if not isinstance(value, (dict, list, tuple)):
        return
    if depth == 0:
        raise WeightsError(f"checkpoint: nested deeper than {_MAX_DEPTH}. Refused.")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from _walk(inner, (*path, str(key)), depth - 1)
