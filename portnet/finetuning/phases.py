"""The network of a run on its way through the phases of a policy: what trains, where it is cut, on which engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from portnet.adapter import Adapter, Lowered, Trainer
from portnet.engines import engine
from portnet.finetuning.checkpoint import Checkpoint
from portnet.finetuning.choosing import choose, time_engines
from portnet.finetuning.history import Position
from portnet.finetuning.interrupt import Interrupt
from portnet.finetuning.loop import Batches
from portnet.finetuning.plan import loaders, train_plan
from portnet.finetuning.prefix.keep import Kept, keep
from portnet.finetuning.proof import Proofs
from portnet.finetuning.sets import Sets
from portnet.finetuning.settings import Settings
from portnet.graph.digests import Digests
from portnet.graph.model import Model
from portnet.graph.parameters import Role

__all__ = ["Phases"]


class Phases:
    """What changes from phase to phase of a run; a policy that does not unfreeze by epoch has one phase.

    Attributes:
        settings: the run's; ``backend`` is an engine once it is chosen.
        network: backbone and head, with the weights of the moment at which the phase in hand began.
        adapter: the engine; None until the fastest is chosen.
        timings: what that choice came from, or None.
        policies: first epoch (from 0) and policy of each phase.
        phase: the one in hand.
        table: its resolved policy.
        proofs: digests of what is frozen.
        first_digest: digest of all weights before the first step.
        kept: activations of the frozen part that it trains on, or None.
        cut_at: tensors to cut the network at, None to choose: a resumed run is cut where it was, as with another graph
            dropout would draw other masks.
        lowered: the network that trains, once there is one.
    """

    lowered: Lowered

    def __init__(self, settings: Settings, sets: Sets, network: Model, adapter: Adapter | None, reporter: Any) -> None:
        self.settings, self.network, self.adapter = settings, network, adapter
        self._digests = Digests(network.weights())
        self._sets, self._reporter = sets, reporter
        self.timings: list[dict[str, Any]] | None = None
        self.policies = list(settings.freeze.phases().items())
        tables = [policy.resolve(network) for _, policy in self.policies]
        self.proofs = Proofs(tables, self.policies, self._digests)
        self.first_digest = self._digests.of(network.weights())
        self.table, self.phase = tables[0], 0
        self.cut_at: list[str] | None = None
        self.kept: Kept | None = None

    def restore(self, checkpoint: Checkpoint, position: Position) -> bool:
        """Go to where a checkpoint was written; return whether a phase had begun to train there."""
        self._go_on_with(checkpoint.weights)
        if "proofs" in checkpoint.progress:
            self.proofs.restore(checkpoint.progress["proofs"])
        self.phase = max(i for i, (first, _) in enumerate(self.policies) if first <= position.epoch)
        is_inside = position.batch > 0 or position.epoch > self.policies[self.phase][0]
        # where a phase begins, it chooses its own cut
        self.cut_at = checkpoint.progress.get("cut", self.cut_at) if is_inside else None
        return is_inside

    def next(self, interrupt: Interrupt) -> tuple[Lowered, Trainer, Batches, Batches | None]:
        """Go over to the next phase: another table, another cut, another optimizer."""
        self._go_on_with(self.lowered.weights())
        self.phase, self.cut_at = self.phase + 1, None
        made = self.lower(interrupt)
        policy = self.policies[self.phase][1]
        self._reporter.note(f"from here on {self.table.trainable_count:,} parameters train ({policy.text})")
        return made

    def lower(self, interrupt: Interrupt) -> tuple[Lowered, Trainer, Batches, Batches | None]:
        """Lower the network, or what follows its frozen prefix, for the phase in hand."""
        self.proofs.enter(self.phase, self._digests)
        self.table = self.policies[self.phase][1].resolve(self.network)
        train, val = loaders(self._sets, self.settings, self.network)
        settings = self.settings
        if len(self.policies) > 1 and settings.cache != "off":
            # nobody insists on a cache for phases that may have nothing to keep
            settings = settings.but(cache="auto")
        self.kept = keep(
            self.network, self.table, self._digests, train, val, settings, self._reporter, interrupt, self.cut_at
        )
        network = self.network if self.kept is None else self.kept.network
        batches = (train, val) if self.kept is None else (self.kept.train, self.kept.val)
        seed = (self.settings.seed + self.phase) % 2**32
        weights = self.settings.loss_weights(self._sets.train.counts())
        plan = train_plan(self.table, self.settings.but(seed=seed), network, weights)
        if self.adapter is None:
            batch = next(iter(batches[0].epoch(0)))
            timings = time_engines(network, plan, batch, self.settings, self._reporter, is_cut=self.kept is not None)
            self.settings = self.settings.but(backend=choose(timings))
            self.adapter, self.timings = engine(self.settings.backend), [timing.to_dict() for timing in timings]
            self._reporter.note(f"{self.adapter.framework} {self.adapter.version()} is the fastest here")
        adapter = self.adapter
        self.lowered = adapter.lower(network, device=self.settings.device)
        return self.lowered, self.lowered.trainer(plan), *batches

    def digests(self) -> Digests:
        """Return the digests of all weights as they are now, read anew: of those that trained, and of all others."""
        return Digests({**self.network.weights(), **self.lowered.weights()})

    def _go_on_with(self, weights: Mapping[str, np.ndarray]) -> None:
        self.network = self.network.with_weights(weights)
        # of those that did not train, too: that they are the same is to be proved
        self._digests = Digests(self.network.weights())

    def last_epoch(self) -> int:
        """Return the epoch before which the phase in hand ends."""
        return [*(first for first, _ in self.policies[1:]), self.settings.epochs][self.phase]

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights of the network that trains; with several phases, of all that any phase may move."""
        if len(self.policies) == 1:
            return self.lowered.weights()
        roles = self.network.roles
        moving = {n: a for n, a in self.network.weights().items() if roles[n].trainable or roles[n] is Role.STATISTIC}
        return {**moving, **self.lowered.weights()}

    def few_threads(self) -> AbstractContextManager[None]:
        """Let the engine use one thread where what trains is small."""
        assert self.adapter is not None
        return nullcontext() if self.kept is None else self.kept.few_threads(self.adapter, self.settings.batch_size)
