"""Kills a run with SIGKILL at random moments and resumes it, again and again; a process of its own for each engine.

The framework is imported once, here; each attempt is a fork of this process, which has not computed anything yet.
Prints one JSON object: the weights' digest and the losses of the run that was left alone and of those that were not,
and where kills happened. With "ends" in place of a count, a short run is killed before each of the calls that make
something of it last, and then resumed.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from small_runs import small_images, small_settings

from portnet.engines import engine
from portnet.errors import InputError
from portnet.finetuning import checkpoint
from portnet.finetuning.api import finetune, resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.run import Run
from portnet.graph.model import Model

IMAGES = small_images()
# bombs that go off in the run's own process, at a stage of writing a file that no clock hits: (function, before it)
STAGES = [("fsync", True), ("replace", True), ("replace", False), ("unlink", True), ("write", True)]


class Told(Callback):
    """Tells the parent that training has begun."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_start(self, start):
        os.write(self.pipe, b"!")


def bomb(name, before, call):
    """Have the process kill itself at the given call of a function of os."""
    function, left = getattr(os, name), [call]

    def exploding(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, exploding)


def half_written(call):
    """Have the process kill itself in the middle of a checkpoint's bytes."""
    write, left = checkpoint._write_arrays, [call]

    def exploding(file, arrays):
        left[0] -= 1
        if left[0]:
            return write(file, arrays)
        file.write(b"PK\x03\x04 and then the power went")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._write_arrays = exploding


def attempt(name, folder, stage=None, call=1, **changes):
    """Start a run, or resume it if there is one, in a child; return (its process id, pipe that tells of its start)."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        os.close(read)
        if stage is not None and stage[0] == "write":
            half_written(call)
        elif stage is not None:
            bomb(*stage, call)
        settings = small_settings(backend=name, epochs=4, lr=1e-2, early_stop=50, checkpoint_every=1, cache="off")
        if name == "keras":
            # it builds a function for predictions, for a second each time
            settings |= {"val": 0.0, "early_stop": None}
        settings |= changes
        if RunFolder(folder).record.exists():
            resume(folder, data=IMAGES, progress=False, callbacks=[Told(write)], backbone=settings["backbone"])
        else:
            finetune(IMAGES, out=folder, callbacks=[Told(write)], **settings)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(child):
    """Wait for a child; return whether it came to its end by itself."""
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("the run failed")
    return os.WIFEXITED(status)


def is_over(folder):
    """Return whether a run was killed when all was done, in the moment before its process ended."""
    run = RunFolder(folder)
    return run.model.exists() and not run.checkpoint.exists()


def result(folder):
    run = RunFolder(folder)
    # a claim that its process did not live to give back is nobody's: the next run takes it over
    left = sorted(path.name for path in Path(folder).iterdir() if path.name != ".lock")
    assert left == ["model.onnx", "run.json"], left
    return [Model.load(run.model).digest(), run.read_record()["history"]["losses"]]


def main(name, folder, kills, seed):
    generator, folder = random.Random(seed), Path(folder)
    engine(name)
    child, pipe = attempt(name, folder / "whole")
    os.read(pipe, 1)
    began = time.monotonic()
    assert ended(child)
    seconds = time.monotonic() - began
    results, places, number, done = [], [], 0, 0
    while done < kills:
        target = folder / f"killed-{number}"
        stage = generator.choice(STAGES) if done % 4 == 3 else None
        child, pipe = attempt(name, target, stage, generator.randint(1, 12))
        if stage is None:
            # one in five while it still gets ready
            wait = None if generator.random() < 0.2 else generator.uniform(0, 0.4 * seconds)
            select.select([pipe], [], [], generator.uniform(0, 0.3) if wait is None else None)
            time.sleep(wait or 0)
            os.kill(child, signal.SIGKILL)
        was_killed = not ended(child)
        if was_killed:
            places.append([stage, (target / "checkpoint.npz").exists()])
            done += 1
        if not was_killed or is_over(target):
            results.append(result(target))
            number += 1
        os.close(pipe)
    child, _ = attempt(name, target := folder / f"killed-{number}")
    assert ended(child)
    results.append(result(target))
    print(json.dumps({"whole": result(folder / "whole"), "killed": results, "places": places, "seconds": seconds}))


def loaded(folder):
    """Return what `Run.load` says of a run, or that it takes it for whole, which it then has to be."""
    try:
        run = Run.load(folder)
    except InputError as error:
        return next(words for words in ("not finished", "was killed") if words in str(error))
    assert run.record["ended"] == "finished"
    return "loaded"


def state_of(folder):
    """Return the names of what a run has left, but for files that it was writing, and how far its record is."""
    record = RunFolder(folder).read_record()
    names = sorted(path.name for path in Path(folder).iterdir() if path.suffix != ".tmp")
    return names, record["ended"], "test" in record


def kill_at_the_end(name, folder):
    """Kill a run before each call that makes a file appear or vanish, and resume it from each state that this leaves.

    Before the first two, there is nothing but a record.
    """
    engine(name)
    short = {"epochs": 1, "checkpoint_every": "1 epochs", "test": 0.25}
    said, calls, results, states = [], {}, [], []
    for function in ("replace", "unlink"):
        for call in range(2, 40):
            target = Path(folder) / f"{function}-{call}"
            child, pipe = attempt(name, target, (function, True), call, **short)
            came_to_its_end = ended(child)
            os.close(pipe)
            if came_to_its_end:
                break
            calls[function] = call
            state = state_of(target)
            if state in states:
                continue
            states.append(state)
            said.append(loaded(target))
            if is_over(target):
                said.append("is finished")
            else:
                child, pipe = attempt(name, target)
                assert ended(child)
                os.close(pipe)
                said.append("resumed")
            results.append([*result(target), Run.load(target).test])
    print(json.dumps({"calls": calls, "said": said, "results": results}))


if __name__ == "__main__":
    if sys.argv[3] == "ends":
        kill_at_the_end(*sys.argv[1:3])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
