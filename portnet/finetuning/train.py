"""How a run is set up, run, and brought home: data, network, policy, prefix, loop, proof, record."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portnet.adapter import Adapter
from portnet.data.dataset import Dataset, DatasetSource
from portnet.drawing.text import figure
from portnet.engines import engine
from portnet.errors import DataError, InputError, OutputError, PortNetError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.callbacks import Callbacks, Start
from portnet.finetuning.checkpoint import Checkpoint
from portnet.finetuning.circumstances import Circumstances
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.history import History, Position
from portnet.finetuning.interrupt import Interrupt, deferred_interrupt
from portnet.finetuning.interval import Interval
from portnet.finetuning.loop import Fit, fit
from portnet.finetuning.memory import enough_memory
from portnet.finetuning.phases import Phases
from portnet.finetuning.plan import build_network, settled
from portnet.finetuning.progress import ConsoleReporter, SilentReporter
from portnet.finetuning.record import run_record
from portnet.finetuning.run import Run
from portnet.finetuning.sets import prepare_data, source_of
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model

__all__ = ["RunSession", "start_run"]


def start_run(
    data: DatasetSource,
    settings: Settings,
    *,
    out: Path | None,
    progress: bool,
    backbone: Model | Backbone | None = None,
    show_policy: bool = False,
    callbacks: Sequence[Any] = (),
) -> Run:
    """Begin a run and see it through."""
    folder = None if out is None else RunFolder(out)
    session = RunSession(data, settings, folder, progress, backbone, callbacks)
    if show_policy:
        session.reporter.note(str(session.phases.table))
    if folder is not None:
        folder.create()
    return session.train(is_new=True)


class RunSession:
    """One run from its settings to its result; everything it needs is made here, once, in order."""

    def __init__(
        self,
        data: DatasetSource,
        settings: Settings,
        folder: RunFolder | None,
        progress: bool,
        backbone: Model | Backbone | None,
        callbacks: Sequence[Any],
        decoders: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.callbacks = Callbacks(callbacks)
        self.source = source_of(data)
        adapter = None if settings.backend == "auto" else engine(settings.backend)
        if adapter is not None:
            adapter.check_device(settings.device)
            adapter.check_training(settings.device, settings.precision, settings.compile)
        self.sets = prepare_data(data, settings, decoders)
        self.classes = self.sets.train.classes
        settings.check_classes(self.classes)
        if settings.early_stop is not None and self.sets.val is None:
            raise InputError("early stop: got val=0, expected images held out for validation")
        self.reporter = ConsoleReporter() if progress else SilentReporter()
        network = build_network(settings, self.classes, backbone)
        asked, settings = settings.weights, settled(settings, network)
        self.called = settings.backbone if settings.weights == asked else f"{settings.backbone} ({settings.weights})"
        self.phases = Phases(settings, self.sets, network, adapter, self.reporter)
        self.circumstances = Circumstances()

    @property
    def settings(self) -> Settings:
        """The run's settings, with an engine for its backend once that is chosen."""
        return self.phases.settings

    @property
    def adapter(self) -> Adapter:
        """The engine."""
        assert self.phases.adapter is not None
        return self.phases.adapter

    def train(self, *, is_new: bool) -> Run:
        """Train from the beginning, or from the checkpoint if there is one already; return the run."""
        with ExitStack() as stack:
            checkpoint = None
            if self.folder is not None:
                stack.enter_context(self.folder.claimed())
                if is_new:
                    self.folder.refuse_run()
                elif self.folder.checkpoint.exists():
                    checkpoint = self._restore(self.folder)
            stack.enter_context(self.reporter)
            interrupt = stack.enter_context(deferred_interrupt())
            self.reporter.when_unread(interrupt.press)
            self._announce()
            with self._recorded_before(is_new):
                job = self._begin(checkpoint, interrupt)
            self._know_environment(None if is_new else len(job.history.losses))
            if job.schedule.warmup > job.total_steps:
                self.reporter.note(
                    f"note: the warm-up takes {job.schedule.warmup:,} steps and the run {job.total_steps:,}: "
                    "the learning rate does not reach what was asked for"
                )
            record = self._record(job.history, {}, "")
            if self.folder is not None:
                self.folder.write_record(record)
            for said in self.sets.duplicates:
                self.reporter.note(f"note: {said}")
            run = None
            try:
                run = self._fit(job)
            except PortNetError as error:
                run = error.run
                raise
            finally:
                self._say_end(run)
            return run

    @contextmanager
    def _recorded_before(self, is_new: bool) -> Iterator[None]:
        """Write the record of a new run before it gets ready, which may take long: if it is killed, it can be resumed.

        Where the engine is still to be chosen it says so, and a resumed run chooses. What fails leaves nothing; what is
        interrupted can go on.
        """
        if self.folder is None or not is_new:
            yield
            return
        self._know_environment(None)
        record = self._record(History(), {}, "")
        del record["cache"]  # where it will be cut is not known yet
        self.folder.write_record(record)
        try:
            yield
        except KeyboardInterrupt:
            self.reporter.note(f"interrupted before it trained; to go on: {self.folder.resume_command}")
            raise
        except BaseException:
            self.folder.record.unlink(missing_ok=True)
            raise

    def _restore(self, folder: RunFolder) -> Checkpoint:
        """Read the checkpoint and make sure that it is this run's.

        Raises:
            InputError: it was written with other settings.
        """
        checkpoint = folder.restore()
        if checkpoint.progress.get("settings", self.settings.digest()) != self.settings.digest():
            raise InputError(
                f"resume: {folder.checkpoint} was written with other settings than {folder.record} has. Put back which "
                "of them was changed, or start a new run."
            )
        return checkpoint

    def _know_environment(self, resumed_after: int | None) -> None:
        """Take down the environment that the run begins in, or what is another one where it goes on."""
        said = self.circumstances.take_down(self.phases.adapter, self.settings.device, resumed_after)
        if said:
            self.reporter.note(said)

    def _fit(self, job: Fit) -> Run:
        """Train to the end, to Ctrl-C or to an error, and bring home what was learned.

        Raises:
            PortNetError: with ``run``, unless a step was left half done or nothing more can be written.
        """
        try:
            job.tell("on_start", Start(self.settings, job.classes, len(job.train), len(job.history.losses)))
            self._train_phase(job)
            while not job.is_over:
                job.lowered, job.trainer, job.train, job.val = self.phases.next(job.interrupt)
                job.until = self.phases.last_epoch()
                self._train_phase(job)
        except KeyboardInterrupt:
            if not job.whole:
                self._point_to_checkpoint()
                raise
            self.reporter.note(f"interrupted in epoch {job.position.epoch + 1}: what was learned so far is kept")
            return self._finish(job, "interrupted")
        except PortNetError as error:
            if job.whole and job.history.losses and not isinstance(error, OutputError):
                error.run = self._finish(job, f"failed: {error}")
            if job.whole:
                is_image = isinstance(error, DataError)
                self._point_to_checkpoint("the image is back as it was when the run began" if is_image else "")
            else:
                self._keep_checkpoint(f"failed: {error}")
            raise
        try:
            return self._finish(job, "finished")
        except OutputError:
            self._point_to_checkpoint()
            raise

    def _keep_checkpoint(self, ended: str) -> None:
        """Write the network as the last checkpoint has it: what is in memory is of no use any more."""
        if self.folder is None:
            return
        if not self.folder.checkpoint.exists():  # there is nothing but to say so
            self.folder.write_record(self._record(History(), {}, ended))
            return
        checkpoint = self.folder.restore()
        self.phases.network.with_weights(checkpoint.weights).save(self.folder.model)
        history = History.from_dict(checkpoint.progress["history"])
        self.folder.write_record(self._record(history, {}, ended))
        self.reporter.note(f"{self.folder.model} is the network as it was after step {len(history.losses):,}")

    def _train_phase(self, job: Fit) -> None:
        with self.phases.few_threads(), enough_memory(self.adapter, self.settings):
            fit(job)

    def _say_end(self, run: Run | None) -> None:
        try:
            self.callbacks.tell("on_end", run)
        except PortNetError as error:
            error.run = run
            raise

    def _point_to_checkpoint(self, once: str = "") -> None:
        if self.folder is not None and self.folder.checkpoint.exists():
            once = once or "the cause is removed"
            self.reporter.note(
                f"{self.folder.checkpoint} keeps what was learned; to go on once {once}: {self.folder.resume_command}"
            )

    def _announce(self) -> None:
        self.reporter.note(self.sets.describe(self.settings))
        if self.sets.warning:
            self.reporter.note(f"note: {self.sets.warning}")
        for line in self.sets.describe_skipped():
            self.reporter.note(line)
        adapter = self.phases.adapter
        where = f" on {adapter.framework} {adapter.version()} ({self.settings.device})" if adapter is not None else ""
        self.reporter.note(
            f"{self.called}{where}, "
            f"{self.phases.table.trainable_count:,} of {self.phases.table.total_count:,} parameters train "
            f"({self.settings.freeze.describe()})"
        )

    def _begin(self, checkpoint: Checkpoint | None, interrupt: Interrupt) -> Fit:
        """Make everything ready for the first phase, or for the one that a checkpoint lies in."""
        history, position, is_inside = History(), Position(), False
        if checkpoint is not None:
            history = History.from_dict(checkpoint.progress["history"])
            position = Position(**checkpoint.progress["position"])
            is_inside = self.phases.restore(checkpoint, position)
        lowered, trainer, train, val = self.phases.lower(interrupt)
        if checkpoint is not None and is_inside:
            trainer.load_state(checkpoint.optimizer)
        return Fit(
            lowered=lowered,
            trainer=trainer,
            weights=self.phases.weights,
            train=train,
            val=val,
            classes=self.classes,
            epochs=self.settings.epochs,
            until=self.phases.last_epoch(),
            lr=self.settings.optimizer.lr,
            schedule=self.settings.schedule,
            reporter=self.reporter,
            callbacks=self.callbacks,
            val_every=Interval.parse(self.settings.val_every),
            patience=self.settings.early_stop,
            save_every=Interval.parse(self.settings.checkpoint_every),
            save=None if self.folder is None else self._save,
            history=history,
            position=position,
            best_weights=None if checkpoint is None else checkpoint.best or None,
            interrupt=interrupt,
            asked_to_stop=checkpoint is not None and checkpoint.progress.get("asked_to_stop", False),
        )

    def _save(self, job: Fit) -> None:
        assert self.folder is not None
        position = job.position
        progress = {
            "history": job.history.to_dict(),
            "position": asdict(position),
            "proofs": self.phases.proofs.to_dict(),
            "cut": [] if self.phases.kept is None else self.phases.kept.record["tensors"],
            "asked_to_stop": job.asked_to_stop,
            "settings": self.settings.digest(),
        }
        weights, state = job.weights(), job.trainer.state()
        self.folder.save(
            Checkpoint(position.epoch, position.batch, weights, state, progress, job.best_weights or {}),
        )

    def _finish(self, job: Fit, ended: str) -> Run:
        finished = ended == "finished"
        if self.folder is not None and not finished:
            self._save(job)
        if finished and job.out_of_patience:
            ended = "stopped early"
        phases = self.phases
        digests = phases.digests()
        proof = phases.proofs.record(digests)
        if finished and job.best_weights is not None:
            self._restore_best(job)
            digests = digests.but({**job.best_weights, **phases.lowered.weights()})
        model = phases.network.with_weights(phases.lowered.weights())
        settings = self.settings
        made: dict[str, Any] = {"backend": settings.backend, "epochs": len(job.history), "seed": settings.seed}
        if settings.rename:
            made["rename"] = dict(settings.rename)
        model.metadata.provenance = {**model.metadata.provenance, "finetuned": made}
        record = self._record(job.history, proof, ended, digests.of(model.weights()))
        folder = self.folder
        if folder is not None:
            model.save(folder.model)
            folder.write_record(record)
        run = Run(
            model,
            job.history,
            self.settings,
            record,
            lowered=phases.lowered if phases.kept is None else None,
            folder=None if folder is None else folder.path,
            interrupted=not finished,
        )
        if finished and self.sets.test is not None:
            self._test(run, self.sets.test)
        if folder is not None and finished:
            folder.checkpoint.unlink(missing_ok=True)
        return run

    def _test(self, run: Run, images: Dataset) -> None:
        """Evaluate on the held-out images and add the result to the record; if that fails, the error brings the run."""
        try:
            with enough_memory(self.adapter, self.settings):
                result = run.evaluate(images, batch_size=self.settings.batch_size)
        except PortNetError as error:
            error.run = run
            raise
        self.reporter.note(f"test: {result}")
        run.record["test"] = result.to_dict()
        if self.folder is not None:
            self.folder.write_record(run.record)

    def _restore_best(self, job: Fit) -> None:
        best = job.history.best
        assert best is not None
        assert job.best_weights is not None
        phases = self.phases
        phases.network = phases.network.with_weights(job.best_weights)
        phases.lowered.set_weights({name: job.best_weights[name] for name in phases.lowered.weights()})
        why = f"no lower loss in {job.patience} validations" if job.out_of_patience else "training is over"
        self.reporter.note(
            f"{why}: the weights of step {best.step:,} (epoch {best.epoch:.4g}) are restored, "
            f"val loss {figure(best.loss)}, val accuracy {best.accuracy:.2%}"
        )

    def _record(self, history: History, proof: dict[str, Any], ended: str, digest: str | None = None) -> dict[str, Any]:
        phases = self.phases
        return run_record(
            self.settings,
            phases.network,
            phases.table,
            history,
            environment=self.circumstances.environment or {},
            origin=self.circumstances.origin,
            resumed=self.circumstances.resumed,
            data=self.data_record,
            weights={"sha256_start": phases.first_digest, "sha256_end": digest},
            proof=proof,
            ended=ended,
            cache=None if phases.kept is None else phases.kept.record,
            engines=phases.timings,
        )

    @functools.cached_property
    def data_record(self) -> dict[str, Any]:
        """Where the images came from, how many of each class, and a digest of what they are: read once, at first."""
        return self.sets.record(self.source, self.settings)
