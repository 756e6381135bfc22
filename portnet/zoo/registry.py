"""The table of architectures. Knows facts alone: it imports neither numpy nor onnx."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from portnet.errors import UnknownNameError, WeightsError

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder

    Definition = Callable[[NetworkBuilder, ir.Value, int], ir.Value]

__all__ = ["ZooEntry", "architecture", "entry", "names"]

_ENTRIES: dict[str, ZooEntry] = {}


@dataclass(frozen=True)
class ZooEntry:
    """What is published of an architecture.

    Attributes:
        name: what `portnet.zoo.load` takes.
        depth: most layers with weights, convolutions and dense ones, on a path from input to output.
        parameters: published count of scalars for 1,000 classes. Gluon's counts include running statistics.
        feature: name of the tensor, (N, C, H, W), that a new head is put on.
        head: kind of head that the architecture has by nature.
        source: paper and reference implementation.
        size: height and width of the reference's input, in pixels.
        published: address of official weights that no digest is published of; "" where the catalogue has them.
        define: appends the network to a builder: (builder, image, count of classes) → logits.
    """

    name: str
    depth: int
    parameters: int
    feature: str
    head: Literal["linear", "conv"]
    source: str
    size: tuple[int, int]
    define: Definition = field(repr=False, compare=False)
    published: str = ""

    @property
    def megabytes(self) -> float:
        """Size of the parameters as float32, in units of 10⁶ bytes."""
        return self.parameters * 4 / 1e6

    def weights_at_hand(self) -> tuple[str, ...]:
        """Return the catalogue's names of weights that `portnet.zoo.load` finds without the network.

        A file with the wrong digest is not at hand; loading it says so.
        """
        from portnet.weights.catalogue import CATALOGUE

        found = [each for each in CATALOGUE if each.network == self.name and _is_at_hand(each)]
        known = [name for each in found for name in (each.name, each.stands_in_for) if name]
        return tuple(sorted(set(known)))


def _is_at_hand(weights: object) -> bool:
    from portnet.weights.store import find

    try:
        return find(weights) is not None  # type: ignore[arg-type]
    except WeightsError:
        return False


def architecture(
    name: str,
    *,
    depth: int,
    parameters: int,
    feature: str,
    source: str,
    head: Literal["linear", "conv"] = "linear",
    size: tuple[int, int] = (224, 224),
    published: str = "",
) -> Callable[[Definition], Definition]:
    """Register the decorated function as the definition of an architecture; see `ZooEntry` for the facts."""

    def register(define: Definition) -> Definition:
        _ENTRIES[name] = ZooEntry(name, depth, parameters, feature, head, source, size, define, published)
        return define

    return register


@cache
def _discover() -> dict[str, ZooEntry]:
    from portnet.zoo import architectures

    for module in pkgutil.iter_modules(architectures.__path__):
        importlib.import_module(f"{architectures.__name__}.{module.name}")
    return dict(sorted(_ENTRIES.items()))


def names() -> list[str]:
    """Return the names of all architectures, sorted."""
    return list(_discover())


def entry(name: str) -> ZooEntry:
    """Return an architecture's entry.

    Raises:
        UnknownNameError: no architecture has that name; the nearest are offered.
    """
    known = _discover()
    if name not in known:
        raise UnknownNameError("backbone", name, known)
    return known[name]
