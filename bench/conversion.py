"""Conversion of .onnx files, held against the converters that people use today."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench.peers import PeerMissingError, cache, onnx2tf_python, onnx2torch_folder
from bench.process import measure
from bench.row import Row
from bench.timing import Budget

__all__ = ["keras_rows", "torch_rows"]

ONNX2TF_ALONE = Path(__file__).with_name("onnx2tf_alone.py")
KERAS_AIM = 0.1
# conversions in one process, and turns of a process each
KERAS_ROUNDS, KERAS_TURNS = 2, 2
LIMIT = 1200


def torch_rows(network: str, size: int, count: int, budget: Budget, threads: int | None) -> list[Row]:
    """Return time of conversion and of inference against onnx2torch's, and whether torch.compile takes the result."""
    try:
        folder = onnx2torch_folder()
    except PeerMissingError as error:
        return [Row("convert", network, "torch", "onnx2torch", aim=0.5, note=str(error))]
    job = {"path": str(_file(network, size)), "subject": network, "count": count, "size": size, "budget": vars(budget)}
    return measure("bench.convert_torch", job, threads=threads, paths=[folder])


def keras_rows(network: str, size: int, threads: int | None) -> list[Row]:
    """Return time of conversion against onnx2tf's, in turns of a process each; the best of each process counts."""
    note = "both to a network in memory"
    try:
        python = onnx2tf_python()
    except PeerMissingError as error:
        return [Row("convert", network, "keras", "onnx2tf", aim=KERAS_AIM, note=str(error))]
    path, ours, theirs = _file(network, size), [], []
    for _ in range(KERAS_TURNS):
        job = {"path": str(path), "subject": network, "rounds": KERAS_ROUNDS}
        [row] = measure("bench.convert_keras", job, threads=threads)
        ours.append((row.extra or {})["least"])
        theirs.append(min(_onnx2tf(python, path, threads)))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    a, b = statistics.median(ours), statistics.median(theirs)
    figures = {"ours": a * 1e3, "theirs": b * 1e3, "score": a / b, "spread": (min(ratios), max(ratios))}
    return [
        Row("convert", network, "keras", "onnx2tf", aim=KERAS_AIM, rounds=KERAS_TURNS, note=note, **figures)  # type: ignore[arg-type]
    ]


def _onnx2tf(python: Path, path: Path, threads: int | None) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(python), str(ONNX2TF_ALONE), str(path), str(KERAS_ROUNDS)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    if done.returncode != 0:
        raise RuntimeError(f"onnx2tf: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}")
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def _file(network: str, size: int) -> Path:
    """Return the .onnx file of a zoo network with random weights."""
    from portnet import zoo

    path = cache() / f"{network}-{size}.onnx"
    if not path.exists():
        zoo.load(network, weights=None, size=size).save(path)
    return path
