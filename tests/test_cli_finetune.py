"""Options of ``portnet finetune`` arrive in the run."""

import json

import pytest
from typer.testing import CliRunner

from portnet.cli.app import app


def finetune(*arguments):
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)])


def test_every_option_of_training_is_in_the_record(digits, tmp_path):
    options = {
        "size": 48,
        "batch-size": 8,
        "accumulate": 2,
        "epochs": 2,
        "freeze": "backbone",
        "unfreeze": "2=until:fire9",
        "lr-mult": "head=10",
        "stage-decay": 0.5,
        "optimizer": "sgd",
        "lr": 1e-3,
        "momentum": 0.8,
        "schedule": "step:2:0.5",
        "warmup": 2,
        "label-smoothing": 0.1,
        "clip-norm": 1.5,
        "class-weights": "1,2,3",
        "val-every": "2 steps",
        "early-stop": 5,
        "checkpoint-every": "30 s",
        "log": f"tensorboard:{tmp_path / 'logs'}",
        "out": tmp_path / "run",
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    result = finetune(digits, "--nesterov", *flags)
    assert result.exit_code == 0, result.output
    assert "from here on" in result.output
    assert "are restored" in result.output
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["freeze"] == {
        "kind": "backbone",
        "argument": "",
        "lr_mult": {"head": 10},
        "batch_norm": "auto",
        "later": {"2": "until:fire9"},
        "stage_decay": 0.5,
    }
    rule = settings["optimizer"]
    assert (rule["name"], rule["lr"], rule["momentum"], rule["nesterov"]) == ("sgd", 1e-3, 0.8, True)
    assert settings["schedule"] == {"name": "step", "warmup": 2, "step_size": 2, "gamma": 0.5}
    assert (settings["label_smoothing"], settings["clip_norm"], settings["class_weights"]) == (0.1, 1.5, [1, 2, 3])
    assert (settings["val_every"], settings["early_stop"]) == ("2 steps", 5)
    assert settings["checkpoint_every"] == "30 seconds"
    assert list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (["--unfreeze", "fire5"], "EPOCH=POLICY"),
        (["--nesterov"], "nesterov: got adam"),
        (["--schedule", "cosine:2"], "schedule: got 'cosine:2'"),
        (["--val-every", "often"], "val_every: got 'often'"),
        (["--val-every", "30 s"], "a run must repeat itself"),
        (["--early-stop", "0"], "early stop: got 0"),
        (["--log", "paper"], "unknown logger 'paper'"),
        (["--stage-decay", "2"], "stage decay: got 2"),
    ],
)
def test_options_that_mean_nothing_are_refused(digits, tmp_path, option, word):
    result = finetune(digits, *option, "--out", tmp_path / "run")
    assert result.exit_code != 0
    assert word in result.output + str(result.exception)
    assert not (tmp_path / "run").exists()
