"""Canonical form: the small trainable form that every engine lowers.

Any valid graph, of any opset, becomes one whose nodes mean what the newest version of their op means, without
model-local functions, Constant nodes, Identities, foldable arithmetic or ops that an engine lacks and the standard
can express in others. Weights keep their names and are shared with the original, not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portnet.graph.functions import expand_functions
from portnet.graph.passes.constants import lift_constants, lift_initializers, remove_initializers_from_inputs
from portnet.graph.passes.inline import inline_functions
from portnet.graph.passes.names import name_nodes, name_values
from portnet.graph.passes.roles import pin_roles
from portnet.graph.passes.shapes import infer_shapes
from portnet.graph.passes.upgrade import upgrade
from portnet.graph.passes.versions import pin_versions, stamp

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["canonical"]


def canonical(model: Model, supports: frozenset[str] | None = None) -> Model:
    """Return the canonical form of a model; the model itself is not changed.

    Args:
        model: any valid network.
        supports: ops that need not be expanded into the standard's function bodies; None for all.

    Raises:
        ModelError: a graph that is broken.
        UnsupportedError: an old op whose meaning the newest opset cannot express.
    """
    copy = model.copy()
    graph_model = copy.ir
    remove_initializers_from_inputs(graph_model)
    infer_shapes(graph_model)
    pin_versions(graph_model)
    inline_functions(graph_model)
    name_nodes(graph_model)
    name_values(graph_model)
    lift_initializers(graph_model)
    lift_constants(graph_model)
    pin_roles(graph_model)
    upgrade(graph_model)
    stamp(graph_model)
    infer_shapes(graph_model)
    if supports is not None:
        expand_functions(graph_model, supports)
    name_nodes(graph_model)
    return copy
