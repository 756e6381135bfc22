"""Outputs that are not a wide UTF-8 terminal: ASCII, closed, full, piped."""

import contextlib
import errno
import io
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from portnet import zoo
from portnet.finetuning.progress import ConsoleReporter
from portnet.terminal import LastingOutput, legible


def portnet(*words, environment=None, **options):
    command = [sys.executable, "-m", "portnet", *words]
    return subprocess.run(
        command, text=True, env={**os.environ, **(environment or {})}, timeout=60, stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize(
    "words", [("zoo",), ("summary", "squeezenet1_1"), ("finetune", "--help"), ("predict", "ö", "x")]
)
def test_ascii_is_enough(words):
    done = portnet(*words, environment={"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE)
    assert "UnicodeEncodeError" not in done.stderr
    assert done.returncode == (2 if words[0] == "predict" else 0), done.stderr
    assert (done.stdout + done.stderr).isascii()
    if words == ("zoo",):
        assert "224x224" in done.stdout


def test_what_an_encoding_lacks_is_spelt():
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    assert legible("11–13 × ≤ … ü \ud800", ascii_only) == "11-13 x <= ... \\xfc \\ud800"
    assert legible("11–13 × ü", io.StringIO()) == "11–13 × ü"


def test_progress_of_a_script_reaches_an_ascii_file(monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", file)
    with ConsoleReporter() as reporter:
        reporter.note("3 classes, 11–13 images a class")
    file.flush()
    assert file.buffer.getvalue() == b"3 classes, 11-13 images a class\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full device is Linux's")
@pytest.mark.parametrize("words", [("zoo",), ("zoo", "--json")])
def test_a_full_disk_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = portnet(*words, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "portnet: cannot write what it has to say: No space left on device\n"


def test_a_closed_output_is_no_error():
    script = "import sys; sys.stdout = None; sys.argv = ['portnet', 'zoo']; from portnet.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], text=True, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_tables_end_where_their_text_ends(capsys, monkeypatch):
    from portnet.cli import main

    monkeypatch.setattr(sys, "argv", ["portnet", "zoo"])
    with contextlib.suppress(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(zoo.names())
    assert all(line == line.rstrip() for line in lines)
    assert not any("\x1b" in line for line in lines)


class Gone(io.StringIO):
    """An output of which nobody is left to read."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise OSError(self.error, "gone")


def test_an_output_that_is_gone_is_told_once_and_dropped():
    said = []
    for error in (errno.EIO, errno.EPIPE, errno.ENOSPC):
        output = LastingOutput(Gone(error), partial(said.append, error))
        assert [output.write("one"), output.write("three")] == [3, 5]
        output.flush()
    assert said == [errno.EPIPE]
    assert LastingOutput(None, said.clear).write("two") == 3
