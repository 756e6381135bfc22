"""Two thousand damaged files: no crash, no hang, bounded memory, always a PortNet error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_damaged_files_end_in_one_line(seed):
    assert _fuzz(str(seed), "700") == (0, "")


def _fuzz(*arguments):
    """Run the harness in a process that may die; return how it ended, and what it printed."""
    script = Path(__file__).with_name("fuzz_models.py")
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", script, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return result.returncode, result.stdout or result.stderr[-2000:] * bool(result.returncode)


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
def test_what_is_left_of_damaged_files_runs_or_is_refused(engine):
    pytest.importorskip(f"portnet_{engine}")
    assert _fuzz("4", "60", engine) == (0, "")


def test_the_harness_sees_what_goes_wrong(monkeypatch):
    import fuzz_models

    def crash(*_):
        raise KeyError("broken")

    monkeypatch.setattr(fuzz_models.Model, "from_bytes", crash)
    assert "KeyError" in fuzz_models.read(b"", None)
