"""Kills a run with SIGKILL after some of its steps and resumes it each time, for settings that have much to remember.

python kill_combinations.py ENGINE FOLDER: prints one JSON object, by combination what the run that was left alone and
the one that was not came to. Each run is a fork of this process, which imports the framework and computes nothing.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from small_runs import small_images, small_settings

from portnet.engines import engine
from portnet.finetuning.api import finetune, resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.folder import RunFolder
from portnet.graph.model import Model

IMAGES = small_images()
KILLS = (3, 5, 8)
COMBINATIONS = {
    "unfreezing, views, best weights": {
        "freeze": "backbone",
        "unfreeze": {2: "until:stem", 3: "none"},
        "augment": "flip",
        "augment_views": 2,
        "schedule": "step:4:0.5",
        "early_stop": 9,
        "val_every": "1 step",
        "lr": 0.05,
    },
    "mixup, pieces, schedule": {
        "augment": "flip,mixup:0.2",
        "accumulate": 2,
        "batch_size": 3,
        "schedule": "one-cycle",
        "warmup": 2,
        "optimizer": "sgd",
        "nesterov": True,
        "weight_decay": 0.01,
        "batch_norm": "frozen",
        "val": 0.25,
    },
}


class Kill(Callback):
    """Ends the process after a step, as nobody could foresee."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run(name, folder, options, kill_after=0):
    """Begin a run, or resume it, in a child that may be killed; return the signal that ended it."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit("the run failed")
        return os.WTERMSIG(status)
    try:
        settings = small_settings(**{"backend": name, "epochs": 4, "lr": 1e-2, "checkpoint_every": 2, **options})
        callbacks = [Kill(kill_after)] if kill_after else []
        if RunFolder(folder).record.exists():
            resume(folder, data=IMAGES, progress=False, callbacks=callbacks, backbone=settings["backbone"])
        else:
            finetune(IMAGES, out=folder, callbacks=callbacks, **settings)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def result(folder):
    """Return all that two runs must have in common."""
    made, record = RunFolder(folder), RunFolder(folder).read_record()
    proof = {key: record["frozen_proof"][key] for key in ("frozen_initializers", "sha256_before", "sha256_after")}
    validations = [[each["step"], each["loss"]] for each in record["history"]["validations"]]
    return [Model.load(made.model).digest(), record["history"]["losses"], validations, record["best"], proof]


def main(name, folder):
    engine(name)
    found = {}
    for key, options in COMBINATIONS.items():
        place = Path(folder) / key.partition(",")[0]
        run(name, place / "whole", options)
        ends = [run(name, place / "killed", options, step) for step in (*KILLS, 0)]
        resumed = [each["after_steps"] for each in RunFolder(place / "killed").read_record()["resumed"]]
        found[key] = {
            "whole": result(place / "whole"),
            "killed": result(place / "killed"),
            "ends": ends,
            "resumed": resumed,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
