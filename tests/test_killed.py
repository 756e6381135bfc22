"""Runs that end as nobody wished: killed, disk full, NaN, an image gone, Ctrl-C, another run in the folder."""

import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.errors import DataError, InputError, OutputError, TrainingError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.run import Run
from portnet.graph.model import Model

IMAGES = small_images()
KILLS = 20


class At(Callback):
    """Does something after a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, step):
        if step.step == self.step:
            self.action()


def kill(*arguments):
    """Run the worker, which forks: the order of imports and what they start is its own affair."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(tests / "kill_worker.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_killed_at_any_moment_and_resumed_is_bit_identical(tmp_path, backend):
    pytest.importorskip(f"portnet_{backend}")
    found = kill(backend, tmp_path, str(KILLS), "1")
    assert len(found["places"]) == KILLS
    assert any(had_checkpoint for _, had_checkpoint in found["places"])
    assert found["killed"]
    for digest, losses in found["killed"]:
        assert losses == found["whole"][1]
        assert digest == found["whole"][0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_each_moment_of_its_end_a_run_is_whole_or_resumes(tmp_path):
    """Before each call that makes something of it last: network, record, result of the test, checkpoint, claim."""
    pytest.importorskip("portnet_torch")
    found = kill("torch", tmp_path, "ends")
    # the record before and after it got ready, a checkpoint, the network, the record, once more with the test's result
    assert found["calls"]["replace"] == 6
    assert {"not finished", "was killed", "loaded", "resumed", "is finished"} == set(found["said"])
    assert len(found["results"]) >= 6
    assert all(each == found["results"][0] for each in found["results"])


@pytest.fixture
def largest_file():
    """Give a function that has every write beyond so many bytes fail, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_stays(tmp_path, largest_file, capsys):
    settings = small_settings(backend="torch", epochs=2, checkpoint_every=1)
    whole = portnet.finetune(IMAGES, **settings)
    settings |= {"callbacks": [At(4, lambda: largest_file(1000))], "out": tmp_path / "run", "progress": True}
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint.npz: File too large.*Make room, then go on with"):
        portnet.finetune(IMAGES, **settings)
    largest_file(resource.RLIM_INFINITY)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.npz", "run.json"]
    assert len(RunFolder(tmp_path / "run").restore().progress["history"]["losses"]) == 3
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.model.digest() == whole.model.digest()


def test_a_disk_that_is_full_when_all_is_done_loses_nothing(tmp_path, monkeypatch):
    settings = small_settings(backend="torch", epochs=2)
    whole = portnet.finetune(IMAGES, **settings)

    def full(self, path):
        raise OutputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(Model, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    monkeypatch.undo()
    with pytest.raises(InputError, match="not finished"):
        Run.load(tmp_path / "run")
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.model.digest() == whole.model.digest()
    assert Run.load(tmp_path / "run").record["ended"] == "finished"


def test_a_loss_that_becomes_nan_leaves_the_last_checkpoint_and_its_network(tmp_path, capsys):
    settings = small_settings(backend="torch", epochs=4, optimizer="sgd", checkpoint_every=1, progress=True)
    settings |= {"head": "linear", "schedule": "step:4:1e30"}
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch 2, step \d. Lower the learning rate"):
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    run = Run.load(tmp_path / "run")
    assert run.record["ended"].startswith("failed: the loss became")
    steps = len(run.history.losses)
    assert f"model.onnx is the network as it was after step {steps}" in capsys.readouterr().out
    assert 3 < steps < 7
    kept = RunFolder(tmp_path / "run").restore()
    assert all((run.model.weights()[name] == array).all() for name, array in kept.weights.items())


def test_a_loss_that_is_nan_at_once_leaves_a_record_that_says_so(tmp_path):
    settings = small_settings(backend="torch", optimizer="sgd", lr=1e38)
    with pytest.raises(TrainingError, match="the loss became"):
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    record = RunFolder(tmp_path / "run").read_record()
    assert record["ended"].startswith("failed: the loss became")
    with pytest.raises(InputError, match=r"run that failed: the loss became .*, before it kept anything. Begin anew"):
        Run.load(tmp_path / "run")


def test_an_image_that_vanishes_midway_is_named_and_what_was_learned_is_kept(digits, tmp_path, capsys):
    photos, away = tmp_path / "photos", tmp_path / "away"
    shutil.copytree(digits, photos)
    settings = small_settings(backend="torch", epochs=2, batch_size=3)
    whole = portnet.finetune(photos, **settings)
    with pytest.raises(DataError, match=r"photos/7/\d+.png"):
        portnet.finetune(
            photos,
            out=tmp_path / "run",
            callbacks=[At(1, lambda: (photos / "7").rename(away))],
            **{**settings, "progress": True},
        )
    assert "to go on once the image is back as it was when the run began: portnet finetune --resume" in (
        " ".join(capsys.readouterr().out.split())
    )
    kept = Run.load(tmp_path / "run")
    assert kept.interrupted
    assert 1 <= len(kept.history.losses) < 12
    with pytest.raises(InputError):
        resume(tmp_path / "run", progress=False, backbone=settings["backbone"])
    away.rename(photos / "7")
    run = resume(tmp_path / "run", progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.model.digest() == whole.model.digest()


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)],
    ids=["ctrl-c", "sigterm", "sighup", "a terminal that closes"],
)
def test_what_asks_a_run_to_end_waits_for_the_step_and_keeps_everything(tmp_path, numbers):
    settings = small_settings(backend="torch", epochs=2)
    whole = portnet.finetune(IMAGES, **settings)
    stop = At(4, lambda: [signal.raise_signal(number) for number in numbers])
    run = portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=[stop], **settings)
    assert run.interrupted
    assert len(run.history.losses) == 4
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.model.digest() == whole.model.digest()


def test_under_nohup_a_terminal_that_closes_is_of_no_account():
    settings = small_settings(backend="torch", epochs=2)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = portnet.finetune(IMAGES, callbacks=[At(4, lambda: signal.raise_signal(signal.SIGHUP))], **settings)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not run.interrupted


@pytest.mark.parametrize("error", [errno.EIO, errno.EPIPE])
def test_an_output_that_is_gone_loses_nothing(tmp_path, monkeypatch, error):
    """A closed terminal ends no run that is to outlive it; one whose reader has gone ends as by Ctrl-C."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(error, "gone")

    settings = small_settings(backend="torch", epochs=2)
    whole = portnet.finetune(IMAGES, **settings)
    monkeypatch.setattr(sys, "stdout", Gone())
    run = portnet.finetune(IMAGES, out=tmp_path / "run", **{**settings, "progress": True})
    monkeypatch.undo()
    assert run.interrupted == (error == errno.EPIPE)
    if run.interrupted:
        run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.model.digest() == whole.model.digest()


def test_a_second_ctrl_c_within_a_step_falls_back_to_the_checkpoint(tmp_path, monkeypatch):
    """What is half done is not written: the run goes on from the last checkpoint, and ends the same."""
    from portnet_torch.train import TorchTrainer

    settings = small_settings(backend="torch", epochs=2)
    whole = portnet.finetune(IMAGES, **settings)
    step, count = TorchTrainer.step, [0]

    def interrupted(self, x, y):
        count[0] += 1
        result = step(self, x, y)
        if count[0] == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(TorchTrainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    monkeypatch.undo()
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.history.losses == whole.history.losses
    assert run.model.digest() == whole.model.digest()


def test_two_runs_in_one_folder_and_the_first_goes_on(tmp_path):
    settings = small_settings(backend="torch", epochs=2)
    seen = []

    def another():
        for start in (
            lambda: portnet.finetune(IMAGES, out=tmp_path / "run", **settings),
            lambda: resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"]),
        ):
            with pytest.raises(OutputError) as caught:
                start()
            seen.append(str(caught.value))

    run = portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=[At(4, another)], **settings)
    assert "holds a run already" in seen[0]
    assert f"in use by process {os.getpid()}" in seen[1]
    assert run.model.digest() == portnet.finetune(IMAGES, **settings).model.digest()
    assert Run.load(tmp_path / "run").model.digest() == run.model.digest()


def test_a_run_without_a_checkpoint_yet_begins_anew(tmp_path):
    settings = small_settings(backend="torch", epochs=1)
    whole = portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    # as it lies there when the process was killed in its first epoch
    (tmp_path / "run" / "model.onnx").unlink()
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.model.digest() == whole.model.digest()
    with pytest.raises(InputError, match="the run is finished"):
        resume(tmp_path / "run", data=IMAGES)
