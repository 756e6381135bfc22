"""The size that a Reshape leaves open (-1) is solved where other sizes are symbols."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from portnet.graph.passes.rewrite import every_node

__all__ = ["is_invented", "solve_reshapes"]


def is_invented(size: int | ir.SymbolicDim) -> bool:
    """Whether a symbol was made up by inference; its numbering begins anew each time."""
    return not isinstance(size, int) and (size.value is None or size.value.startswith("unk__"))


def solve_reshapes(model: ir.Model) -> bool:
    """Fill in the one open size of a Reshape: (N, 2, 3) as (N, -1) is (N, 6).

    The standard's inference solves it only where all sizes are numbers.

    Returns:
        Whether there was one.
    """
    solved = False
    for node in every_node(model.graph):
        if node.op_type == "Reshape" and node.domain == "" and node.inputs[0] is not None:
            shape = _solved(node.inputs[0].shape, node.outputs[0].shape)
            if shape is not None:
                node.outputs[0].shape, solved = shape, True
    return solved


def _solved(before: ir.Shape | None, after: ir.Shape | None) -> ir.Shape | None:
    if before is None or after is None or any(is_invented(size) for size in before):
        return None
    unknown = [index for index, size in enumerate(after) if is_invented(size)]
    if len(unknown) != 1:
        return None
    count, symbols = _product(list(before))
    known, others = _product([size for index, size in enumerate(after) if index != unknown[0]])
    if others - symbols or sum((symbols - others).values()) > 1 or not known or count % known:
        return None
    left = list((symbols - others).elements())
    if left and count != known:
        return None
    solved: int | str = left[0] if left else count // known
    return ir.Shape([solved if index == unknown[0] else size for index, size in enumerate(after)])


def _product(sizes: list[int | ir.SymbolicDim]) -> tuple[int, Counter[str]]:
    """Return the product of the numbers, and how often each symbol stands."""
    count, symbols = 1, Counter[str]()
    for size in sizes:
        if isinstance(size, int):
            count *= size
        else:
            symbols[str(size.value)] += 1
    return count, symbols
