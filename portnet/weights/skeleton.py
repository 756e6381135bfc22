"""A network as its weights see it: layers with arrays and what lies between them, however a graph spells them.

Two graphs compute the same function of their weights if their skeletons are equal. What makes no difference to that is
not in a skeleton: Dropout, a Reshape where a Flatten could be, padding in a node of its own, how a dense kernel lies,
whether a convolution of one pixel is called a dense layer, epsilon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = ["Facts", "Skeleton", "Slot", "Step", "as_it_is"]

Facts = tuple[tuple[str, Hashable], ...]
Sizes = tuple[int | None, ...]

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min"})
# arrays that a layer may lack without being another layer
_OPTIONAL = frozenset({"bias"})


def as_it_is(array: np.ndarray) -> np.ndarray:
    """Return the array."""
    return array


@dataclass(frozen=True)
class Slot:
    """A place for an array.

    Attributes:
        name: the initializer.
        shape: of the array as the step has it, kernels as (out, in / groups, ...).
        layout: the initializer's array → the step's.
        note: what ``layout`` does, in words; "" for nothing.
    """

    name: str
    shape: tuple[int, ...]
    layout: Callable[[np.ndarray], np.ndarray] = field(default=as_it_is, compare=False)
    note: str = ""


@dataclass(eq=False)
class Step:
    """One thing that a network does.

    Attributes:
        op: "Conv", "Dense", "BatchNorm", ...; an ONNX op that needs no other name is called as there.
        name: the node's name.
        facts: what it computes by, attributes and constants, in a form that is the same for every spelling.
        inputs: what it reads.
        slots: its arrays by role.
        sizes: of its output, without the batch; None where one is not known, or all.
        epsilon: of a BatchNorm.
    """

    op: str
    name: str
    facts: Facts = ()
    inputs: tuple[Step, ...] = ()
    slots: dict[str, Slot] = field(default_factory=dict)
    sizes: Sizes | None = None
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        self.depth: int = 1 + max((step.depth for step in self.inputs), default=0)
        self.label: str = self._label()

    def _label(self) -> str:
        """A digest of all that decides the function from the network's inputs up to here, but for the arrays."""
        above = [step.label for step in self.inputs]
        state = hashlib.sha256(repr((self.form, sorted(above) if self.op in COMMUTATIVE else above)).encode())
        return state.hexdigest()

    @property
    def form(self) -> tuple[Hashable, ...]:
        """What of the step itself must be the same in two networks."""
        shapes = tuple((role, slot.shape) for role, slot in sorted(self.slots.items()) if role not in _OPTIONAL)
        return self.op, self.facts, shapes

    @property
    def is_vector(self) -> bool:
        """Whether an image's output is a vector, whatever axes of size 1 lie around it."""
        return self.sizes is not None and sum(size != 1 for size in self.sizes) <= 1

    def describe(self) -> str:
        """Return what it is in a few words, for messages."""
        arrays = ", ".join(f"{slot.name!r} {slot.shape}" for slot in self.slots.values())
        facts = ", ".join(f"{key} {value}" for key, value in self.facts)
        return f"{self.op} {self.name!r}" + "".join(f" with {told}" for told in (facts, arrays) if told)


@dataclass(frozen=True)
class Skeleton:
    """The steps of a network.

    Attributes:
        outputs: steps that yield the network's outputs.
        of: step that yields a tensor, by the tensor's name.
    """

    outputs: tuple[Step, ...]
    of: dict[str, Step] = field(repr=False)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step that an output depends on, each behind what it reads."""
        return tuple(ancestors(self.outputs))

    @cached_property
    def labels(self) -> dict[str, list[Step]]:
        """The steps by label."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.label, []).append(step)
        return found

    def slots(self) -> Iterator[tuple[Step, str, Slot]]:
        """Yield (step, role, slot) of every array."""
        for step in self.steps:
            for role, slot in step.slots.items():
                yield step, role, slot


def ancestors(ends: Sequence[Step]) -> list[Step]:
    """Return the steps that ``ends`` depend on and themselves, each behind what it reads."""
    found: dict[Step, None] = {}
    pending: list[tuple[Step, bool]] = [(step, False) for step in reversed(ends)]
    while pending:
        step, is_ready = pending.pop()
        if step in found:
            continue
        if is_ready:
            found[step] = None
        else:
            pending.append((step, True))
            pending.extend((each, False) for each in reversed(step.inputs) if each not in found)
    return list(found)
