"""Validation at any step, early stopping, callbacks, loggers."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

import portnet
from portnet.errors import InputError, MissingDependencyError, TrainingError, UnknownNameError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.history import History, Validation
from portnet.finetuning.interval import Interval
from portnet.finetuning.run import Run
from portnet.graph.model import Model
from portnet.loggers import logger

# 48 images to train on: 3 steps an epoch
SMALL = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "seed": 1, "backend": "torch", "freeze": "backbone"}
QUIET = {**SMALL, "progress": False}


class Told(Callback):
    """Notes what it is told; raises or asks to end the run where it is told to."""

    def __init__(self, fail_at=None, stop_at=None):
        self.events, self.fail_at, self.stop_at, self.run = [], fail_at, stop_at, "not told"

    def on_start(self, start):
        self.events.append(("start", start.step))

    def on_step(self, step):
        self.events.append(("step", step.step))
        if step.step == self.fail_at:
            raise ValueError("the disk of the logger is full")
        return step.step == self.stop_at

    def on_validation(self, validation):
        self.events.append(("validation", validation.step))

    def on_epoch(self, epoch):
        self.events.append(("epoch", epoch.epoch))

    def on_end(self, run):
        self.run = run
        self.events.append(("end", None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (5, (5, "steps")),
        ("5", (5, "steps")),
        ("2 epochs", (2, "epochs")),
        ("30 s", (30, "seconds")),
        ("1.5min", (90, "seconds")),
    ],
)
def test_intervals_are_read(text, expected):
    interval = Interval.parse(text)
    assert (interval.count, interval.unit) == expected
    assert Interval.parse(str(interval)) == interval


@pytest.mark.parametrize("text", ["", "0", -1, "5 apples", "1.5 epochs", "nan", None])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(InputError, match="val_every: got"):
        Interval.parse(text, "val_every")


def test_validation_every_second_step_and_at_the_end(digits):
    told = Told()
    run = portnet.finetune(digits, epochs=3, val_every=2, callbacks=[told], **QUIET)
    assert [v.step for v in run.history.validations] == [2, 4, 6, 8, 9]
    assert [v.epoch for v in run.history.validations] == pytest.approx([2 / 3, 4 / 3, 2, 8 / 3, 3])
    assert [e.val_loss for e in run.history] == [run.history.validations[i].loss for i in (0, 2, 4)]
    assert [step for what, step in told.events if what == "validation"] == [2, 4, 6, 8, 9]
    assert run.history.validations[-1].accuracy == pytest.approx(run.history[-1].val_accuracy)
    assert len(run.curves().validations) == 5


def test_validation_every_second_epoch_and_at_the_end(digits):
    run = portnet.finetune(digits, epochs=5, val_every="2 epochs", **QUIET)
    assert [v.step for v in run.history.validations] == [6, 12, 15]
    assert [e.val_loss is None for e in run.history] == [True, False, True, False, False]


def test_validation_changes_nothing_of_training(digits):
    often = portnet.finetune(digits, epochs=2, val_every=1, **QUIET)
    seldom = portnet.finetune(digits, epochs=2, val=0.2, val_every="2 epochs", **QUIET)
    assert often.history.losses == seldom.history.losses
    assert often.model.digest() == seldom.model.digest()


def scripted(monkeypatch, losses):
    """Have validations come to these losses."""
    found = iter(losses)

    def evaluate(network, batches, classes):
        return SimpleNamespace(loss=next(found), accuracy=0.5)

    monkeypatch.setattr("portnet.finetuning.loop.evaluate_batches", evaluate)


@pytest.mark.parametrize(
    ("losses", "patience", "steps", "best"),
    [
        ([3, 2, 2.5, 2.2, 9, 9], 2, 4, 2),
        ([3, float("nan"), 2, 2, 2, 9], 2, 5, 3),
        ([6, 5, 4, 3, 2, 1], 1, 6, 6),
        ([float("nan")] * 6, 2, 2, None),
    ],
)
def test_early_stopping_restores_the_best_weights(digits, monkeypatch, tmp_path, losses, patience, steps, best):
    weights = []

    class Keep(Callback):
        def on_step(self, step):
            weights.append(step.step)

    scripted(monkeypatch, losses)
    settings = {**QUIET, "val_every": 1, "epochs": 2}
    run = portnet.finetune(digits, early_stop=patience, callbacks=[Keep()], out=tmp_path / "run", **settings)
    assert len(run.history.losses) == len(weights) == steps
    assert run.record["ended"] == ("stopped early" if steps < 6 or best != 6 else "finished")
    if best is None:
        assert run.record["best"] is None
        return
    assert run.record["best"]["step"] == run.history.best.step == best
    monkeypatch.undo()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["best"]["step"] == best
    again = portnet.finetune(digits, callbacks=[Told(stop_at=best)], **settings)
    assert again.model.digest() == run.model.digest() == Run.load(tmp_path / "run").model.digest()


def test_a_run_that_stopped_early_after_a_crash_ends_the_same(digits, monkeypatch, tmp_path):
    losses = [3, 2, 2.5, 2.2, 2.1, 9]
    settings = {**QUIET, "val_every": 1, "epochs": 2, "early_stop": 3, "checkpoint_every": 1}
    scripted(monkeypatch, losses)
    whole = portnet.finetune(digits, **settings)
    scripted(monkeypatch, losses)
    with pytest.raises(TrainingError, match="disk of the logger"):
        portnet.finetune(digits, out=tmp_path / "run", callbacks=[Told(fail_at=4)], **settings)
    scripted(monkeypatch, losses[4:])
    run = resume(tmp_path / "run", progress=False)
    assert run.history.best == whole.history.best
    assert run.model.digest() == whole.model.digest()


def test_early_stopping_needs_images_to_validate_on(digits):
    with pytest.raises(InputError, match="held out"):
        portnet.finetune(digits, epochs=1, val=0, early_stop=2, **QUIET)
    sets = {"train": digits, "val": digits}  # which no share holds out
    assert portnet.finetune(sets, epochs=1, val=0, early_stop=2, **QUIET).history.best is not None


def test_since_best_counts_validations():
    history = History(validations=[Validation(i, i, loss, 0.5) for i, loss in enumerate([2, 1, 1, 3])])
    assert (history.best.step, history.since_best) == (1, 2)
    assert History.from_dict(json.loads(json.dumps(history.to_dict()))) == history


def test_callbacks_are_told_in_order(digits):
    told = Told()
    run = portnet.finetune(digits, epochs=2, callbacks=[told], **QUIET)
    epoch = [("step", 1), ("step", 2), ("step", 3), ("validation", 3), ("epoch", 0)]
    assert told.events[:6] == [("start", 0), *epoch]
    assert told.events[-1] == ("end", None)
    assert told.run is run


def test_a_callback_may_end_the_run(digits, tmp_path):
    told = Told(stop_at=2)
    run = portnet.finetune(digits, epochs=5, callbacks=[told], out=tmp_path / "run", **QUIET)
    assert len(run.history.losses) == 2
    assert not run.interrupted
    assert run.history[-1].val_accuracy is not None


def test_an_end_that_a_callback_asked_for_is_remembered(digits, tmp_path, monkeypatch):
    """The process dies between the last checkpoint and the network: to resume is to end, not to train on."""

    def dies(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        portnet.finetune(digits, epochs=5, callbacks=[Told(stop_at=2)], out=tmp_path / "run", **QUIET)
    monkeypatch.undo()
    run = resume(tmp_path / "run", progress=False)
    assert len(run.history.losses) == 2
    assert run.record["ended"] == "finished"


def test_an_object_that_hears_nothing_is_refused(digits):
    with pytest.raises(InputError, match="on_step"):
        portnet.finetune(digits, epochs=1, callbacks=[object()], **QUIET)


def test_what_a_callback_raises_ends_the_run_with_nothing_lost(digits, tmp_path, capsys):
    whole = portnet.finetune(digits, epochs=3, **QUIET)
    told = Told(fail_at=5)
    with pytest.raises(TrainingError, match=r"callback Told.on_step raised ValueError: the disk") as caught:
        portnet.finetune(digits, epochs=3, callbacks=[told], out=tmp_path / "run", **SMALL)
    assert "portnet finetune --resume" in capsys.readouterr().out
    assert told.run is caught.value.run
    assert len(caught.value.run.history.losses) == 5
    assert Run.load(tmp_path / "run").interrupted
    assert Run.load(tmp_path / "run").record["ended"].startswith("failed: callback Told")
    told = Told()
    run = resume(tmp_path / "run", progress=False, callbacks=[told])
    assert told.events[:2] == [("start", 5), ("step", 6)]
    assert run.model.digest() == whole.model.digest()
    assert run.history.losses == whole.history.losses


def test_what_a_callback_raises_at_the_end_loses_no_run(digits):
    class Bad(Callback):
        def on_end(self, run):
            raise OSError("gone")

    with pytest.raises(TrainingError, match="on_end raised OSError") as caught:
        portnet.finetune(digits, epochs=1, callbacks=[Bad()], **QUIET)
    assert len(caught.value.run.history) == 1


def test_tensorboard_reads_what_was_written(digits, tmp_path):
    """Read by TensorFlow's own reader of event files."""
    pytest.importorskip("tensorboardX")
    summaries = pytest.importorskip("tensorflow.compat.v1.train")
    run = portnet.finetune(digits, epochs=2, val_every=2, callbacks=[logger(f"tensorboard:{tmp_path}")], **QUIET)
    found = {}
    for path in tmp_path.iterdir():
        for event in summaries.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert list(found["loss/step"]) == [1, 2, 3, 4, 5, 6]
    assert list(found["loss/step"].values()) == pytest.approx(run.history.losses)
    assert found["accuracy/validation"] == pytest.approx({v.step: v.accuracy for v in run.history.validations})
    assert found["loss/training"] == pytest.approx({3: run.history[0].loss, 6: run.history[1].loss})


