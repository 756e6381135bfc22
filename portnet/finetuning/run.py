"""`Run`: what comes of fine-tuning, in memory and in its folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import Lowered
from portnet.data.dataset import DatasetSource, load_dataset
from portnet.data.loader import Loader
from portnet.drawing.curves import Curves, plot_curves
from portnet.drawing.text import figure
from portnet.engines import engine
from portnet.errors import InputError, ModelError, ParityError
from portnet.finetuning.ambiguity import Ambiguity
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.history import History
from portnet.finetuning.loop import logits_of
from portnet.finetuning.metrics import Evaluation, evaluate_logits
from portnet.finetuning.settings import Settings
from portnet.graph.model import Model
from portnet.parity.check import check
from portnet.parity.report import Report
from portnet.runtime.predictor import predictor
from portnet.runtime.session import Predictions, Session, ends_in_softmax

__all__ = ["Run", "evaluate"]


class Run:
    """A fine-tuned network and how it came to be.

    Attributes:
        model: the trained network, its labels and preprocessing with it.
        history: one `Epoch` for each epoch; ``history.losses`` has every step.
        settings: everything that decided the run.
        record: environment, data, policy table and the proof of frozenness, plain data as in run.json.
        interrupted: whether Ctrl-C ended it early.
        folder: where it is kept, or None.
    """

    def __init__(
        self,
        model: Model,
        history: History,
        settings: Settings,
        record: dict[str, Any],
        *,
        lowered: Lowered | None = None,
        folder: Path | None = None,
        interrupted: bool = False,
    ) -> None:
        self.model = model
        self.history = history
        self.settings = settings
        self.record = record
        self.folder = folder
        self.interrupted = interrupted
        self._lowered = lowered
        self._session: Session | None = None

    def __repr__(self) -> str:
        last = self.history[-1] if len(self.history) else None
        result = "not one epoch" if last is None else f"loss {figure(last.loss)}"
        if last is not None and last.val_accuracy is not None:
            result += f", val accuracy {last.val_accuracy:.2%}"
        return f"<Run {self.settings.backbone} on {self.settings.backend}: {len(self.history)} epochs, {result}>"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Read a run from its folder.

        Raises:
            InputError: there is no finished run.
        """
        folder = RunFolder(path)
        record = folder.read_record()
        if not folder.model.exists():
            raise InputError(_why_not(folder, str(record.get("ended", ""))))
        if record.get("ended") == "":
            # the network may be of another moment than what the record tells
            raise InputError(f"{folder.path} holds a run that trains, or was killed. Wait for it, or resume it.")
        return cls(
            Model.load(folder.model),
            History.from_dict(record["history"]),
            Settings.from_dict(record["settings"]),
            record,
            folder=folder.path,
            interrupted=record.get("interrupted", False),
        )

    @property
    def lowered(self) -> Lowered:
        """The trained network on the engine it was trained on."""
        if self._lowered is None:
            self._lowered = engine(self.settings.backend).lower(self.model, device=self.settings.device)
        return self._lowered

    @property
    def native(self) -> Any:
        """The framework's own network: a torch.fx.GraphModule, a keras.Model or a gluon SymbolBlock."""
        return self.lowered.native

    @property
    def session(self) -> Session:
        """The trained network in onnxruntime."""
        if self._session is None:
            self._session = Session(self.model)
        return self._session

    def predict(self, images: Any, *, top: int = 5) -> Predictions:
        """Classify images with onnxruntime; see `portnet.load`."""
        return self.session.predict(images, top=top)

    def evaluate(self, data: DatasetSource, *, batch_size: int = 32, on_error: str = "fail") -> Evaluation:
        """Evaluate on labelled images, on the engine it was trained on.

        Args:
            data: as for `portnet.finetune`; its classes must be among the network's.
            batch_size: images at a time.
            on_error: what an unreadable image does: "fail" or "skip".
        """
        return evaluate(self.lowered, self.model, data, batch_size=batch_size, on_error=on_error)

    @property
    def test(self) -> dict[str, Any] | None:
        """What the evaluation on the held-out test images came to (see `Evaluation.to_dict`), if there were any."""
        return self.record.get("test")

    def ambiguity(
        self, data: DatasetSource, *, top: int = 10, batch_size: int = 32, on_error: str = "fail"
    ) -> Ambiguity:
        """Return the images of ``data`` that the network finds hardest to decide; print it for a table.

        Args:
            data: as for `evaluate`.
            top: how many images.
            batch_size: images at a time.
            on_error: what an unreadable image does: "fail" or "skip".
        """
        return self.evaluate(data, batch_size=batch_size, on_error=on_error).ambiguity(top)

    def check(self, **options: Any) -> Report:
        """Compare the trained native network with onnxruntime; see `portnet.check`."""
        return check(self.lowered, self.model, **options)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw loss and accuracy by epoch into an .svg or .png file.

        Raises:
            InputError: not one step was taken.
            UnknownNameError: another suffix.
            OutputError: the path cannot be written.
        """
        return plot_curves([self.curves()], path)

    def curves(self, name: str = "") -> Curves:
        """Return what `plot` draws; ``portnet.drawing.curves.plot_curves`` lays those of several runs over each other.

        Args:
            name: what the legend calls the run; "" for the engine's name.
        """
        counts = self.record["data"]["train"].values()
        images = max(counts) * len(counts) if self.settings.balance else sum(counts)
        return Curves(
            name=name or self.settings.backend,
            loss=[epoch.loss for epoch in self.history],
            accuracy=[epoch.accuracy for epoch in self.history],
            val_loss=[epoch.val_loss for epoch in self.history],
            val_accuracy=[epoch.val_accuracy for epoch in self.history],
            validations=[(each.epoch, each.loss, each.accuracy) for each in self.history.validations],
            steps=self.history.losses,
            steps_per_epoch=-(-images // self.settings.images_per_step),
        )

    def report(
        self,
        path: str | os.PathLike[str],
        data: DatasetSource | None = None,
        *,
        ambiguous: int = 10,
        mistakes: int = 25,
        batch_size: int = 32,
        on_error: str = "fail",
    ) -> Path:
        """Write the run as one page of HTML that needs nothing else: no network, no script, light and dark.

        It shows curves, policy, settings, environment, the proof of frozenness, a fresh check against onnxruntime and,
        with ``data``, classes, confusion, calibration, the most ambiguous images and the wrong answers.

        Args:
            path: the .html file to write.
            data: labelled images the network has not seen, as for `evaluate`; they are run in onnxruntime.
            ambiguous: how many ambiguous images to show.
            mistakes: how many wrongly named images to show.
            batch_size: images at a time.
            on_error: what an unreadable image does: "fail" or "skip".

        Raises:
            OutputError: the path cannot be written.
            DataError: images that cannot be read.
        """
        from portnet.finetuning.presenting import write_report

        evaluation = None
        if data is not None:
            network, _ = predictor(self.model, None, None)
            evaluation = evaluate(network, self.model, data, batch_size=batch_size, on_error=on_error)
        test_data = os.fspath(data) if isinstance(data, (str, os.PathLike)) else ""
        return write_report(self, Path(path), evaluation, test_data, ambiguous=ambiguous, mistakes=mistakes)

    def export(self, path: str | os.PathLike[str], *, report: Report | None = None) -> Path:
        """Write the network as .onnx once it is proved: onnxruntime and the native network give the same logits.

        Args:
            path: the file to write.
            report: what `check` returned, if it was just asked; None to check now.

        Raises:
            ParityError: they do not; no file is left.
            OutputError: the path cannot be written.
        """
        report = report or self.check()
        if not report.passed:
            raise ParityError(f"export: no file was written, because the networks differ.\n{report}")
        self.model.save(path)
        return Path(path)


def _why_not(folder: RunFolder, ended: str) -> str:
    """Return why a folder holds no network, and what to do."""
    if ended.startswith("failed"):
        said = f"{folder.path} holds a run that {ended.rstrip('.')}, before it kept anything"
        return f"{said}. Begin anew in another folder."
    return f"{folder.path} holds a run that is not finished: {folder.model.name} is missing. Resume it."


def evaluate(
    network: Any, model: Model, data: DatasetSource, *, batch_size: int = 32, on_error: str = "fail"
) -> Evaluation:
    """Evaluate a network with ``predict`` (float32 NCHW in, logits out) on labelled images.

    Classes that were renamed for its training are renamed here too, so the folders may keep their names.

    Raises:
        InputError: the model has no labels or no preprocessing.
        DataError: images that cannot be read; a class that the model does not know is an UnknownNameError.
        ModelError: the network answers with NaN or infinity.
    """
    if model.labels is None or model.preprocessing is None:
        missing = "labels" if model.labels is None else "preprocessing"
        raise InputError(f"evaluate: the model carries no {missing}. Set model.{missing}.")
    rename = _renamed(model)
    dataset = load_dataset(data, classes=model.labels, on_error=on_error, rename=rename)  # type: ignore[arg-type]
    loader = Loader(dataset, model.preprocessing, batch_size, shuffle=False, seed=0, cache_bytes=0)
    outputs, labels = logits_of(network, loader)
    # the logarithm of probabilities serves as logits: their softmax gives the probabilities back
    logits = np.log(np.maximum(outputs, np.finfo(np.float32).tiny)) if ends_in_softmax(model) else outputs
    if not np.isfinite(logits).all():
        raise ModelError("evaluate: the network answers with NaN or infinity. Check its weights and preprocessing.")
    return replace(evaluate_logits(logits, labels, model.labels), images=dataset.items, skipped=dataset.skipped)


def _renamed(model: Model) -> dict[str, str] | None:
    """Return what classes were renamed for the network's training, as far as its file says so in good form."""
    made = model.metadata.provenance.get("finetuned")
    names = made.get("rename") if isinstance(made, dict) else None
    is_whole = isinstance(names, dict) and all(isinstance(name, str) for pair in names.items() for name in pair)
    return names if is_whole else None
