"""A frozen part that was interrupted: the next run goes on after its whole rows, and comes to the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.data.augment import Augment
from portnet.errors import InputError
from portnet.finetuning.api import resume
from portnet.finetuning.prefix import keep as keeping
from portnet.finetuning.prefix import partial
from portnet.finetuning.prefix.compute import BATCH_SIZE
from portnet.finetuning.prefix.store import Store

pytest.importorskip("portnet_torch")
pytest.importorskip("fcntl")

IMAGES = small_images(count=57)
# one part, or the views of the training images and then the others
POLICIES = {"one": {}, "views": {"augment": Augment(), "augment_views": 2}}
KEY = {"of": "these"}
NAME = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def starts(monkeypatch):
    """Rows that were there when a frozen part began to run, a number a part; fails by Ctrl-C where it is told to."""

    class Starts(list):
        stop_after = None

    found, original = Starts(), keeping.run_prefix

    def watched(computer, images, preprocessing, append, done, start=0):
        found.append(start)

        def stopped(count):
            done(count)
            if found.stop_after is not None and count >= found.stop_after:
                found.stop_after = None
                raise KeyboardInterrupt

        original(computer, images, preprocessing, append, stopped, start)

    monkeypatch.setattr(keeping, "run_prefix", watched)
    return found


def train(**options):
    options = {"freeze": "backbone", **options}
    return portnet.finetune(IMAGES, backend="torch", **small_settings(epochs=1, cache="disk", **options))


def files(store):
    return {entry.id: entry.manifest["files"] for entry in store.entries()}


@pytest.mark.parametrize("case", POLICIES)
@pytest.mark.parametrize("stop_after", [1, 33, 57, 70])
def test_the_next_run_goes_on_after_the_rows_that_are_whole(starts, monkeypatch, tmp_path, capsys, case, stop_after):
    whole = train(**POLICIES[case])
    expected = files(Store())
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "again"))
    starts.stop_after = stop_after
    try:
        train(**POLICIES[case])
    except KeyboardInterrupt:
        (left, *_) = [entry for entry in Store().entries() if not entry.is_whole]
        assert left.is_left
    else:
        assert case == "one"  # which has fewer rows
        return
    stopped = len(starts)
    run = train(**POLICIES[case], progress=True)
    ran = starts[stopped:]
    assert ran[0] >= min(stop_after, BATCH_SIZE)
    assert f"{ran[0]:,} of" in capsys.readouterr().out
    assert sum(start > 0 for start in ran) == 1
    assert files(Store()) == expected
    assert run.model.digest() == whole.model.digest()
    assert all(entry.is_whole for entry in Store().entries())


def test_ctrl_c_before_training_leaves_a_run_that_is_resumed(starts, tmp_path, capsys):
    whole = train()
    Store().clear()
    starts.stop_after = 20
    with pytest.raises(KeyboardInterrupt):
        train(out=tmp_path / "run", progress=True)
    assert f"to go on: portnet finetune --resume {tmp_path / 'run'}" in capsys.readouterr().out.replace("\n", "")
    run = resume(tmp_path / "run", data=IMAGES, backbone=small_settings()["backbone"])
    assert starts[-1] == 32
    assert run.model.digest() == whole.model.digest()


KILLED = f"""
import numpy as np, os, signal
from portnet.finetuning.prefix import store
store.NOTE_EVERY = 0
with store.Store().writing("{NAME}", {KEY!r}, [(6, 3), (6, 2)], "float32", {{}}) as writer:
    for row in range(writer.rows, 6):
        if row == int(os.environ["ROWS"]):
            os.kill(os.getpid(), signal.SIGKILL)
        writer.append([np.full((1, 3), row, np.float32), np.full((1, 2), -row, np.float32)])
"""
SHAPES = [(6, 3), (6, 2)]


def killed_after(rows):
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "ROWS": str(rows)}, timeout=60)
    assert done.returncode == -signal.SIGKILL


def write_rest():
    """Write what is missing; return how many rows were there."""
    with Store().writing(NAME, KEY, SHAPES, "float32", {}) as writer:
        there = writer.rows
        for row in range(there, 6):
            writer.append([np.full((1, 3), row, np.float32), np.full((1, 2), -row, np.float32)])
    first, second = Store().open(NAME, KEY, SHAPES, "float32")
    assert first.tolist() == [[row] * 3 for row in range(6)]
    assert second.tolist() == [[-row] * 2 for row in range(6)]
    assert sorted(os.listdir(Store().folder / NAME)) == ["0.npy", "1.npy", "manifest.json"]
    assert os.listdir(Store().folder) == [NAME]
    return there


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_what_a_killed_process_had_written_is_taken_up(rows):
    killed_after(rows)
    assert [entry.is_left for entry in Store().entries()] == [True]
    assert write_rest() == rows


def test_of_two_that_are_left_one_is_taken_up(tmp_path):
    killed_after(2)
    (left,) = Store().entries()
    left.path.rename(tmp_path / "aside")
    killed_after(4)
    (tmp_path / "aside").rename(left.path)
    assert write_rest() in (2, 4)


@pytest.mark.parametrize("harm", ["byte", "short", "link", "journal", "key", "rows", "more rows", "no file"])
def test_what_is_damaged_is_not_taken_up(harm, tmp_path):
    killed_after(3)
    (left,) = Store().entries()
    array, journal = left.path / "1.npy", left.path / "partial.json"
    data, told = bytearray(array.read_bytes()), json.loads(journal.read_text())
    if harm == "byte":
        data[-3] ^= 1
        array.write_bytes(data)
    elif harm == "short":
        array.write_bytes(data[:-1])
    elif harm == "link":
        array.rename(tmp_path / "elsewhere")
        array.symlink_to(tmp_path / "elsewhere")
    elif harm == "more rows":  # than there are images, with digests that are right
        files = [left.path / f"{number}.npy" for number in (0, 1)]
        for file, row in zip(files, (12, 8), strict=True):
            file.write_bytes(file.read_bytes() + bytes(4 * row))
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        journal.write_text(json.dumps({**told, "rows": 7, "sha256": digests}))
    elif harm == "no file":
        array.unlink()
    else:
        told |= {"key": {"of": "others"}} if harm == "key" else {"rows": 4}
        journal.write_text("{" if harm == "journal" else json.dumps(told))
    assert write_rest() == 0


def test_what_is_left_of_others_makes_room(starts, tmp_path, monkeypatch):
    need = train().record["cache"]["bytes"]
    Store().clear()
    killed_after(5)
    with pytest.raises(InputError, match="may hold"):
        train(cache_limit=need - 1)
    assert [entry.is_left for entry in Store().entries()] == [True]  # there would be no room without it either
    assert train(cache_limit=need + 1).record["cache"]["where"] == "disk"
    assert all(entry.is_whole for entry in Store().entries())
    Store().clear()
    killed_after(5)
    lock = partial.claim(Store().entries()[0].path)  # somebody is at it
    with pytest.raises(InputError, match="may hold"):
        train(cache_limit=need + 1)
    lock.close()


def test_what_another_process_writes_in_is_left_alone():
    killed_after(3)
    (left,) = Store().entries()
    lock = partial.claim(left.path)
    with Store().writing(NAME, KEY, SHAPES, "float32", {}) as writer:
        assert writer.rows == 0
        for row in range(6):
            writer.append([np.full((1, 3), row, np.float32), np.full((1, 2), -row, np.float32)])
    assert left.path.is_dir()
    lock.close()
    assert len(Store().clear()) == 2
