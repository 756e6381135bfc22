"""What exporters' names say of the network that a graph was made from."""

from __future__ import annotations

import re

__all__ = ["layer_name", "node_path", "weight_owner"]

# how the framework that made a file calls a layer's weight and bias
_WEIGHT_SUFFIX = re.compile(r"[._/](weight|kernel|gamma|W|bias|beta)$")


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
