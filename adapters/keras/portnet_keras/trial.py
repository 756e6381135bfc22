"""A file of TensorFlow Lite is tried in a process of its own first: a damaged one can end the process that loads it."""

from __future__ import annotations

import atexit
import contextlib
import json
import select
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portnet.errors import ModelError

__all__ = ["quiet_interpreter", "try_out"]

SECONDS = 60
_START_SECONDS = 300
_MEMORY = 8 << 30

# for each path that it reads, it loads the file and runs it once on zeros
_WORKER = f"""
import json, resource, sys
import numpy as np
import tensorflow as tf
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
if used:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + {_MEMORY}
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
print(json.dumps(""), flush=True)
for line in sys.stdin:
    try:
        interpreter = tf.lite.Interpreter(model_path=json.loads(line))
        interpreter.allocate_tensors()
        for each in interpreter.get_input_details():
            interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
        interpreter.invoke()
        said = ""
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
    interpreter = None
    print(json.dumps(said), flush=True)
"""

_worker: subprocess.Popen[bytes] | None = None


def try_out(path: Path) -> None:
    """Load a file and run it once, elsewhere.

    Raises:
        ModelError: TensorFlow Lite refuses it, breaks on it, or takes longer than a minute.
    """
    worker = _started()
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps(str(path.absolute())).encode() + b"\n")
        worker.stdin.flush()
        said = _answer(worker, SECONDS)
    except (OSError, ValueError):
        said = None
    if said is None:
        _stop()
        raise ModelError(f"{path} is broken: TensorFlow Lite ends, or does not end, on it. Fetch it again.")
    if said:
        raise ModelError(f"{path}: TensorFlow Lite does not run it: {said}")


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Pass over TensorFlow's word that its interpreter is to move into a package of its own, and over no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        yield


def _started() -> subprocess.Popen[bytes]:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if _answer(_worker, _START_SECONDS) is None:
            _stop()
            raise ModelError("TensorFlow Lite does not start in a process of its own")
    return _worker


def _answer(worker: subprocess.Popen[bytes], seconds: float) -> Any:
    """Return what the worker says, or None where it ends or says nothing in time."""
    assert worker.stdout is not None
    ready, _, _ = select.select([worker.stdout], [], [], seconds)
    line = worker.stdout.readline() if ready else b""
    return json.loads(line) if line.startswith(b'"') else None


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        _worker = None
