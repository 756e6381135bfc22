import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from portnet.errors import InputError, OutputError
from portnet.finetuning.checkpoint import Checkpoint, read, write
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.metrics import evaluate_logits
from portnet.finetuning.schedule import Schedule


def checkpoint(fill=1.0):
    return Checkpoint(
        epoch=2,
        batch=5,
        weights={"a/b.weight": np.full((3, 2), fill, np.float32)},
        optimizer={"momentum/a/b.weight": np.arange(6.0), "rng": np.arange(4, dtype=np.uint8)},
        progress={"history": [1, 2.5]},
    )


def test_round_trip(tmp_path):
    write(tmp_path / "c.npz", checkpoint())
    found = read(tmp_path / "c.npz")
    assert (found.epoch, found.batch, found.progress) == (2, 5, {"history": [1, 2.5]})
    assert found.weights["a/b.weight"].dtype == np.float32
    assert np.array_equal(found.optimizer["momentum/a/b.weight"], np.arange(6.0))
    assert os.listdir(tmp_path) == ["c.npz"]


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "c.npz"
    write(path, checkpoint())
    data = bytearray(path.read_bytes())
    place = data.find(np.full(1, 1.0, np.float32).tobytes() * 6)
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path / "c.npz")


def test_a_failed_write_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    write(path, checkpoint(1.0))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("portnet.finetuning.checkpoint._write_arrays", full)
    with pytest.raises(OutputError, match="No space left"):
        write(path, checkpoint(2.0))
    monkeypatch.undo()
    assert read(path).weights["a/b.weight"][0, 0] == 1.0
    assert os.listdir(tmp_path) == ["c.npz"]


HOLD = """
import sys, time
from portnet.finetuning.folder import RunFolder
with RunFolder(sys.argv[1]).claimed():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_serves_one_living_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"in use by process {process.pid}"), RunFolder(tmp_path).claimed():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".lock").exists()
    (tmp_path / f".checkpoint.npz.{process.pid}.tmp").touch()
    with RunFolder(tmp_path).claimed():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        # whoever has the number of the process that died is none of it
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
        with pytest.raises(OutputError, match="in use"), RunFolder(tmp_path).claimed():
            pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").create()


def test_schedules_at_known_points():
    assert Schedule("constant").factor(7, 10) == 1
    assert Schedule("step", step_size=3, gamma=0.1).factor(6, 10) == pytest.approx(0.01)
    assert Schedule("cosine").factor(5, 10) == pytest.approx(0.5)
    assert Schedule("cosine", warmup=4).factor(1, 10) == 0.5
    assert Schedule("cosine", warmup=4).factor(7, 10) == pytest.approx(0.5)
    assert Schedule("one-cycle").factor(0, 100) == pytest.approx(1 / 25)
    assert Schedule("one-cycle").factor(30, 100) == pytest.approx(1)


def test_metrics_by_hand():
    logits = np.array([[2.0, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, 2]], np.float32)
    result = evaluate_logits(logits, np.array([0, 1, 2, 2]), ("a", "b", "c"))
    assert result.accuracy == 0.75
    assert result.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert result.precision == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert result.recall == {"a": 1.0, "b": 1.0, "c": 0.5}
    right, wrong = -np.log(np.exp(2) / (np.exp(2) + 2)), -np.log(1 / (np.exp(2) + 2))
    assert result.loss == pytest.approx((3 * right + wrong) / 4)
