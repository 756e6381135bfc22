"""The environment a run was made in, as far as it may change a result."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from portnet import __version__
from portnet.adapter import Adapter

__all__ = ["changes", "environment", "of_engine", "origin"]

_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "pillow")
# what these say changes threads or arithmetic, and with them the last bits of a result
_VARIABLES = re.compile(
    r"(OMP|MKL|OPENBLAS)_|KERAS_BACKEND|TF_(ENABLE_ONEDNN|DETERMINISTIC|NUM_)|MXNET_|CUDA_VISIBLE|NVIDIA_TF32"
)


def environment(adapter: Adapter | None, device: str) -> dict[str, str]:
    """Return versions of PortNet, Python, the engine (once it is chosen) and what the core uses, system, processor."""
    found = {
        "portnet": __version__,
        "portnet's code": code_digest("portnet"),
        "python": platform.python_version(),
        **({} if adapter is None else of_engine(adapter, device)),
        "system": platform.platform(),
        "processor": _processor(),
        "processors": str(_processors()),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.match(name)}


def of_engine(adapter: Adapter, device: str) -> dict[str, str]:
    """Return an engine's version, a digest of its adapter's code, and what there is to know of a device."""
    return {
        adapter.name: adapter.version(),
        f"{adapter.name} adapter's code": code_digest(type(adapter).__module__.partition(".")[0]),
        **adapter.about(device),
    }


def origin() -> dict[str, str]:
    """Return how a run was asked for: the command, where, and when (UTC)."""
    return {
        "command_line": shlex.join(sys.argv),
        "directory": os.getcwd(),
        "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return what differs between two environments, as "old → new" by name."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return {name: f"{before.get(name, 'none')} → {now.get(name, 'none')}" for name in names}


@functools.cache
def code_digest(package: str) -> str:
    """Return SHA-256 over a package's Python files: a version number does not tell one checkout from another."""
    sha = hashlib.sha256()
    root = Path(sys.modules[package].__file__ or "").parent
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
