"""`FreezePolicy`: what training may move, decided once and by ONNX names, for every engine alike.

Frozen means bit-identical: no gradient is computed for a frozen weight, and the running statistics of a frozen
BatchNormalization do not move. A policy resolves to a plain table that can be printed (`freeze_table`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Literal

from portnet.errors import InputError, UnknownNameError
from portnet.finetuning.freeze_table import FreezeTable, Row
from portnet.graph.layers import Layer
from portnet.graph.parameters import Role

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["FreezePolicy"]

BatchNorm = Literal["auto", "frozen", "train"]
HEAD_STAGE = "head"
_EXAMPLES = {"unfreeze": '{3: "until:fire5"}', "lr_mult": '{"head": 10}'}


@dataclass(frozen=True)
class FreezePolicy:
    """Which layers stay as they are, how fast the others learn, and what BatchNormalization does.

    Make one with `none`, `backbone`, `first`, `until`, `match` or `captured`:

    >>> FreezePolicy.until("fire5", lr_mult={"head": 10}).describe()
    "until:fire5, lr ×10 on 'head'"

    Attributes:
        kind: which of the six it is.
        argument: count, name or pattern of ``first``, ``until`` and ``match``.
        lr_mult: learning-rate factor by pattern; a pattern is a stage ("head"), a layer's name, or a regular
            expression that matches either in full. The last that matches counts.
        batch_norm: "auto": running statistics are frozen where the layer is frozen; "frozen": those of the whole
            backbone are; "train": those of all layers move, even where weights are frozen. A new head's own
            BatchNormalization always trains.
        later: policies that take over, by the epoch (counted from 1, as it is shown) that they begin with, each as
            `parse` reads it. Factors and BatchNormalization rule stay.
        stage_decay: factor on the learning rate from each stage to the one before it: with 0.5, the head learns at
            the full rate, the last stage of the backbone at half of it, the stage before that at a quarter
            (discriminative fine-tuning, Howard & Ruder 2018). ``lr_mult`` multiplies it.
    """

    kind: Literal["none", "backbone", "first", "until", "match", "captured"] = "none"
    argument: str = ""
    lr_mult: Mapping[str, float] = field(default_factory=dict)
    batch_norm: BatchNorm = "auto"
    later: Mapping[int, str] = field(default_factory=dict)
    stage_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("unfreeze", self.later), ("lr_mult", self.lr_mult)):
            if not isinstance(value, Mapping):
                raise InputError(f"{name}: got a {type(value).__name__}, expected a mapping, as in {_EXAMPLES[name]}")
        object.__setattr__(self, "lr_mult", dict(self.lr_mult))
        # keys of JSON are text
        object.__setattr__(self, "later", {int(epoch): text for epoch, text in sorted(self.later.items())})
        for epoch, text in self.later.items():
            FreezePolicy.parse(text)
            if epoch < 2:
                raise InputError(f"unfreeze: got epoch {epoch} for {text!r}, expected 2 or later: epochs count from 1")
        if not 0 < self.stage_decay <= 1:
            raise InputError(f"stage decay: got {self.stage_decay}, expected a factor 0 < f ≤ 1")
        if self.batch_norm not in ("auto", "frozen", "train"):
            raise UnknownNameError("batch_norm", str(self.batch_norm), ["auto", "frozen", "train"])
        for pattern, factor in self.lr_mult.items():
            if not factor >= 0:
                raise InputError(f"lr_mult: got {factor} for {pattern!r}, expected a number of at least 0")

    @classmethod
    def none(cls, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto") -> FreezePolicy:
        """Train everything."""
        return cls("none", "", dict(lr_mult or {}), batch_norm)

    @classmethod
    def backbone(cls, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto") -> FreezePolicy:
        """Train the head alone."""
        return cls("backbone", "", dict(lr_mult or {}), batch_norm)

    @classmethod
    def first(
        cls, n: int, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto"
    ) -> FreezePolicy:
        """Freeze layers 1 to n. The input is layer 1 and every node counts, as MATLAB numbers ``layers(1:16)``."""
        if not isinstance(n, Integral) or n < 0:
            raise InputError(f"freeze: first got {n!r}, expected a count of layers of at least 0")
        return cls("first", str(int(n)), dict(lr_mult or {}), batch_norm)

    @classmethod
    def until(
        cls, name: str, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto"
    ) -> FreezePolicy:
        """Freeze everything up to and including a layer or stage, e.g. "fire5"."""
        return cls("until", name, dict(lr_mult or {}), batch_norm)

    @classmethod
    def match(
        cls, pattern: str, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto"
    ) -> FreezePolicy:
        """Freeze the layers whose name or stage a regular expression matches in full, e.g. "layer[12].*"."""
        _compile(pattern)
        return cls("match", pattern, dict(lr_mult or {}), batch_norm)

    @classmethod
    def captured(cls, *, lr_mult: Mapping[str, float] | None = None, batch_norm: BatchNorm = "auto") -> FreezePolicy:
        """Freeze what the network's own framework had frozen when it was captured, array by array.

        From torch: parameters that did not require gradients, and running statistics of BatchNormalization that was in
        inference mode while the network trained. A new head trains.
        """
        return cls("captured", "", dict(lr_mult or {}), batch_norm)

    @classmethod
    def gradual(
        cls,
        policies: Mapping[int, str],
        *,
        lr_mult: Mapping[str, float] | None = None,
        batch_norm: BatchNorm = "auto",
        stage_decay: float = 1.0,
    ) -> FreezePolicy:
        """Unfreeze by epoch: a policy's text by the epoch it begins with, from 1.

        >>> FreezePolicy.gradual({1: "backbone", 3: "until:fire5", 5: "none"}).describe()
        'backbone, from epoch 3 until:fire5, from epoch 5 none'
        """
        if 1 not in policies:
            raise InputError(f"freeze: gradual got epochs {sorted(policies)}, expected one to begin with epoch 1")
        later = {epoch: text for epoch, text in policies.items() if epoch != 1}
        return cls.parse(policies[1]).with_options(
            lr_mult=lr_mult, batch_norm=batch_norm, later=later, stage_decay=stage_decay
        )

    @classmethod
    def parse(cls, text: str | FreezePolicy) -> FreezePolicy:
        """Read the command line's form: ``none``, ``backbone``, ``first:16``, ``until:fire5``, ``match:REGEX``,
        ``captured``.

        Raises:
            UnknownNameError: another word.
            InputError: a count that is no number, or an argument that is missing.
        """
        if isinstance(text, FreezePolicy):
            return text
        if not isinstance(text, str):
            raise InputError(
                f"freeze: got a {type(text).__name__}, expected a FreezePolicy, or text as in 'until:fire5'"
            )
        kind, _, argument = text.partition(":")
        if kind not in ("none", "backbone", "first", "until", "match", "captured"):
            known = ["none", "backbone", "first:N", "until:NAME", "match:REGEX", "captured"]
            raise UnknownNameError("freeze policy", kind, known)
        if kind in ("none", "backbone", "captured"):
            return cls(kind)  # type: ignore[arg-type]
        if not argument:
            raise InputError(f"freeze: {kind} needs an argument, e.g. first:16, until:fire5 or match:layer[12].*")
        if kind == "first":
            if not argument.isdigit():
                raise InputError(f"freeze: first got {argument!r}, expected a count of layers, e.g. first:16")
            return cls.first(int(argument))
        return cls.until(argument) if kind == "until" else cls.match(argument)

    def with_options(
        self,
        *,
        lr_mult: Mapping[str, float] | None = None,
        batch_norm: BatchNorm | None = None,
        later: Mapping[int, str] | None = None,
        stage_decay: float | None = None,
    ) -> FreezePolicy:
        """Return a copy with other options; None leaves one as it is."""
        return replace(
            self,
            lr_mult=self.lr_mult if lr_mult is None else lr_mult,
            batch_norm=batch_norm or self.batch_norm,
            later=self.later if later is None else later,
            stage_decay=self.stage_decay if stage_decay is None else stage_decay,
        )

    def phases(self) -> dict[int, FreezePolicy]:
        """Return the policy of each phase, without ``later``, by the epoch (from 0) that it begins with."""
        others = {epoch - 1: FreezePolicy.parse(text) for epoch, text in self.later.items()}
        return {
            0: replace(self, later={}),
            **{first: replace(self, later={}, kind=p.kind, argument=p.argument) for first, p in others.items()},
        }

    @property
    def text(self) -> str:
        """What is frozen, as `parse` reads it."""
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    def describe(self) -> str:
        """Return the policy in one line."""
        parts = [self.text]
        parts += [f"from epoch {epoch} {text}" for epoch, text in self.later.items()]
        if self.stage_decay != 1:
            parts.append(f"lr ×{self.stage_decay:g} a stage")
        parts += [f"lr ×{factor:g} on {pattern!r}" for pattern, factor in self.lr_mult.items()]
        if self.batch_norm != "auto":
            parts.append(f"batch norm {self.batch_norm}")
        return ", ".join(parts)

    def resolve(self, model: Model) -> FreezeTable:
        """Apply the policy, as it is in the first epoch, to a network.

        Raises:
            UnknownNameError: a layer, stage or pattern that the network does not have; the nearest are offered.
            InputError: nothing is left to train.
        """
        layers = model.layers
        recorded = _recorded(model) if self.kind == "captured" else frozenset()
        is_frozen = self._frozen_rule(layers, recorded)
        factors = [(pattern, factor, _matcher(pattern, layers)) for pattern, factor in self.lr_mult.items()]
        by_stage = self._stage_factors(layers)
        rows = []
        for layer in layers:
            if not any(role is not Role.CONSTANT for _, role, _ in layer.initializers):
                continue
            factor = 1.0
            for _, value, matches in factors:
                factor = value if matches(layer) else factor
            factor *= by_stage[layer.stage]
            trainable = not is_frozen(layer) and factor > 0
            kept = recorded.intersection(_weights(layer)) if trainable else frozenset()
            rows.append(Row(layer, trainable, factor, self._statistics(layer, trainable, recorded), kept))
        table = FreezeTable(tuple(rows))
        if not table.trainable_count:
            raise InputError(f"freeze: {self.describe()} freezes every layer. Leave at least the head to train.")
        return table

    def _stage_factors(self, layers: list[Layer]) -> dict[str, float]:
        """Return the factor of each stage, by its distance from the last."""
        stages = list(dict.fromkeys(layer.stage for layer in layers if layer.initializers))
        if self.stage_decay != 1 and len(stages) < 3:
            raise InputError(
                f"stage decay: got {self.stage_decay}, but the backbone has no stages. Use lr_mult with layers' names."
            )
        return {stage: self.stage_decay**depth for depth, stage in enumerate(reversed(stages))}

    def _frozen_rule(self, layers: list[Layer], recorded: frozenset[str]) -> Callable[[Layer], bool]:
        if self.kind == "none":
            return lambda layer: False
        if self.kind == "captured":
            return lambda layer: bool(_weights(layer)) and recorded.issuperset(_weights(layer))
        if self.kind == "backbone":
            if not any(layer.stage == HEAD_STAGE for layer in layers):
                raise InputError("freeze: backbone needs a network with a head of its own, and this one has none")
            return lambda layer: layer.stage != HEAD_STAGE
        if self.kind == "first":
            if int(self.argument) > len(layers):
                raise InputError(
                    f"freeze: first got {self.argument}, expected at most {len(layers)}, the network's layers"
                )
            return lambda layer: layer.index <= int(self.argument)
        matches = _matcher(self.argument, layers)
        if self.kind == "match":
            return matches
        last = max(layer.index for layer in layers if matches(layer))
        return lambda layer: layer.index <= last

    def _statistics(self, layer: Layer, trainable: bool, recorded: frozenset[str]) -> str:
        names = {name for name, role, _ in layer.initializers if role is Role.STATISTIC}
        if not names:
            return ""
        if layer.stage == HEAD_STAGE or self.batch_norm == "train":
            return "train"
        if self.batch_norm == "frozen" or names & recorded:
            return "frozen"
        return "train" if trainable else "frozen"


def _weights(layer: Layer) -> list[str]:
    return [name for name, role, _ in layer.initializers if role.trainable]


def _recorded(model: Model) -> frozenset[str]:
    """Return the names of weights and statistics that the network's own framework had frozen.

    Raises:
        InputError: nothing of the kind was recorded.
    """
    found = model.metadata.provenance.get("frozen")
    lists = [found.get(key, []) for key in ("parameters", "statistics")] if isinstance(found, Mapping) else []
    names = frozenset(str(name) for each in lists if isinstance(each, (list, tuple)) for name in each)
    if not names:
        raise InputError(
            f"freeze: captured needs a network that came with frozen weights, got {model.name!r}, of which none are "
            "recorded. Use none, backbone, first:N, until:NAME or match:REGEX."
        )
    return names


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"freeze: {pattern!r} is no regular expression: {error}") from error


def _matcher(pattern: str, layers: list[Layer]) -> Callable[[Layer], bool]:
    """Return a test of layers: equal to the pattern, below it ("features.3"), or matched by it in full."""
    expression = _compile(pattern)

    def matches(layer: Layer) -> bool:
        return any(
            text == pattern or text.startswith(pattern + ".") or expression.fullmatch(text) is not None
            for text in (layer.name, layer.stage)
            if text
        )

    if not any(matches(layer) for layer in layers):
        known = dict.fromkeys([layer.stage for layer in layers if layer.stage] + [layer.name for layer in layers])
        raise UnknownNameError("layer", pattern, known)
    return matches
