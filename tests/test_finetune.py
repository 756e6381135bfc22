"""Fine-tuning on every engine: real digits, a small input, few steps."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.engines import engine
from portnet.errors import InputError, OutputError, ParityError, TrainingError
from portnet.finetuning.api import resume
from portnet.finetuning.run import Run
from portnet.finetuning.settings import Settings

ENGINES = ["torch", "keras", "gluon"]
SMALL = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "seed": 1, "progress": False}


@pytest.fixture(params=ENGINES)
def backend(request):
    pytest.importorskip(f"portnet_{request.param}")
    return request.param


def test_a_run_learns_exports_and_predicts(digits, tmp_path, backend):
    run = portnet.finetune(
        digits,
        backend=backend,
        freeze="until:fire5",
        epochs=4,
        lr=1e-3,
        head=portnet.Head.linear(),
        out=tmp_path / "run",
        **SMALL,
    )
    assert run.history[-1].loss < run.history[0].loss / 2
    assert run.history[-1].val_accuracy > 0.8
    assert run.record["frozen_proof"]["sha256_before"] == run.record["frozen_proof"]["sha256_after"]
    assert run.record["frozen_proof"]["frozen_initializers"] > 0
    path = run.export(tmp_path / "digits.onnx")
    assert portnet.check(run.native, path).passed
    images = [sorted((digits / name).iterdir())[0] for name in ("0", "1", "7")]
    loaded = portnet.load(path)
    assert loaded.labels == ("0", "1", "7")
    assert loaded.predict(images).labels == ["0", "1", "7"]
    again = Run.load(tmp_path / "run")
    assert again.evaluate(digits).accuracy == run.evaluate(digits).accuracy
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_the_frozen_part_stays_as_it_was(digits, backend):
    backbone = portnet.Backbone.of("squeezenet1_1", size=48)
    before = backbone.model.weights()
    run = portnet.finetune(digits, backend=backend, freeze="first:16", epochs=1, cache="off", **SMALL)
    after = run.model.weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    frozen = {name for name, plan in run.settings.freeze.resolve(run.model).parameters.items() if not plan.trainable}
    assert len(frozen) == 14
    assert moved
    assert not moved & frozen
    assert all(before[name].tobytes() == after[name].tobytes() for name in frozen)


def test_cached_and_uncached_runs_have_the_same_losses(digits, backend):
    settings = {**SMALL, "backend": backend, "freeze": "until:fire5", "epochs": 5, "optimizer": "sgd", "lr": 1e-4}
    settings["head"] = portnet.Head.linear()  # no dropout, whose masks differ with the shape of the graph
    cached = portnet.finetune(digits, cache="memory", **settings)
    whole = portnet.finetune(digits, cache="off", **settings)
    assert len(cached.history.losses) == 15
    assert np.abs(np.subtract(cached.history.losses, whole.history.losses)).max() < 1e-4


def test_three_engines_run_the_same_run(digits):
    runs = []
    for name in ENGINES:
        pytest.importorskip(f"portnet_{name}")
        runs.append(
            portnet.finetune(
                digits, backend=name, head="linear", epochs=3, optimizer="sgd", lr=1e-4, schedule="cosine", **SMALL
            )
        )
    losses = np.array([run.history.losses for run in runs])
    assert np.ptp(losses, axis=0).max() < 1e-3


def test_a_last_batch_of_one_image_is_the_same_on_every_engine():
    losses = []
    for name in ENGINES:
        pytest.importorskip(f"portnet_{name}")
        head = portnet.Head.mlp((8,), dropout=0.0, batch_norm=True)
        settings = small_settings(backend=name, head=head, optimizer="sgd", lr=1e-3, epochs=2, batch_size=17)
        losses.append(portnet.finetune(small_images(), **settings).history.losses)
    assert len(losses[0]) == 4
    assert np.ptp(np.array(losses), axis=0).max() < 1e-4


# the command line, whose process stops itself once there is a checkpoint, so that no signal comes too late
STOPPING = """
import os, signal
from portnet.cli import main
from portnet.finetuning.folder import RunFolder

save = RunFolder.save

def stopping(self, checkpoint):
    save(self, checkpoint)
    RunFolder.save = save
    os.kill(os.getpid(), signal.SIGSTOP)

