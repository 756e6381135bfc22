"""Disks that are full while a network is written: one clear line, and nothing left."""

import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from portnet.conversion import convert_to_file
from portnet.engines import engine
from portnet.errors import OutputError, UnsupportedError
from portnet.testing.networks import convnet

FORMS = {
    "torch": ["x.pt2", "x.safetensors", "x.py"],
    "keras": ["x.keras", "saved"],
    "gluon": ["x-symbol.json"],
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_cannot_grow_is_refused_in_a_line(tmp_path, name):
    """In a process of its own, because a framework's writer may end it."""
    pytest.importorskip(f"portnet_{name}")
    convnet().save(tmp_path / "x.onnx")
    (tmp_path / "out").mkdir()
    code = (
        "import resource, sys\n"
        "from portnet.conversion import convert_to_file\n"
        "from portnet.errors import PortNetError\n"
        "from portnet.engines import engine\n"
        "engine(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))\n"
        "for output in sys.argv[3:]:\n"
        "    try: convert_to_file(sys.argv[2], to=sys.argv[1], output=output)\n"
        "    except PortNetError as error: print('said', error)\n"
    )
    outputs = [str(tmp_path / "out" / form) for form in FORMS[name]]
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(tmp_path / "x.onnx"), *outputs],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if line.startswith("said ")]
    assert len(said) == len(outputs), done.stdout
    assert all("cannot write" in line for line in said)
    assert not list((tmp_path / "out").iterdir())


def test_of_a_disk_that_is_full_the_same_is_said_whatever_failed(tmp_path, monkeypatch):
    pytest.importorskip("portnet_torch")
    adapter = engine("torch")
    usage = namedtuple("usage", "total used free")
    for free, kind, words in (
        (5000, OutputError, r"cannot write .*x\.pt2: No space left on device"),
        (2**40, UnsupportedError, "PyTorch cannot write the network as pt2: RuntimeError: fwrite incomplete"),
    ):

        def write(lowered, path, form):
            path.write_bytes(b"half")
            raise RuntimeError("fwrite incomplete")

        monkeypatch.setattr(type(adapter), "write", lambda self, *arguments: write(*arguments))
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(2**40, 2**40 - free, free))
        with pytest.raises(kind, match=words):
            convert_to_file(convnet(), to="torch", output=tmp_path / "x.pt2")
        assert not list(tmp_path.iterdir())
