"""Canonical form: the small trainable form that every engine lowers.

Any valid graph, of any opset, becomes one whose nodes mean what the newest version of their op means, without
model-local functions, Constant nodes, Identities, foldable arithmetic, onnxruntime's own ops, or ops that an engine
lacks and the standard can express in others. Weights keep their names and are shared with the original, not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.errors import ModelError, PortNetError
from portnet.graph.contrib import expand_contrib
from portnet.graph.functions import expand_functions
from portnet.graph.passes.bias import remove_zero_biases
from portnet.graph.passes.bounds import refuse_endless_loops, refuse_huge_tensors
from portnet.graph.passes.branches import inline_ifs, settle_squeezes, unroll_loops
from portnet.graph.passes.casts import cast_like_to_cast
from portnet.graph.passes.constants import lift_constants, lift_initializers, remove_initializers_from_inputs
from portnet.graph.passes.fold import fold_constants
from portnet.graph.passes.gelu import fuse_gelu
from portnet.graph.passes.group_norm import fuse_group_norm
from portnet.graph.passes.inline import inline_functions
from portnet.graph.passes.names import name_nodes, name_values
from portnet.graph.passes.padding import explicit_padding
from portnet.graph.passes.plain_shapes import infer_plain_shapes
from portnet.graph.passes.ratios import resize_to_sizes
from portnet.graph.passes.rewrite import every_node, subgraphs
from portnet.graph.passes.roles import pin_roles
from portnet.graph.passes.sequences import SEQUENCE_OPS, unpack_sequences
from portnet.graph.passes.shapes import infer_shapes
from portnet.graph.passes.signatures import check_signatures
from portnet.graph.passes.sizes import name_sizes
from portnet.graph.passes.tidy import remove_identities, remove_unused
from portnet.graph.passes.transposes import merge_transposes
from portnet.graph.passes.upgrade import upgrade
from portnet.graph.passes.versions import pin_versions, stamp

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["canonical"]

# an If inside a Loop inside an If unfolds one level a round; so does an op whose rule needs the rank of another's
MAX_ROUNDS = 8
# ops that a round may replace by others
_REWRITTEN = SEQUENCE_OPS | {"CastLike", "Resize", "Transpose"}
# upgrading nodes older than this takes their ranks or types into account
RANKLESS_OPSET = 13


def canonical(model: Model, supports: frozenset[str] | None = None, *, fixed_ranks: bool = False) -> Model:
    """Return the canonical form of a model; the model itself is not changed.

    Args:
        model: any valid network.
        supports: ops that need not be expanded into the standard's function bodies; None for all.
        fixed_ranks: whether every rank must be known, so that an axis is squeezed that is squeezed only if it is 1.

    Raises:
        ModelError: a graph that is broken.
        UnsupportedError: an old op whose meaning the newest opset cannot express.
    """
    copy = model.copy()
    keep = frozenset() if model.backbone is None else frozenset({model.backbone.feature})
    try:
        _rewrite(copy.ir, supports, keep, fixed_ranks)
    except PortNetError:
        raise
    except Exception as error:  # a file is untrusted input, and may hold what no check foresaw
        raise ModelError(
            f"model {model.name!r}: cannot be brought to canonical form: {type(error).__name__}: {_one_line(error)}"
        ) from error
    return copy


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _rewrite(model: ir.Model, supports: frozenset[str] | None, keep: frozenset[str], fixed_ranks: bool) -> None:
    unroll = supports is not None and "Loop" not in supports
    _flatten(model)
    _modernise(model)
    refuse_huge_tensors(model)
    while expand_contrib(model, supports or frozenset()):  # each round leaves fewer of them
        _infer(model)
    _simplify(model, keep, unroll, fixed_ranks)
    if supports is not None and expand_functions(model, supports):
        _infer(model)
        _simplify(model, keep, unroll, fixed_ranks)
    refuse_huge_tensors(model)
    refuse_endless_loops(model)
    explicit_padding(model)
    if supports is None or "Gelu" in supports:
        fuse_gelu(model)
    if supports is None or "GroupNormalization" in supports:
        fuse_group_norm(model)
    remove_zero_biases(model)
    remove_unused(model)
    name_nodes(model)


def _flatten(model: ir.Model) -> None:
    """Leave one graph of nodes and one of initializers: no functions, no Constant nodes, no default inputs."""
    remove_initializers_from_inputs(model)
    pin_versions(model)
    _lift(model)
    if model.functions:
        inline_functions(model)
        _lift(model)
    pin_roles(model)


def _lift(model: ir.Model) -> None:
    name_nodes(model)
    if any(subgraphs(node) for node in model.graph):
        name_values(model)
        lift_initializers(model)
    lift_constants(model)


def _modernise(model: ir.Model) -> None:
    """Bring every node to the newest semantics, and know every shape."""
    check_signatures(model, upgraded=False)
    if any(node.domain == "" and (node.version or 0) < RANKLESS_OPSET for node in every_node(model.graph)):
        infer_shapes(model)
    upgrade(model)
    stamp(model)
    check_signatures(model, upgraded=True)
    _infer(model)


def _simplify(model: ir.Model, keep: frozenset[str], unroll: bool, fixed_ranks: bool) -> None:
    """Do what constants decide: arithmetic, branches, loops; remove what then does nothing."""
    for _ in range(MAX_ROUNDS):
        present = {node.op_type for node in every_node(model.graph)}
        if "CastLike" in present:
            cast_like_to_cast(model)
        folded = fold_constants(model)
        if present & SEQUENCE_OPS:
            unpack_sequences(model)
        if "Transpose" in present:
            merge_transposes(model)
        if "Resize" in present:
            resize_to_sizes(model)
        removed = remove_identities(model, keep)
        unfolded = _unfold(model, present, unroll, fixed_ranks)
        if unfolded:
            _infer(model)
        elif not (folded or removed or present & _REWRITTEN) or not fold_constants(model):
            return  # else an identity may have stood before what is constant


def _unfold(model: ir.Model, present: set[str], unroll: bool, fixed_ranks: bool) -> bool:
    """Replace branches and loops that constants decide; True if there was one."""
    unfolded = "If" in present and inline_ifs(model)
    if unroll and "Loop" in present:
        unfolded |= unroll_loops(model)
    if fixed_ranks and not unfolded and "If" in present:
        unfolded = settle_squeezes(model)
    return unfolded


def _infer(model: ir.Model) -> None:
    if not infer_plain_shapes(model):
        infer_shapes(model)
        name_sizes(model)
