"""A run's record is enough to do the run once more, and says whether that came to the same."""

import json
import math
import os
import shutil

import numpy as np
import pytest
from small_runs import small_images, small_settings
from typer.testing import CliRunner

import portnet
from portnet import zoo
from portnet.adapter.training import RULES
from portnet.cli.app import app
from portnet.errors import InputError
from portnet.finetuning import sets
from portnet.finetuning.api import repeat, resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.environment import changes
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.history import Epoch, History, Validation
from portnet.finetuning.progress import epoch_line
from portnet.finetuning.run import Run
from portnet.weights import store

IMAGES = small_images()
SETTINGS = {
    "epochs": 3,
    "freeze": "until:stem",
    "augment": "flip",
    "augment_views": 2,
    "schedule": "cosine",
    "early_stop": 5,
    "lr_mult": {"head": 10},
}
WHOLE = {"backbone": "squeezenet1_1", "weights": None, "size": 32, "epochs": 1, "batch_size": 16, "progress": False}


def edited(folder, change):
    """Change a run's record."""
    path = RunFolder(folder).record
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
@pytest.mark.parametrize("options", [SETTINGS, {"epochs": 2, "optimizer": "sgd", "accumulate": 2, "augment": "mixup"}])
def test_a_run_is_repeated_from_its_record_alone(tmp_path, backend, options, capsys):
    pytest.importorskip(f"portnet_{backend}")
    settings = small_settings(**options)
    run = portnet.finetune(IMAGES, backend=backend, out=tmp_path / "a", **settings)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "model.onnx").unlink()  # the record is all that it needs
    again = repeat(tmp_path / "b", data=IMAGES, backbone=settings["backbone"])
    assert "bit for bit" in capsys.readouterr().out
    assert again.model.digest() == run.model.digest() == record["weights"]["sha256_end"]
    assert again.history.losses == run.history.losses
    assert record["weights"]["sha256_start"] == again.record["weights"]["sha256_start"] != run.model.digest()


