"""Damaged files of TensorFlow Lite end in a model or one line, and never with this process."""

import os
import subprocess
import sys
from pathlib import Path


def test_damaged_files_end_in_one_line():
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", Path(__file__).with_name("fuzz_tflite.py"), "1", "1000"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    bad = [line for line in result.stdout.splitlines() if line.startswith("file ")]
    assert (result.returncode, bad) == (0, []), result.stderr[-2000:]
