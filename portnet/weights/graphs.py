"""`fit_graph`: the arrays of a network onto another one that computes the same function of them.

Both become skeletons. A step of one is that of the other if all that leads to it is the same: ops, attributes, shapes,
and what they read. So strides and padding, which shapes do not tell, must agree; which array is which follows from
where it stands, whatever it is called. Branches that are alike and are added up may be exchanged: the sum is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.report import Fit, Leftover, Match
from portnet.weights.skeleton import COMMUTATIVE, Skeleton, Slot, Step, ancestors

__all__ = ["first_difference", "fit_graph", "has_step"]

_WAY = "Both networks compute alike, layer by layer, attributes included; an array's place in the one tells its place "
_WAY += "in the other."
_FOLDED = "If its normalisations are folded into convolutions, export it again with them kept"
_FILLS = {"bias": 0.0}


def has_step(given: Skeleton, step: Step) -> bool:
    """Whether a network has a step that computes what ``step`` does."""
    return step.label in given.labels


def fit_graph(end: Step, given: Skeleton, arrays: Mapping[str, np.ndarray], *, source: str, is_whole: bool) -> Fit:
    """Return arrays for all that ``end`` depends on.

    Args:
        end: step of the network that the arrays go onto, to fill up to.
        given: skeleton of the network that they are from, which has a step of the same label.
        arrays: of that network, by its own names.
        source: what to call it in messages.
        is_whole: whether an array that goes nowhere is an error.

    Raises:
        WeightsError: two ways to pair layers that differ, a bias without a counterpart, an array that is left over.
    """
    pairs = _Pairs(source)
    pairs.follow(end, _only(given, end, source))
    fitting = _Fitting(pairs.of, arrays, source)
    for step in ancestors([end]):
        fitting.fill(step)
    used = {slot.name for other in pairs.of.values() for slot in other.slots.values()}
    unused = tuple(
        Leftover(slot.name, tuple(arrays[slot.name].shape), "behind the layers that were matched")
        for _, _, slot in given.slots()
        if slot.name not in used
    )
    if unused and is_whole:
        left = unused[0]
        raise WeightsError(
            f"{source}: got {left.name!r} {left.shape} and {len(unused) - 1} more arrays behind the network's end, "
            f"expected none. Take its backbone alone, or give the network that was trained last."
        )
    return Fit(fitting.filled, _WAY, tuple(fitting.matches), unused, (), fitting.epsilons)


def first_difference(network: Skeleton, end: Step, given: Skeleton) -> str:
    """Return in words the first step up to ``end`` that the given network lacks, and what it has there instead."""
    expected = _first([step for step in ancestors([end]) if step.label not in given.labels], None)
    assert expected is not None
    known = network.labels
    got = _first([step for step in given.steps if step.label not in known], expected)
    if got is None:
        return f"it ends before {expected.describe()}"
    if expected.op == "BatchNorm" and got.op != expected.op:
        return f"got {got.describe()}, expected {expected.describe()}. {_FOLDED}"
    if got.op != expected.op:
        return f"got {got.describe()}, expected {expected.describe()}"
    facts = [
        f"{key} {theirs}, not {ours}"
        for (key, theirs), (_, ours) in zip(got.facts, expected.facts, strict=False)
        if theirs != ours
    ]
    shapes = [
        f"{got.slots[role].name!r} of shape {got.slots[role].shape} for {slot.name!r} of shape {slot.shape}"
        for role, slot in expected.slots.items()
        if role in got.slots and got.slots[role].shape != slot.shape
    ]
    if shapes or facts:
        return f"got {'; '.join([*shapes, *facts])}: {expected.op} {got.name!r} against {expected.name!r}"
    return f"got {got.describe()}, which reads other layers than {expected.describe()} does"


def _first(steps: list[Step], like: Step | None) -> Step | None:
    """Return the least deep step; of several, one of the same op."""
    least = min((step.depth for step in steps), default=0)
    nearest = [step for step in steps if step.depth == least]
    alike = [step for step in nearest if like is not None and step.op == like.op]
    return next(iter(alike or nearest), None)


def _only(given: Skeleton, end: Step, source: str) -> Step:
    found = given.labels[end.label]
    outputs = [step for step in found if step in given.outputs]
    candidates = outputs if len(outputs) == 1 else found
    if len(candidates) > 1:
        places = " or ".join(repr(step.name) for step in candidates[:3])
        raise WeightsError(
            f"{source}: its network has several parts that fit: the last layer may be {places}. Give a part alone."
        )
    return candidates[0]


class _Pairs:
    """Which step of the one network is which of the other."""

    def __init__(self, source: str) -> None:
        self.of: dict[Step, Step] = {}
        self._source = source

    def follow(self, end: Step, other: Step) -> None:
        """Pair two steps of one label, and all that they depend on."""
        pending = [(end, other)]
        while pending:
            ours, theirs = pending.pop()
            known = self.of.setdefault(ours, theirs)
            if known is not theirs:
                raise WeightsError(
                    f"{self._source}: {ours.describe()} may be {known.name!r} or {theirs.name!r}, which are alike. "
                    "Nothing tells which."
                )
            pending.extend(self._inputs(ours, theirs))

    def _inputs(self, ours: Step, theirs: Step) -> list[tuple[Step, Step]]:
        if ours.op not in COMMUTATIVE:
            return list(zip(ours.inputs, theirs.inputs, strict=True))
        left, pairs = list(theirs.inputs), []
        for step in ours.inputs:
            fitting = [each for each in left if each.label == step.label]
            other = next((each for each in fitting if self.of.get(step) is each), fitting[0])
            left.remove(other)
            pairs.append((step, other))
        return pairs


@dataclass
class _Fitting:
    """Brings arrays into the network's own layout, step by step."""

    pairs: Mapping[Step, Step]
    arrays: Mapping[str, np.ndarray]
    source: str
    filled: dict[str, np.ndarray] = field(default_factory=dict)
    matches: list[Match] = field(default_factory=list)
    epsilons: dict[str, float] = field(default_factory=dict)

    def fill(self, step: Step) -> None:
        other = self.pairs[step]
        if step.op == "BatchNorm" and step.epsilon != other.epsilon:
            self.epsilons[step.name] = other.epsilon
        for role, slot in step.slots.items():
            if role in other.slots:
                array, note = self.read(other.slots[role]), other.slots[role].note
                if role == "mean":
                    array, note = self.without_bias(step, other, array, note)
                self.put(slot, other.slots[role], array, note)
            else:
                self.put(slot, None, np.full(slot.shape, _FILLS[role], np.float32), "0, the file has none")
        if other.slots.keys() - step.slots.keys():
            self.check_bias(step, other)

    def read(self, slot: Slot) -> np.ndarray:
        array = slot.layout(self.arrays[slot.name])
        return array.astype(np.float32) if array.dtype != np.float32 else array

    def without_bias(self, step: Step, other: Step, mean: np.ndarray, note: str) -> tuple[np.ndarray, str]:
        """Take the bias of a convolution that has none here off the mean behind it."""
        before, theirs = step.inputs[0], other.inputs[0]
        if "bias" not in theirs.slots or "bias" in before.slots:
            return mean, note
        return mean - self.read(theirs.slots["bias"]), f"less {theirs.slots['bias'].name!r}"

    def check_bias(self, step: Step, other: Step) -> None:
        bias = other.slots["bias"]
        readers = [each for each in self.pairs if step in each.inputs]
        if not readers or any(each.op != "BatchNorm" for each in readers):
            raise WeightsError(
                f"{self.source}: got {bias.name!r} {bias.shape}, expected no bias: {step.describe()} has none"
            )

    def put(self, slot: Slot, other: Slot | None, array: np.ndarray, note: str) -> None:
        name, shape = ("", ()) if other is None else (other.name, tuple(self.arrays[other.name].shape))
        known = self.filled.get(slot.name)
        if known is not None and not np.array_equal(known, array):
            raise WeightsError(f"{self.source}: {slot.name!r}, which several layers share, got two values: {name!r}")
        if known is None:
            self.filled[slot.name] = array
            self.matches.append(Match(slot.name, slot.shape, name, shape, "graph" if name else "absent", note))
