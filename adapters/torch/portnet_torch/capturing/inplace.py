"""Operations that write into their argument become those that return a new tensor, where nobody could tell."""

from __future__ import annotations

import torch
from torch import fx
from torch._ops import OpOverload

__all__ = ["without_writes"]

# what returns its argument where it can, and a copy where it cannot, though its schema does not say so
_SOMETIMES_VIEWS = frozenset({"aten::reshape", "aten::flatten", "aten::contiguous", "aten::to", "aten::reshape_as"})


def without_writes(graph: fx.Graph) -> bool:
    """Rewrite ``relu_`` as ``relu`` and its like, in place; readers that come later read the new tensor.

    Returns:
        Whether no operation is left that writes into a tensor. One is left alone where what it writes into is an
        input, or shares its memory with a tensor that is read later.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    clean = True
    for node in list(graph.nodes):
        if not _writes(node):
            continue
        new, target = _pure(node), node.args[0] if node.args else None
        if new is None or not isinstance(target, fx.Node) or not _is_private(target, node, order):
            clean = False
            continue
        node.target = new
        for user in list(target.users):
            if order[user] > order[node]:
                user.replace_input_with(target, node)
    return clean


def _writes(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _pure(node: fx.Node) -> OpOverload | None:
    """Return the operation of the same name and overload that writes nothing, or None."""
    assert isinstance(node.target, OpOverload)
    namespace, _, name = node.target._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    overload = node.target._overloadname
    return getattr(packet, overload) if packet is not None and overload in packet.overloads() else None


def _is_private(target: fx.Node, writer: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether only ``target`` itself is read after the write, of all tensors that share its memory."""
    family, todo = {target, writer}, [target]  # what comes of the write reads the new tensor anyway
    while todo:
        member = todo.pop()
        if member.op != "call_function":
            return False
        relatives = [user for user in member.users if _shares(user, member)]
        relatives += [source for source in member.all_input_nodes if _shares(member, source)]
        todo += [node for node in relatives if node not in family]
        family.update(relatives)
    last = order[writer]
    return all(order[user] <= last for member in family - {target, writer} for user in member.users if user != writer)


def _shares(node: fx.Node, source: fx.Node) -> bool:
    """Whether what a node returns may lie in its source's memory."""
    if node.op != "call_function" or source not in node.all_input_nodes:
        return False
    if not isinstance(node.target, OpOverload):
        return True  # an entry of a list of tensors
    schema = node.target._schema
    if schema.name in _SOMETIMES_VIEWS:
        return True
    given = {parameter.name: value for parameter, value in zip(schema.arguments, node.args, strict=False)}
    given |= node.kwargs
    shared = [given.get(parameter.name) for parameter in schema.arguments if parameter.alias_info is not None]
    return any(value is source or (isinstance(value, (list, tuple)) and source in value) for value in shared)
