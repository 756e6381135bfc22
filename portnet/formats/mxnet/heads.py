"""Operators that end a network in training: what their labels are for, and what is left in inference."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from portnet.formats.mxnet.symbol import Entry, Symbol

__all__ = ["LABELLED", "LOSSES", "before", "computed_with_labels"]

_SOFTMAX = "its Softmax stays, its label is left out"
_AS_IT_IS = "it passes its input on, its label is left out"

# operators whose inputs after the first are labels -> what becomes of them
LABELLED = {
    "SoftmaxOutput": _SOFTMAX,
    "Softmax": _SOFTMAX,
    "WarpCTC": _SOFTMAX,
    "LogisticRegressionOutput": "its Sigmoid stays, its label is left out",
    "LinearRegressionOutput": _AS_IT_IS,
    "MAERegressionOutput": _AS_IT_IS,
    "SVMOutput": _AS_IT_IS,
}

# operators that only mark something for training
LOSSES = frozenset({"MakeLoss", "make_loss", "IdentityAttachKLSparseReg"})


def before(symbol: Symbol, entries: Collection[Entry], *, labels: bool = True) -> set[int]:
    """Return all nodes that some entries depend on, with or without the labels of heads for training."""
    seen: set[int] = set()
    todo = [entry.node for entry in entries]
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            node = symbol.nodes[index]
            inputs = node.inputs if labels or node.op not in LABELLED else node.inputs[:1]
            todo += [entry.node for entry in inputs]
    return seen


def computed_with_labels(symbol: Symbol, known: Collection[str]) -> list[Entry]:
    """Return the heads that nobody can compute without labels, unless all are such.

    A head with a margin, as networks for faces are trained with, adds to the class that the label names; beside it
    stands the embedding. A label is what a head for training reads as one, or what is called one.

    Args:
        symbol: the graph.
        known: variables that there are arrays of.
    """
    labels = {index for index in _labels(symbol) if symbol.nodes[index].name not in known}
    found = [head for head in symbol.heads if before(symbol, [head], labels=False) & labels]
    return found if len(found) < len(symbol.heads) else []


def _labels(symbol: Symbol) -> Iterator[int]:
    for index, node in enumerate(symbol.nodes):
        if node.is_variable and node.name.endswith("label"):
            yield index
        elif node.op in LABELLED and len(node.inputs) > 1:
            # a network may be trained to yield what it reads
            read = before(symbol, node.inputs[:1])
            for each in before(symbol, node.inputs[1:]):
                if symbol.nodes[each].is_variable and each not in read:
                    yield each
