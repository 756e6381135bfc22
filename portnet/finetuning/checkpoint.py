"""Checkpoints: one file, written whole or not at all, checked array by array when it is read.

A checkpoint is an .npz (no pickle inside) that carries a JSON manifest with the SHA-256 of every array. It is
written to a temporary file, flushed to the disk, then renamed over the last one, so that a run that is killed at any
moment leaves the old checkpoint or the new one, never half of either.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from portnet.errors import InputError
from portnet.files import replace_file

__all__ = ["Checkpoint", "read", "write"]

_MANIFEST = "manifest"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        epoch: epoch to go on with, from 0.
        batch: batch of that epoch to go on with, from 0.
        weights: trained network's arrays by ONNX name.
        optimizer: what `Trainer.state` returned.
        progress: history so far, plain JSON.
        best: arrays of the best validation so far, where they are kept.
    """

    epoch: int
    batch: int
    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    progress: dict[str, Any]
    best: Mapping[str, np.ndarray] = field(default_factory=dict)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the last one.

    Raises:
        OutputError: the disk is full or the path cannot be written; the last checkpoint is still there.
    """
    arrays = {f"weights/{name}": np.asarray(array) for name, array in checkpoint.weights.items()}
    arrays |= {f"optimizer/{name}": np.asarray(array) for name, array in checkpoint.optimizer.items()}
    arrays |= {f"best/{name}": np.asarray(array) for name, array in checkpoint.best.items()}
    manifest = {
        "schema": 1,
        "epoch": checkpoint.epoch,
        "batch": checkpoint.batch,
        "progress": checkpoint.progress,
        "sha256": {name: _digest(array) for name, array in arrays.items()},
    }
    text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    # numbered members: names of initializers may hold anything, member names of a zip may not
    members = {f"a{i}": array for i, array in enumerate(arrays.values())}
    replace_file(path, lambda file: _write_arrays(file, {_MANIFEST: text, **members}))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and check every array's digest.

    Raises:
        InputError: no checkpoint, or a damaged one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            manifest = json.loads(file[_MANIFEST].tobytes())
            arrays = {name: file[f"a{i}"] for i, name in enumerate(manifest["sha256"])}
        changed = [name for name, array in arrays.items() if _digest(array) != manifest["sha256"][name]]
        if changed:
            raise ValueError(f"{changed[0]} does not have the digest that was written")
        return Checkpoint(
            epoch=manifest["epoch"],
            batch=manifest["batch"],
            weights=_part(arrays, "weights/"),
            optimizer=_part(arrays, "optimizer/"),
            progress=manifest["progress"],
            best=_part(arrays, "best/"),
        )
    except FileNotFoundError:
        raise InputError(f"checkpoint: no such file: {path}. There is nothing to resume.") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"checkpoint: {path} is damaged: {error}") from error


def _write_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz as numpy.savez does, but let go of the file where a write fails."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _digest(array: np.ndarray) -> str:
    state = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
