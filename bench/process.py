"""A measurement in a process of its own, which it shares with no other framework."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.row import Row

__all__ = ["ROOT", "environment", "measure"]

ROOT = Path(__file__).resolve().parent.parent
# the line of the worker's output that carries its answer
MARK = "bench-rows "


def measure(
    module: str,
    job: Mapping[str, Any],
    *,
    threads: int | None = None,
    limit: float = 1800,
    paths: Sequence[Path] = (),
) -> list[Row]:
    """Call ``module.run(**job)``, which returns rows, in a fresh process.

    Args:
        module: name of a module of this package.
        job: keyword arguments, as JSON takes them.
        threads: threads of the framework; None for its own choice.
        limit: seconds after which the process is ended.
        paths: folders to import from besides, last of all.

    Raises:
        RuntimeError: the process failed; tells the last line it said.
    """
    command = [sys.executable, "-m", "bench.process", module, json.dumps(dict(job))]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(threads, paths), capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {limit:.0f} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or ["nothing said"]
        raise RuntimeError(f"exit code {done.returncode}: {said[-1]}")
    return [Row.from_dict(each) for each in json.loads(lines[-1].removeprefix(MARK))]


def environment(threads: int | None, paths: Sequence[Path] = ()) -> dict[str, str]:
    """Return the environment of a process that is measured; ``paths`` are searched for modules last."""
    searched = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), *map(str, paths)]
    # idle threads sleep, for both sides, as PortNet has it (`portnet.engines`): spinning ones ruin a shared machine
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(searched), **quiet}
    if threads is not None:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment |= dict.fromkeys(names, str(threads))
    return environment


def _answer(module: str, job: str) -> None:
    rows = importlib.import_module(module).run(**json.loads(job))
    print(MARK + json.dumps([row.to_dict() for row in rows]), flush=True)


if __name__ == "__main__":
    _answer(*sys.argv[1:])
