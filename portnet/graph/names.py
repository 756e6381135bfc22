"""What exporters' names say of the network that a graph was made from, and names that are free."""

from __future__ import annotations

import re

__all__ = ["layer_name", "node_path", "take_name", "weight_owner"]

# how the framework that made a file calls a layer's weight and bias
_WEIGHT_SUFFIX = re.compile(r"[._/](weight|kernel|gamma|W|bias|beta)$")


def take_name(base: str, taken: set[str], first: int = 2) -> str:
    """Return ``base``, or ``base_2``, ``base_3``, ... where it is taken, and take it.

    >>> take_name("relu", {"relu", "relu_2"})
    'relu_3'

    Args:
        base: the name that is wanted.
        taken: names that are taken; the one returned is added.
        first: number that the first name after ``base`` bears.
    """
    name, number = base, first
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return name


def weight_owner(weight: str) -> str | None:
    """Return the name of the layer that a weight's name tells: ``fc`` for ``fc.weight``, or None."""
    owner = _WEIGHT_SUFFIX.sub("", weight)
    return owner if owner != weight else None


def node_path(node: str) -> str:
    """Return where a node was exported from: ``body.0.conv.Conv`` for ``/body/body.0/conv/Conv``.

    torch's exporter writes the path of the module, each part with all that is above it, and the op last.
    """
    parts = [part for part in node.split("/") if part]
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    return ".".join(kept) or node


def layer_name(node: str, op: str) -> str:
    """Return the module that a node was exported from: ``body.0.conv`` for ``/body/body.0/conv/Conv``."""
    module = re.sub(rf"(?<=.)/{op}(_\d+)?$", "", node)
    return node_path(module)
