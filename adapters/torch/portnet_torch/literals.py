"""Python expressions of values, layers and paths."""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from portnet.errors import UnsupportedError
from portnet_torch.naming import shortest

__all__ = ["access", "call", "is_name", "layer_arguments", "literal", "numbers", "quoted"]

# arguments of torch's recurrent layers, which hide their signature, and their defaults
_RECURRENT = {
    **{"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False},
    **{"proj_size": 0, "nonlinearity": "tanh"},
}


def literal(value: Any, inner: Callable[[Any], str] | None = None) -> str:
    """Return a Python expression of a value: numbers, strings, torch's constants, and containers of them.

    Args:
        value: what to write.
        inner: writes the entries of containers; None for this function.

    Raises:
        UnsupportedError: anything else.
    """
    inner = inner or literal
    if isinstance(value, list):
        return f"[{', '.join(map(inner, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(inner, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {inner(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, slice):
        return f"slice({', '.join(map(inner, (value.start, value.stop, value.step)))})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise UnsupportedError(f"torch: code cannot write a value of {type(value).__qualname__}", engine="torch")


def numbers(tensor: Tensor) -> str:
    """Return a tensor's elements as nested lists, float32 as its shortest decimals."""
    return literal(_shortened(tensor.tolist()) if tensor.dtype == torch.float32 else tensor.tolist())


def _shortened(items: Any) -> Any:
    return [_shortened(item) for item in items] if isinstance(items, list) else shortest(items)


def quoted(text: str) -> str:
    """Return a string in double quotes where it is plain, else as Python writes it."""
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else repr(text)


def call(head: str, arguments: list[str]) -> str:
    """Return a call on one line."""
    return f"{head}({', '.join(arguments)})"


def is_name(text: str) -> bool:
    """Whether a text can stand after a dot."""
    return text.isidentifier() and not keyword.iskeyword(text)


def access(path: str, *, tensor: bool = False) -> str:
    """Return how ``self`` leads to the layer at a dotted path, or to the tensor there."""
    *owners, leaf = ["", *path.split(".")] if tensor else [*path.split("."), ""]
    text = "self"
    for part in filter(None, owners):
        if is_name(part):
            text += f".{part}"
        else:
            text = f"self.get_submodule({quoted(part)})" if text == "self" else f"{text}[{quoted(part)}]"
    if not tensor:
        return text
    return f"{text}.{leaf}" if is_name(leaf) else f"getattr({text}, {quoted(leaf)})"


def layer_arguments(layer: nn.Module) -> list[str]:
    """Return the arguments that make a layer of torch again: required ones, then those that are no default."""
    required, optional = _parameters(layer)
    arguments = [literal(_simple(getattr(layer, name))) for name in required]
    for name, default in optional.items():
        value = _simple(getattr(layer, name, default))
        if name == "bias":  # an argument says whether there is one, the attribute is it
            value = value is not None and value is not False
        if value != _simple(default) or name == "p":
            arguments.append(f"{name}={literal(value)}")
    first = next(layer.parameters(), None)
    if first is not None and first.dtype != torch.float32:
        arguments.append(f"dtype={first.dtype}")
    return arguments


def _parameters(layer: nn.Module) -> tuple[list[str], dict[str, Any]]:
    if isinstance(layer, nn.RNNBase):
        return ["input_size", "hidden_size"], _RECURRENT
    every = inspect.signature(type(layer)).parameters.values()
    shown = [p for p in every if p.name not in ("device", "dtype") and not p.name.startswith("_")]
    return (
        [p.name for p in shown if p.default is p.empty],
        {p.name: p.default for p in shown if p.default is not p.empty},
    )


def _simple(value: Any) -> Any:
    """Return 3 for (3, 3)."""
    return value[0] if isinstance(value, tuple) and value and set(value) == {value[0]} else value