@pytest.fixture(scope="module")
def kept(digits, tmp_path_factory):
    """A run of a zoo network on a folder, with a relative path, in a folder of its own."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(digits, place / "digits")
    before = os.getcwd()
    os.chdir(place)
    try:
        portnet.finetune("digits", out="run", **WHOLE)
    finally:
        os.chdir(before)
    return place


def test_a_record_holds_what_others_need(kept):
    record = json.loads((kept / "run" / "run.json").read_text(), parse_constant=pytest.fail)
    assert record["definitions"] == {"optimizer": RULES["adam"], "schedule": "1"}
    assert record["origin"]["directory"] == str(kept)
    assert record["call"].startswith("import portnet\n\nportnet.finetune(\n    'digits',")
    assert len(record["environment"]["portnet's code"]) == 64
    assert {"processor", "torch", "numpy", "onnxruntime"} <= set(record["environment"])


def test_a_run_is_repeated_from_another_folder(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["finetune", "--repeat", str(kept / "run"), "--out", "again"])
    assert done.exit_code == 0, done.output
    assert "bit for bit" in done.stdout
    assert Run.load("again").model.digest() == Run.load(kept / "run").model.digest()


def test_weights_that_are_not_the_same_are_said(kept, tmp_path):
    shutil.copytree(kept / "run", tmp_path / "run")

    def change(record):
        record["weights"]["sha256_end"] = "0" * 64
        record["history"]["losses"][2] += 0.5
        record["environment"]["numpy"] = "1.0"

    edited(tmp_path / "run", change)
    arguments = ["finetune", str(kept / "digits"), "--repeat", str(tmp_path / "run"), "--out", str(tmp_path / "again")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "the weights are NOT those of" in done.stdout
    assert "that of step 3 (numpy 1.0 → " in done.stdout
    assert "the environment is another than the run began in" in done.stdout
    assert (tmp_path / "again" / "model.onnx").exists()


def test_other_images_or_weights_are_refused(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(kept)
    with pytest.raises(InputError, match="images are not those"):
        repeat(kept / "run", data=IMAGES, progress=False)
    shutil.copytree(kept / "run", tmp_path / "run")
    edited(tmp_path / "run", lambda record: record["settings"].update(seed=9, val=0.0))
    with pytest.raises(InputError, match="images are not those"):
        repeat(tmp_path / "run", data=kept / "digits", progress=False)
    edited(tmp_path / "run", lambda record: record["settings"].update(seed=0, val=0.2, head={**HEAD, "kind": "linear"}))
    with pytest.raises(InputError, match="weights are not those"):
        repeat(tmp_path / "run", data=kept / "digits", progress=False, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    with pytest.raises(InputError, match="holds no run"):
        repeat(tmp_path / "nowhere")
    done = CliRunner().invoke(app, ["finetune", "--repeat", str(kept / "run"), "--epochs", "3"])
    assert done.exit_code == 2


HEAD = {"hidden": [], "dropout": 0.0, "batch_norm": False, "relu": True}


class Stop(Callback):
    """Ends a run as Ctrl-C does."""

    def on_step(self, step):
        if step.step == 2:
            raise KeyboardInterrupt


def test_a_resumed_run_says_so_and_what_had_changed(tmp_path, capsys):
    settings = small_settings(epochs=2, backend="torch")
    portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=[Stop()], **settings)
    edited(tmp_path / "run", lambda record: record["environment"].update(python="2.7"))
    run = resume(tmp_path / "run", data=IMAGES, backbone=settings["backbone"])
    [entry] = run.record["resumed"]
    assert entry["after_steps"] == 2
    assert list(entry["changed"]) == ["python"]
    assert run.record["environment"]["python"] == "2.7"
    assert "python 2.7 → 3" in capsys.readouterr().out
    assert changes({"a": "1"}, {"a": "1"}) == {}


def test_more_images_than_are_read_are_known_by_names_and_sizes(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "DIGEST_LIMIT", 1000)
    shutil.copytree(digits, tmp_path / "digits")
    path = next((tmp_path / "digits" / "1").iterdir())

    def digest():
        return sets.data_digest(sets.load_dataset(tmp_path / "digits"))

    first = digest()
    assert first.startswith("names and sizes: ")
    assert digest() == first
    path.write_bytes(path.read_bytes() + b" ")
    assert digest() != first
    shutil.move(tmp_path / "digits" / "1" / path.name, tmp_path / "digits" / "7" / "moved.png")
    assert digest() != first


def test_numbers_that_are_none_leave_the_record_json(tmp_path):
    epoch = Epoch(0, 1.0, 0.5, math.nan, 0.25, 1e-3, 1.0, 9.0)
    history = History([epoch], [1.0], [Validation(1, 1.0, math.inf, 0.25)])
    assert history.best is None
    folder = RunFolder(tmp_path)
    folder.write_record({"schema": 1, "history": history.to_dict(), "test": {"loss": math.nan}})
    written = json.loads(folder.record.read_text(), parse_constant=pytest.fail)
    read = History.from_dict(written["history"])
    assert np.isnan([read[0].val_loss, read.validations[0].loss]).all()
    assert (read.best, read.since_best) == (None, 1)
    assert "val loss nan" in epoch_line(read[0], 1)
    assert "loss 7.145e+31" in epoch_line(Epoch(0, 7.145e31, 0.5, None, None, 1e-3, 1.0, 9.0), 1)


def test_weights_that_stood_in_for_others_are_asked_for_by_their_own_name(digits, tmp_path, monkeypatch, capsys):
    """What they stood in for may be at hand when the run is done again, and would be another network."""
    pytest.importorskip("portnet_torch")
    if "imagenet-caffe" not in zoo.info("squeezenet1_1").weights_at_hand():
        pytest.skip("weights 'imagenet-caffe' of squeezenet1_1 are not at hand")
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))  # no other weights are there
    portnet.finetune(digits, size=32, epochs=1, freeze="backbone", cache="memory", out=tmp_path / "a")
    assert "squeezenet1_1 (imagenet-caffe) on PyTorch" in capsys.readouterr().out
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["settings"]["weights"] == record["backbone_provenance"]["weights"] == "imagenet-caffe"
    assert "    weights='imagenet-caffe',\n" in record["call"]
    asked, entries = [], store.entries
    monkeypatch.setattr(store, "entries", lambda network, name: asked.append(name) or entries(network, name))
    again = repeat(tmp_path / "a", progress=False)
    assert again.model.digest() == record["weights"]["sha256_end"]
    assert asked == ["imagenet-caffe"]
