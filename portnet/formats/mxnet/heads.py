"""Operators that end a network in training: what their labels are for, and what is left in inference."""

from __future__ import annotations

__all__ = ["LABELLED", "LOSSES"]

_SOFTMAX = "its Softmax stays, its label is left out"
_AS_IT_IS = "it passes its input on, its label is left out"

# operators whose inputs after the first are labels -> what becomes of them
LABELLED = {
    "SoftmaxOutput": _SOFTMAX,
    "Softmax": _SOFTMAX,
    "LogisticRegressionOutput": "its Sigmoid stays, its label is left out",
    "LinearRegressionOutput": _AS_IT_IS,
    "MAERegressionOutput": _AS_IT_IS,
    "SVMOutput": _AS_IT_IS,
}

# operators that only mark something for training
LOSSES = frozenset({"MakeLoss", "make_loss", "IdentityAttachKLSparseReg"})