RunFolder.save = stopping
main()
"""


def _stopped(digits, out):
    """Start a run that has stopped itself after its first checkpoint."""
    command = _command(digits, out, "torch")
    process = subprocess.Popen([command[0], "-c", STOPPING, *command[3:]], stdout=subprocess.PIPE, text=True)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "the run ended before it was to be stopped"
    return process


def _command(digits, out, backend):
    options = {"size": 48, "epochs": 6, "batch-size": 8, "freeze": "until:fire2", "cache": "off", "lr": 1e-4}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    where = ["--backend", backend, "--out", str(out)]
    return [sys.executable, "-m", "portnet", "finetune", str(digits), *where, *flags]


def test_killed_and_resumed_from_the_command_line_is_bit_identical(digits, tmp_path):
    process = _stopped(digits, tmp_path / "killed")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = [sys.executable, "-m", "portnet", "finetune", "--resume", str(tmp_path / "killed")]
    for command in (again, _command(digits, tmp_path / "whole", "torch")):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    resumed, whole = Run.load(tmp_path / "killed"), Run.load(tmp_path / "whole")
    assert resumed.history.losses == whole.history.losses
    assert resumed.model.digest() == whole.model.digest()


def test_ctrl_c_saves_what_there_is(digits, tmp_path):
    process = _stopped(digits, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "interrupted in epoch" in output
    run = Run.load(tmp_path / "run")
    assert run.interrupted
    assert len(run.history) >= 1
    assert resume(tmp_path / "run", progress=False).interrupted is False


def test_ctrl_c_is_heard_while_the_frozen_part_runs(digits, tmp_path, monkeypatch):
    def run_prefix(session, images, preprocessing, append, done, start):
        signal.raise_signal(signal.SIGINT)
        done(1)
        raise AssertionError("Ctrl-C was not heard")

    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("portnet.finetuning.prefix.keep.run_prefix", run_prefix)
    with pytest.raises(KeyboardInterrupt):
        portnet.finetune(digits, backend="torch", freeze="backbone", epochs=1, out=tmp_path / "run", **SMALL)
    monkeypatch.undo()
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    assert len(resume(tmp_path / "run", progress=False).history) == 1


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"class_weights": (1.0, 2.0)}, "class weights: got 2, expected 3"),
        ({"class_weights": (1.0, -1.0, 1.0)}, "expected numbers from 0 on"),
        ({"clip_norm": -1.0}, "clip norm"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(digits, option, word):
    with pytest.raises(InputError, match=word):
        portnet.finetune(digits, backend="torch", epochs=1, **option, **SMALL)


def test_a_nan_loss_ends_the_run_with_advice(digits):
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        portnet.finetune(digits, backend="torch", epochs=5, optimizer="sgd", lr=1e30, **SMALL)


def test_an_export_that_fails_its_check_leaves_no_file(digits, tmp_path):
    run = portnet.finetune(digits, backend="torch", freeze="backbone", epochs=1, **SMALL)
    weights = run.lowered.weights()
    run.lowered.set_weights({"head.conv.bias": weights["head.conv.bias"] + 1})
    with pytest.raises(ParityError, match="differ"):
        run.export(tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_run_is_not_overwritten(digits, tmp_path):
    settings = {**SMALL, "freeze": "backbone", "epochs": 1, "out": tmp_path / "run"}
    portnet.finetune(digits, backend="torch", **settings)
    before = (tmp_path / "run" / "model.onnx").read_bytes()
    with pytest.raises(OutputError, match="holds a run already"):
        portnet.finetune(digits, backend="torch", **settings)
    assert (tmp_path / "run" / "model.onnx").read_bytes() == before
    with pytest.raises(InputError, match="no checkpoint"):
        resume(tmp_path / "run")


def test_the_record_is_enough_to_repeat_the_run(digits, tmp_path):
    run = portnet.finetune(digits, backend="torch", freeze="until:fire8", epochs=1, out=tmp_path / "run", **SMALL)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["train"] == {"0": 16, "1": 16, "7": 16}
    assert len(record["data"]["digest"][0]) == 64
    assert record["environment"]["torch"] == engine("torch").version()
    assert any(row["trainable"] == "frozen" for row in record["policy"])
    settings = Settings.from_dict(record["settings"])
    assert settings == run.settings


def test_arrays_and_pairs_train_too(digits):
    paths = sorted(digits.glob("*/*.png"))
    pairs = [(path, path.parent.name) for path in paths]
    run = portnet.finetune(pairs, backend="torch", freeze="backbone", epochs=1, **SMALL)
    assert run.model.labels == ("0", "1", "7")
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 20, 3)).astype(np.uint8)
    run = portnet.finetune((pixels, ["a", "b"] * 6), backend="torch", freeze="backbone", epochs=1, **SMALL)
    assert run.model.labels == ("a", "b")


def test_an_onnx_file_is_a_backbone(digits, tmp_path):
    model = portnet.zoo.load("resnet18", weights=None, size=48)
    model.metadata.backbone = None  # as if it came from elsewhere
    model.save(tmp_path / "foreign.onnx")
    run = portnet.finetune(digits, **{**SMALL, "backbone": tmp_path / "foreign.onnx"}, freeze="until:layer3", epochs=1)
    assert run.model.outputs[0].shape == ("N", 3)
    assert os.path.basename(run.settings.backbone) == "foreign.onnx"
