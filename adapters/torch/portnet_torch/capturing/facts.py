"""What is known of a module besides its graph: what was opened with it, what it has frozen, what inference hides."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from portnet.graph.metadata import Metadata, Preprocessing

__all__ = ["Facts", "device_of", "facts_of", "frozen", "hidden", "remember"]


@dataclass(frozen=True)
class Facts:
    """What a collection of networks says of one of its own.

    Attributes:
        name: what the network is called.
        shape: sizes of its input, axis 0 the batch.
        preprocessing: how images become inputs.
        labels: class names.
        provenance: where it and its weights come from.
        notes: what the user must know.
        carried: what PortNet left in its file besides the network.
    """

    name: str
    shape: tuple[int, ...] | None = None
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    provenance: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    carried: Metadata | None = None


_KNOWN: weakref.WeakKeyDictionary[object, Facts] = weakref.WeakKeyDictionary()


def remember(native: object, facts: Facts) -> None:
    """Keep what is known of a network for as long as it lives."""
    _KNOWN[native] = facts


def facts_of(native: object) -> Facts:
    """Return what was remembered of a network, or its class's name alone."""
    return _KNOWN.get(native) or Facts(type(native).__name__)


def frozen(native: nn.Module) -> dict[str, list[str]]:
    """Return what the module itself keeps from training, as lists of names.

    ``parameters`` do not require gradients; ``statistics`` belong to BatchNormalization in inference mode inside a
    module in training mode. Empty lists are left out.
    """
    parameters = [name for name, value in native.named_parameters() if not value.requires_grad]
    statistics = [
        f"{name}.{part}"
        for name, module in native.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and native.training and not module.training
        for part in ("running_mean", "running_var")
    ]
    return {key: names for key, names in (("parameters", parameters), ("statistics", statistics)) if names}


def hidden(native: nn.Module) -> list[str]:
    """Say what the module does in training alone that its graph cannot hold."""
    notes = []
    for kinds, what in _HIDDEN:
        names = [name for name, module in native.named_modules() if type(module).__name__ in kinds and _acts(module)]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            notes.append(f"{what} in {shown} is not in the graph: it acts in training alone")
    fixed = [name for name, module in native.named_modules() if type(module).__name__ in _FIXED_NORMS]
    if fixed:
        notes.append(f"{len(fixed)} frozen batch norms are fixed scales and shifts, which no engine trains")
    return notes


_HIDDEN = (
    (("StochasticDepth", "DropPath"), "stochastic depth"),
    (("Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), "dropout of whole channels"),
    (("MultiheadAttention",), "dropout of attention weights"),
)
_FIXED_NORMS = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")


def _acts(module: nn.Module) -> bool:
    for name in ("p", "drop_prob", "dropout"):
        value = getattr(module, name, 0)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return True
    return False


def device_of(native: nn.Module) -> torch.device:
    """Return where a module's first parameter lies, or the CPU."""
    first = next(iter(native.parameters()), None)
    return first.device if first is not None else torch.device("cpu")
