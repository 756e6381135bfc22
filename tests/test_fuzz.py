"""Two thousand damaged files: no crash, no hang, bounded memory, always a PortNet error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_damaged_files_end_in_one_line(seed):
    script = Path(__file__).with_name("fuzz_models.py")
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", script, str(seed), "700"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr[-2000:]


def test_the_harness_sees_what_goes_wrong(monkeypatch):
    import fuzz_models

    def crash(*_):
        raise KeyError("broken")

    monkeypatch.setattr(fuzz_models.Model, "from_bytes", crash)
    assert "KeyError" in fuzz_models.read(b"", None)
