"""How a network is called, and what it returns, as torch.export takes them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from portnet.errors import InputError

__all__ = ["Call", "call_of", "other_results", "plain", "plain_results"]


@dataclass(frozen=True)
class Call:
    """The arguments of a call.

    Attributes:
        positional: arguments by place.
        named: those that go by name, in the order of the signature.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any] = dataclasses.field(default_factory=dict)

    def map(self, function: Callable[[Any], Any]) -> Call:
        """Return the same call with a function of each leaf."""
        return Call(*pytree.tree_map(function, (self.positional, self.named)))

    def leaves(self) -> list[Any]:
        """Return tensors and whatever else there is at the ends, in the order in which torch.export names them."""
        return pytree.tree_leaves((self.positional, self.named))

    def of(self, native: Callable[..., Any]) -> Any:
        """Return what a network makes of it."""
        return native(*self.positional, **self.named)


def call_of(native: nn.Module, examples: tuple[Any, ...], device: torch.device) -> Call:
    """Return examples as ``forward`` takes them: arrays as tensors on a device; a mapping goes by parameters' names.

    Raises:
        InputError: the mapping lacks what ``forward`` needs.
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            leaf = torch.from_numpy(np.ascontiguousarray(leaf))
        return leaf.detach().to(device) if isinstance(leaf, Tensor) else leaf

    return _by_name(native, examples).map(convert)


def _by_name(native: nn.Module, examples: tuple[Any, ...]) -> Call:
    given = examples[0] if len(examples) == 1 else None
    parameters = inspect.signature(native.forward).parameters
    names = [name for name, parameter in parameters.items() if parameter.kind in _BY_PLACE]
    named = [name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if not isinstance(given, Mapping) or not given or not _are_names(set(given), {*names, *named}, takes_any):
        return Call(tuple(examples))
    last = max((index + 1 for index, name in enumerate(names) if name in given), default=0)
    needed = [*names[:last], *named]
    missing = [name for name in needed if name not in given and parameters[name].default is inspect.Parameter.empty]
    if missing:
        raise InputError(f"capture: got example inputs {', '.join(given)}, expected {', '.join(missing)} as well")
    positional = tuple(given.get(name, parameters[name].default) for name in names[:last])
    rest = [*(name for name in named if name in given), *(name for name in given if name not in (*names, *named))]
    return Call(positional, {name: given[name] for name in rest})


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _are_names(given: set[Any], known: set[str], takes_any: bool) -> bool:
    return given <= known or (takes_any and bool(given & known) and all(isinstance(key, str) for key in given))


def plain(results: Any) -> Any:
    """Return results as torch.export takes them: mappings and objects of other classes as dicts, and tensors alone."""
    return pytree.tree_map(_opened, results)


def _opened(leaf: Any) -> Any:
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        return {field.name: plain(getattr(leaf, field.name)) for field in dataclasses.fields(leaf)}
    if isinstance(leaf, (Mapping, SimpleNamespace)):
        return {key: plain(value) for key, value in (vars(leaf) if isinstance(leaf, SimpleNamespace) else leaf).items()}
    if isinstance(leaf, (list, tuple)):
        return [plain(value) for value in leaf]
    return leaf if isinstance(leaf, Tensor) else None


def other_results(results: Any, place: str = "") -> list[str]:
    """Return places and values of results that `plain` leaves out; None, which means no result, is not told."""
    if isinstance(results, Tensor) or results is None:
        return []
    inside: Iterable[tuple[Any, Any]] = ()
    if dataclasses.is_dataclass(results) and not isinstance(results, type):
        inside = [(field.name, getattr(results, field.name)) for field in dataclasses.fields(results)]
    elif isinstance(results, SimpleNamespace):
        inside = vars(results).items()
    elif isinstance(results, Mapping):
        inside = results.items()
    elif isinstance(results, (list, tuple)):
        inside = zip(getattr(results, "_fields", range(len(results))), results, strict=True)
    else:
        return [f"{place or 'the result'} ({repr(results)[:40]})"]
    return [told for key, value in inside for told in other_results(value, f"{place}.{key}" if place else str(key))]


@contextlib.contextmanager
def plain_results(native: nn.Module) -> Iterator[None]:
    """Let a network's ``forward`` return `plain` results for a while; signature and weights' names are its own."""
    own = vars(native).get("forward")
    forward = native.forward

    @functools.wraps(forward)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        return plain(forward(*arguments, **options))

    vars(native)["forward"] = wrapped
    try:
        yield
    finally:
        if own is None:
            del vars(native)["forward"]
        else:
            vars(native)["forward"] = own
