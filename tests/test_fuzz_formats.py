"""A thousand damaged files of each form of Caffe, Darknet, Keras, MXNet: a model or a PortNet error of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "form",
    ["prototxt", "caffemodel", "cfg", "weights", "symbol", "params", "keras", "h5", "json", "inner", "binaryproto"],
)
def test_damaged_files_end_in_one_line(form):
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", Path(__file__).with_name("fuzz_formats.py"), form, "1", "1000"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr[-2000:]
