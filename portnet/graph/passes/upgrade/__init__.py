"""Every node is brought to the newest semantics of its op, whatever opset the model was written in.

The table is PortNet's own, one small rule a change of the standard: ``@upgrade("Clip", since=11)`` turns a Clip
written before opset 11 into one of 11. The standard's C++ version converter is not used, because it serializes all
weights, knows fewer ops, and fails as a whole where one node fails.
"""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import ModelError, PortNetError
from portnet.graph.passes.rewrite import NEWEST, Editor, Site, every_node
from portnet.graph.passes.upgrade import arguments, axes, broadcasting, normalization, recurrent, resize, types
from portnet.graph.passes.upgrade.registry import Rule, rules_for

__all__ = ["upgrade"]

_FAMILIES = (arguments, axes, broadcasting, normalization, recurrent, resize, types)


def upgrade(model: ir.Model, nodes: list[ir.Node] | None = None) -> None:
    """Bring nodes to the newest semantics.

    Requires: pinned versions, functions inlined, names; types and shapes known where a rule needs a rank.
    Ensures: every node of the default domain means what the newest version of its op means.

    Args:
        model: the model.
        nodes: nodes to upgrade; None for all.

    Raises:
        ModelError: a rule needs a rank or a constant that is unknown.
    """
    editor = Editor(model)
    for node in list(every_node(model.graph)) if nodes is None else nodes:
        if node.domain == "":
            _upgrade_node(node, editor)


def _upgrade_node(node: ir.Node, editor: Editor) -> None:
    site = Site(node, editor)
    for rule in rules_for(node.op_type):
        if rule.repairs or (node.version or NEWEST) < rule.since:
            _apply(rule, site, node)
        if node.graph is None:
            return
    node.version = NEWEST


def _apply(rule: Rule, site: Site, node: ir.Node) -> None:
    try:
        rule.apply(site, node)
    except PortNetError:
        raise
    except Exception as error:  # an ill-formed node of a version that nothing has checked yet
        raise ModelError(
            f"node {node.name!r}: {node.op_type} (opset {node.version}) is ill-formed: {type(error).__name__}: {error}"
        ) from error
