"""TensorFlow Lite's files, run and converted in a process of their own (`portnet_keras.tflite_worker`)."""

from __future__ import annotations

import atexit
import contextlib
import json
import select
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import ModelError, UnsupportedError

__all__ = ["convert_tflite", "quiet_interpreter", "run_tflite"]

SECONDS = 120
_START_SECONDS = 300
_SCRIPT = Path(__file__).with_name("tflite_worker.py")

_worker: subprocess.Popen[bytes] | None = None


def convert_tflite(path: Path, opset: int, moved: bool) -> bytes:
    """Return a file as ONNX, converted by tf2onnx, once TensorFlow Lite has run it on zeros.

    Args:
        path: the file.
        opset: of the result.
        moved: whether images become channels first.

    Raises:
        ModelError: TensorFlow Lite breaks on the file, or takes longer than two minutes.
        UnsupportedError: it refuses the file, or tf2onnx cannot convert it.
    """
    with tempfile.TemporaryDirectory(prefix="portnet-") as folder:
        to = Path(folder, "network.onnx")
        _ask(path, {"do": "convert", "opset": opset, "moved": moved, "to": str(to)})
        return to.read_bytes()


def run_tflite(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what TensorFlow Lite computes from arrays, in the order of the file's inputs and outputs.

    Raises:
        ModelError, UnsupportedError: as `convert_tflite`.
    """
    with tempfile.TemporaryDirectory(prefix="portnet-") as folder:
        given, to = Path(folder, "given.npz"), Path(folder, "made.npz")
        np.savez(given, **{f"x{i}": array for i, array in enumerate(arrays)})  # type: ignore[arg-type]
        count = _ask(path, {"do": "run", "given": str(given), "to": str(to)})["count"]
        with np.load(to) as made:
            return [made[f"y{i}"] for i in range(count)]


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Pass over TensorFlow's word that its interpreter is to move into a package of its own, and over no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        yield


def _ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    worker = _started()
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps({**request, "path": str(path.absolute())}).encode() + b"\n")
        worker.stdin.flush()
        answer = _answer(worker, SECONDS)
    except (OSError, ValueError):
        answer = None
    if answer is None:
        _stop()
        raise ModelError(f"{path} is broken: TensorFlow Lite ends, or does not end, on it. Fetch it again.")
    if "error" in answer:
        raise UnsupportedError(f"{path} cannot be converted: {answer['error']}", engine="keras")
    return answer


def _started() -> subprocess.Popen[bytes]:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if _answer(_worker, _START_SECONDS) is None:
            _stop()
            raise ModelError("TensorFlow Lite does not start in a process of its own")
    return _worker


def _answer(worker: subprocess.Popen[bytes], seconds: float) -> dict[str, Any] | None:
    """Return what the worker says, or None where it ends or says nothing in time."""
    assert worker.stdout is not None
    while select.select([worker.stdout], [], [], seconds)[0]:
        line = worker.stdout.readline()
        if line.startswith(b"{"):
            return dict(json.loads(line))
        if not line:
            break
    return None


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        _worker = None
