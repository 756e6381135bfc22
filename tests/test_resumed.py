"""Runs that go on: with settings that have much to remember, and with what is not theirs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.cli import main
from portnet.errors import InputError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.run import Run
from portnet.finetuning.settings import Settings

IMAGES = small_images()
TESTS = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_what_there_is_to_remember_is_remembered_together(tmp_path, backend):
    pytest.importorskip(f"portnet_{backend}")
    done = subprocess.run(
        [sys.executable, str(TESTS / "kill_combinations.py"), backend, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        assert found["ends"] == [signal.SIGKILL] * 3 + [0]
        assert found["resumed"][-1] >= 6
        assert found["killed"] == found["whole"]


class Stop(Callback):
    """Ends a run as Ctrl-C does."""

    def on_step(self, step):
        if step.step == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that Ctrl-C ended after two steps."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    portnet.finetune(IMAGES, out=folder, callbacks=[Stop()], **small_settings(epochs=2, backend="torch"))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["settings"]["optimizer"].update(name="sgd"), "other settings"),
        (lambda r: r["settings"].update(batch_size=3), "other settings"),
        (lambda r: r["settings"].update(backend="gluon"), "other settings"),
        (lambda r: r["settings"].update(epochs="2"), "expected an integer"),
        (lambda r: r["settings"]["optimizer"].update(zz=1), "damaged"),
        (lambda r: r["data"].pop("source"), "it has no source"),
        (lambda r: r.pop("history"), "it has no history"),
        (lambda r: r.update(data=[]), "it has no data"),
    ],
)
def test_a_record_that_is_not_the_checkpoints_is_refused(stopped, tmp_path, change, words):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    before = {each.name: each.read_bytes() for each in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match=words):
        resume(tmp_path / "run", data=IMAGES, progress=False, backbone=small_settings()["backbone"])
    assert {each.name: each.read_bytes() for each in (tmp_path / "run").iterdir()} == before


def test_what_does_not_decide_weights_may_change(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    record["settings"]["checkpoint_every"] = "1 steps"
    path.write_text(json.dumps(record))
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=small_settings()["backbone"])
    assert run.record["ended"] == "finished"


def test_settings_have_the_same_digest_when_they_are_read_again():
    settings = portnet.FreezePolicy.gradual({1: "backbone", 3: "none"}, lr_mult={"head": 10})
    first = Settings("a", freeze=settings, epochs=3, class_weights=(1.0, 2.0))
    again = Settings.from_dict(json.loads(json.dumps(first.to_dict())))
    assert again.digest() == first.digest() != first.but(seed=1).digest()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_while_it_gets_ready_is_resumed(tmp_path):
    """The frozen part of a network may run for hours before the first step."""
    settings = small_settings(epochs=1, backend="torch", freeze="backbone")
    whole = portnet.finetune(IMAGES, **settings)
    code = (
        "import os, signal; from small_runs import *; import portnet; from portnet.finetuning import phases\n"
        "phases.keep = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"settings = small_settings(epochs=1, backend='torch', freeze='backbone')\n"
        f"portnet.finetune(small_images(), out={str(tmp_path / 'run')!r}, **settings)"
    )
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="not finished"):
        Run.load(tmp_path / "run")
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.model.digest() == whole.model.digest()
    assert run.record["resumed"] == [{"after_steps": 0, "changed": {}}]


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path):
    settings = small_settings(backend="torch", freeze="backbone", cache="disk", cache_limit=1)
    for _ in range(2):
        with pytest.raises(InputError, match="limit"):
            portnet.finetune(small_images(seed=7), out=tmp_path / "run", **settings)
        assert not list((tmp_path / "run").iterdir())


def test_a_run_that_ended_before_it_trained_is_begun_anew(tmp_path):
    (tmp_path / ".lock").touch()
    with pytest.raises(InputError, match="begin it anew"):
        RunFolder(tmp_path).read_record()


def test_ctrl_c_that_a_library_made_an_error_of_is_one_line(monkeypatch, capsys):
    def app(**options):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("the module could not be initialised") from None

    monkeypatch.setattr("portnet.cli.app.app", app)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        main()
    assert signal.getsignal(signal.SIGINT) is before
    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines() == ["portnet: interrupted"]


@pytest.mark.parametrize("wait", [0.3, "checkpoint"])
def test_ctrl_c_is_one_line_at_any_moment(digits, tmp_path, wait):
    """While it starts nothing is left, while it trains everything is."""
    options = ["--size", "48", "--epochs", "500", "--weights", "none", "--checkpoint-every", "1"]
    command = [sys.executable, "-m", "portnet", "finetune", str(digits), *options, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    if wait == "checkpoint":
        while not (tmp_path / "run" / "checkpoint.npz").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    else:
        time.sleep(wait)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # by the signal itself where it came while Python ran a text: to a shell that is 130 as well
    assert process.returncode in (130, -signal.SIGINT)
    assert err.splitlines() == ["portnet: interrupted"]
    if wait == "checkpoint":
        assert f"next: portnet finetune --resume {tmp_path / 'run'}" in out
    else:
        assert not (tmp_path / "run").exists()
