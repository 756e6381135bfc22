"""Canonical form: the small trainable form that every engine lowers.

Any valid graph, of any opset, becomes one whose nodes mean what the newest version of their op means, without
model-local functions, Constant nodes, Identities, foldable arithmetic or ops that an engine lacks and the standard
can express in others. Weights keep their names and are shared with the original, not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.graph.functions import expand_functions
from portnet.graph.passes.bias import remove_zero_biases
from portnet.graph.passes.branches import inline_ifs, unroll_loops
from portnet.graph.passes.casts import cast_like_to_cast
from portnet.graph.passes.constants import lift_constants, lift_initializers, remove_initializers_from_inputs
from portnet.graph.passes.fold import fold_constants
from portnet.graph.passes.inline import inline_functions
from portnet.graph.passes.names import name_nodes, name_values
from portnet.graph.passes.padding import explicit_padding
from portnet.graph.passes.roles import pin_roles
from portnet.graph.passes.shapes import infer_shapes
from portnet.graph.passes.tidy import remove_identities, remove_unused
from portnet.graph.passes.upgrade import upgrade
from portnet.graph.passes.versions import pin_versions, stamp

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["canonical"]

# an If inside a Loop inside an If unfolds one level a round
MAX_ROUNDS = 8


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
    keep = frozenset() if model.backbone is None else frozenset({model.backbone.feature})
    _flatten(copy.ir)
    _modernise(copy.ir)
    unroll = supports is not None and "Loop" not in supports
    _simplify(copy.ir, keep, unroll)
    if supports is not None and expand_functions(copy.ir, supports):
        infer_shapes(copy.ir)
        _simplify(copy.ir, keep, unroll)
    explicit_padding(copy.ir)
    remove_zero_biases(copy.ir)
    remove_unused(copy.ir)
    name_nodes(copy.ir)
    return copy


def _flatten(model: ir.Model) -> None:
    """Leave one graph of nodes and one of initializers: no functions, no Constant nodes, no default inputs."""
    remove_initializers_from_inputs(model)
    _lift(model)
    infer_shapes(model)
    pin_versions(model)
    if model.functions:
        inline_functions(model)
        _lift(model)
    pin_roles(model)


def _lift(model: ir.Model) -> None:
    name_nodes(model)
    name_values(model)
    lift_initializers(model)
    lift_constants(model)


def _modernise(model: ir.Model) -> None:
    """Bring every node to the newest semantics, and know every shape."""
    upgrade(model)
    stamp(model)
    infer_shapes(model)


def _simplify(model: ir.Model, keep: frozenset[str], unroll: bool) -> None:
    """Do what constants decide: arithmetic, branches, loops; remove what then does nothing."""
    for _ in range(MAX_ROUNDS):
        cast_like_to_cast(model)
        fold_constants(model)
        remove_identities(model, keep)
        unfolded = inline_ifs(model) | (unroll and unroll_loops(model))
        if not unfolded:
            return
        infer_shapes(model)
