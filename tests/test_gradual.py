"""Gradual unfreezing: another policy by epoch, proved frozen phase by phase, resumed anywhere."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import small_backbone, small_images, small_settings

import portnet
from portnet import FreezePolicy
from portnet.errors import InputError, TrainingError, UnknownNameError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.settings import Settings

ENGINES = ["torch", "keras", "gluon"]
IMAGES = small_images()
GRADUAL = {"freeze": "backbone", "unfreeze": {2: "match:stem", 3: "match:bn1_node"}, "epochs": 3, "lr": 1e-2}


@pytest.fixture(params=ENGINES)
def backend(request):
    pytest.importorskip(f"portnet_{request.param}")
    return request.param


class FailAt(Callback):
    """Ends the run with an error after a step, or where an epoch ends."""

    def __init__(self, step=None, epoch=None):
        self.step, self.epoch = step, epoch

    def on_step(self, step):
        if step.step == self.step:
            raise RuntimeError("power cut")

    def on_epoch(self, epoch):
        if epoch.epoch == self.epoch:
            raise RuntimeError("power cut")


class Rates(Callback):
    """Keeps the learning rate of each step."""

    def __init__(self):
        self.lr = []

    def on_step(self, step):
        self.lr.append(step.lr)


def test_each_phase_moves_what_it_frees_and_proves_the_rest(tmp_path, backend):
    rates = Rates()
    settings = small_settings(backend=backend, schedule="cosine", callbacks=[rates], **GRADUAL)
    run = portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    proof = record["frozen_proof"]
    assert [phase["from_epoch"] for phase in proof["phases"]] == [1, 2, 3]
    assert [phase["policy"] for phase in proof["phases"]] == ["backbone", "match:stem", "match:bn1_node"]
    assert [phase["frozen_initializers"] for phase in proof["phases"]] == [11, 5, 4]
    assert proof["frozen_initializers"] == 4
    assert all(phase["sha256_before"] == phase["sha256_after"] != "" for phase in proof["phases"])
    before, after = small_backbone().weights(), run.model.weights()
    moved = {name for name in before if name in after and (after[name] != before[name]).any()}
    assert moved >= {"stem.weight", "group.weight", "bn2.weight", "bn2.running_mean"}
    assert not any(name.startswith("bn1") for name in moved)
    # the schedule knows nothing of phases
    assert rates.lr == pytest.approx([1e-2 * (1 + np.cos(np.pi * step / 9)) / 2 for step in range(9)])
    assert Settings.from_dict(record["settings"]) == run.settings


def test_phases_are_the_same_on_every_engine():
    losses = []
    for name in ENGINES:
        pytest.importorskip(f"portnet_{name}")
        settings = small_settings(backend=name, head="linear", optimizer="sgd", **GRADUAL)
        losses.append(portnet.finetune(IMAGES, **settings).history.losses)
    assert np.ptp(np.array(losses), axis=0).max() < 1e-4


@pytest.mark.parametrize(
    ("backend", "cache"), [("torch", "auto"), ("torch", "off"), ("keras", "auto"), ("gluon", "off")]
)
def test_a_run_resumed_in_any_phase_ends_bit_identical(tmp_path, backend, cache):
    pytest.importorskip(f"portnet_{backend}")
    settings = small_settings(backend=backend, cache=cache, early_stop=9, **GRADUAL)
    whole = portnet.finetune(IMAGES, **settings)
    failures = [FailAt(step=2), FailAt(epoch=0), FailAt(step=5), FailAt(epoch=1), FailAt(step=8)]
    failures = failures[1:3] if backend == "keras" else failures  # it builds its step anew each time, for seconds
    with pytest.raises(TrainingError, match="power cut"):
        portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=failures[:1], **settings)
    for failure in failures[1:]:
        with pytest.raises(TrainingError, match="power cut"):
            resume(tmp_path / "run", data=IMAGES, progress=False, callbacks=[failure], backbone=settings["backbone"])
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.history.validations == whole.history.validations
    assert run.model.digest() == whole.model.digest()
    assert run.record["frozen_proof"] == whole.record["frozen_proof"]


def test_what_was_trained_may_be_frozen_again(tmp_path):
    settings = small_settings(backend="torch", freeze="none", unfreeze={2: "backbone"}, epochs=2, lr=1e-2)
    whole = portnet.finetune(IMAGES, **settings)
    with pytest.raises(TrainingError, match="power cut"):
        portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=[FailAt(step=5)], **settings)
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.model.digest() == whole.model.digest()
    first, second = run.record["frozen_proof"]["phases"]
    assert first["frozen_initializers"] == 0
    assert second["sha256_before"] == second["sha256_after"]


def test_best_weights_of_an_earlier_phase_come_back_whole(monkeypatch):
    """The best validation is the first phase's: nothing that a later phase moved is left."""
    found = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(
        "portnet.finetuning.loop.evaluate_batches", lambda *_: SimpleNamespace(loss=next(found), accuracy=0.5)
    )
    run = portnet.finetune(IMAGES, **small_settings(backend="torch", early_stop=9, **GRADUAL))
    monkeypatch.undo()
    first = portnet.finetune(IMAGES, **small_settings(backend="torch", freeze="backbone", epochs=1, lr=1e-2))
    assert len(run.history) == 3
    assert run.model.digest() == first.model.digest()
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(run.lowered.predict(x), first.lowered.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("unfreeze", "error", "word"),
    [
        ({1: "none"}, InputError, "2 or later"),
        ({9: "none"}, InputError, "at most 3"),
        ({2: "melt"}, UnknownNameError, "melt"),
        ({2: "until:stam"}, UnknownNameError, "stem"),
    ],
)
def test_phases_that_cannot_be_are_refused(tmp_path, unfreeze, error, word):
    settings = small_settings(epochs=3, freeze="backbone", unfreeze=unfreeze)
    with pytest.raises(error, match=word):
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_gradual_policy_in_one_call():
    policy = FreezePolicy.gradual({1: "backbone", 3: "until:fire5"}, lr_mult={"head": 10}, stage_decay=0.5)
    assert policy.describe() == "backbone, from epoch 3 until:fire5, lr ×0.5 a stage, lr ×10 on 'head'"
    assert policy.phases()[2] == FreezePolicy.until("fire5", lr_mult={"head": 10}).with_options(stage_decay=0.5)
    with pytest.raises(InputError, match="begin with epoch 1"):
        FreezePolicy.gradual({2: "none"})


def test_stage_decay_halves_the_rate_from_stage_to_stage():
    model = portnet.Head.natural().attach(portnet.Backbone.of("resnet18", weights=None, size=64), ["a", "b"])
    table = FreezePolicy.none(lr_mult={"head": 10}).with_options(stage_decay=0.5).resolve(model)
    factors = {row.layer.stage: row.lr_mult for row in table.rows}
    assert factors == {"stem": 1 / 32, "layer1": 1 / 16, "layer2": 1 / 8, "layer3": 1 / 4, "layer4": 1 / 2, "head": 10}
