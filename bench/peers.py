"""Other converters, in places of their own: they pin packages that PortNet's environment has in other versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import platformdirs

__all__ = ["ONNX2TF", "ONNX2TORCH", "PeerMissingError", "cache", "onnx2tf_python", "onnx2torch_folder"]

ONNX2TORCH = "1.5.15"
ONNX2TF = "1.29.24"
# seconds that an installation may take
PATIENCE = 600


class PeerMissingError(Exception):
    """A converter cannot be installed; says what pip said."""


def cache() -> Path:
    """Return the folder of what is kept between runs: $PORTNET_BENCH_CACHE, else in the platform's cache."""
    given = os.environ.get("PORTNET_BENCH_CACHE")
    folder = Path(given) if given else Path(platformdirs.user_cache_dir("portnet")) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def onnx2torch_folder() -> Path:
    """Return a folder to import onnx2torch from; its requirements are those of this environment.

    Raises:
        PeerMissingError: it cannot be installed.
    """
    folder = cache() / f"onnx2torch-{ONNX2TORCH}"
    if not folder.exists():
        arguments = ["--no-deps", "--target", str(folder), f"onnx2torch=={ONNX2TORCH}"]
        _call([sys.executable, "-m", "pip", "install", "--quiet", *arguments])
    return folder


def onnx2tf_python() -> Path:
    """Return the interpreter of an environment that has onnx2tf and what it pins.

    Raises:
        PeerMissingError: it cannot be installed.
    """
    folder = cache() / f"onnx2tf-{ONNX2TF}"
    python = folder / "bin" / "python"
    if not (folder / "pyvenv.cfg").exists():
        _call([sys.executable, "-m", "venv", str(folder)])
    if not list(folder.glob("lib/*/site-packages/onnx2tf")):
        _call([str(python), "-m", "pip", "install", "--quiet", f"onnx2tf=={ONNX2TF}"])
    return python


def _call(command: list[str]) -> None:
    # constraints of this environment are not theirs
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise PeerMissingError(f"{command[-1]}: not installed within {PATIENCE} s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerMissingError(f"{command[-1]}: {(errors or done.stderr.splitlines() or ['no reason given'])[0]}")
