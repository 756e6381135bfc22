"""Arrays that a layer of the user's own multiplies, adds or looks up itself: a living network tells them as layers."""

from __future__ import annotations

import numpy as np

from portnet.errors import WeightsError
from portnet.formats.keras.held import Held
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk
from portnet.graph.parameters import ROLE_MARK, Role, mark_constant

__all__: list[str] = []


@layer("Variable", "Constant")
def variable(walk: Walk, node: LayerNode) -> Held:
    """A variable, which trains where Keras says so; a constant never does."""
    shape = tuple(node.options.integers("shape", len(node.options.get("shape", ())), low=0))
    (array,) = walk.supply.arrays(node.path, [Slot("value", shape)])
    if tuple(array.shape) != shape:
        raise WeightsError(f"weights: {node.name!r} got shape {tuple(array.shape)}, expected {shape}")
    value = walk.writer.weight(node.name, np.ascontiguousarray(array))
    if not node.options.flag("trainable"):
        mark_constant(value)
    else:
        value.metadata_props[ROLE_MARK] = (Role.WEIGHT if array.ndim > 1 else Role.BIAS).name
    if not node.options.flag("shared"):
        walk.loose.add(value)
    return Held.plain(value)
