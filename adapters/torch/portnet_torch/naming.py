"""Names for layers and variables out of ONNX names."""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from collections.abc import Container

import numpy as np
import torch.fx

__all__ = ["RESERVED", "LayerPaths", "free", "identifier", "layer_name", "shortest", "weight_owner"]

# what the code of an `fx.GraphModule` calls by these names, an input cannot be called
RESERVED = frozenset({"self", "getattr", "torch", "math", "operator", "builtins", "device", "inf", "nan", "NoneType"})

_SEPARATORS = re.compile(r"[./:]+")
_NO_WORD = re.compile(r"\W+")

# how the framework that made a file calls a layer's weight and bias
_WEIGHT_SUFFIX = re.compile(r"[._/](weight|kernel|gamma|W|bias|beta)$")


def identifier(name: str) -> str:
    """Return a name as a Python identifier: ``/features/conv.1`` becomes ``features_conv_1``."""
    if name.isascii() and name.isidentifier() and name.strip("_") == name and not keyword.iskeyword(name):
        return name
    is_ascii = name.isascii()
    text = _NO_WORD.sub("_", name if is_ascii else unicodedata.normalize("NFKC", name)).strip("_") or "value"
    if not is_ascii:
        text = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in text)
    text = f"_{text}" if text[0].isdigit() else text
    return f"{text}_" if keyword.iskeyword(text) else text


def free(name: str, taken: Container[object]) -> str:
    """Return a name that is not taken: itself, or with underscores behind it."""
    while name in taken:
        name += "_"
    return name


def weight_owner(weight: str) -> str | None:
    """Return the name of the layer that a weight's name tells: ``fc`` for ``fc.weight``, or None."""
    owner = _WEIGHT_SUFFIX.sub("", weight)
    return owner if owner != weight else None


def layer_name(node: str, op: str) -> str:
    """Return the name of the module that a node was exported from: ``body.0.conv`` for ``/body/body.0/conv/Conv``.

    torch's exporter writes the path of the module, each part with all that is above it, and the op last.
    """
    parts = [part for part in node.split("/") if part]
    if len(parts) > 1 and re.fullmatch(rf"{op}(_\d+)?", parts[-1]):
        parts.pop()
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    return ".".join(kept) or node


def shortest(number: float) -> float:
    """Return the shortest decimal that is the same float32: 1e-05 for ONNX's 9.999999747378752e-06."""
    return float(str(np.float32(number)))


class LayerPaths:
    """Gives each layer a dotted path of its own that leads through no other layer."""

    def __init__(self) -> None:
        self._layers: set[str] = set()
        self._parents: set[str] = set()

    def new(self, name: str) -> str:
        """Return a free path for a layer called ``name``; the parts of ``features.3.squeeze`` nest.

        A path that would lead through another layer is joined with underscores; a taken one gets a number.
        """
        parts = [part for part in map(_attribute, _SEPARATORS.split(name)) if part] or ["layer"]
        path, parents = ".".join(parts), _prefixes(parts)
        if not self._is_free(path, parents):
            base, number = "_".join(parts), 1
            path, parents = base, []
            while not self._is_free(path, parents):
                number += 1
                path = f"{base}_{number}"
        self._layers.add(path)
        self._parents.update(parents)
        return path

    def _is_free(self, path: str, parents: list[str]) -> bool:
        return path not in self._layers and path not in self._parents and self._layers.isdisjoint(parents)


def _prefixes(parts: list[str]) -> list[str]:
    return [".".join(parts[:length]) for length in range(1, len(parts))]


@functools.lru_cache(1 << 12)
def _attribute(part: str) -> str:
    """Return a part of a path as an attribute's name, "" where nothing is left of it."""
    part = _NO_WORD.sub("_", part)
    if not part.strip("_"):
        return ""
    taken = hasattr(torch.fx.GraphModule, part) or hasattr(torch.nn.ModuleDict, part) or part in ("training", "graph")
    # torch.fx writes the path as it is into the code of a graph
    return f"{part}_" if taken or keyword.iskeyword(part) else part