def test_mlflow_gets_settings_numbers_and_files(digits, tmp_path, monkeypatch):
    """Against a stand-in that has the methods of MlflowClient: MLflow itself brings thirty packages."""
    calls = []

    class Client:
        def __init__(self, tracking_uri):
            calls.append(("uri", tracking_uri))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return "7"

        def create_run(self, experiment_id, run_name=None):
            assert experiment_id == "7"
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def __getattr__(self, name):
            return lambda run_id, *values, **named: calls.append((name, *values, named))

    mlflow = ModuleType("mlflow")
    mlflow.MlflowClient = Client
    mlflow.entities = ModuleType("mlflow.entities")
    mlflow.entities.Metric = lambda *values: values
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", mlflow.entities)
    run = portnet.finetune(digits, epochs=2, out=tmp_path / "run", callbacks=[logger("mlflow:sqlite:///x.db")], **QUIET)
    assert calls[0] == ("uri", "sqlite:///x.db")
    assert ("log_param", "batch_size", "16", {}) in calls
    metrics = [metric for name, *_, named in calls if name == "log_batch" for metric in named["metrics"]]
    assert [value for name, value, _, _ in metrics if name == "loss_step"] == run.history.losses
    assert {name for name, *_ in metrics} == {
        "loss_step",
        "learning_rate",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
    }
    assert ("log_artifact", str(tmp_path / "run" / "model.onnx"), {}) in calls
    assert calls[-1] == ("set_terminated", "FINISHED", {})


@pytest.mark.parametrize(("name", "package"), [("tensorboard:x", "tensorboardX"), ("mlflow", "mlflow")])
def test_a_logger_that_is_not_installed_names_its_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'portnet\[{name.partition(':')[0]}\]'"):
        logger(name)


@pytest.mark.parametrize(("text", "error"), [("wandb", UnknownNameError), ("tensorboard", InputError)])
def test_unknown_loggers_are_refused(text, error):
    with pytest.raises(error, match="tensorboard"):
        logger(text)
