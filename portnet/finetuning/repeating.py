"""A run again, from its record: on to its end where it was stopped, or all of it, to see that it comes to the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portnet.data.dataset import DatasetSource
from portnet.errors import InputError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.environment import changes
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.run import Run
from portnet.finetuning.settings import Settings
from portnet.finetuning.train import RunSession
from portnet.graph.model import Model

__all__ = ["is_repeated", "repeat_run", "resume_run"]

Record = Mapping[str, Any]


def resume_run(
    path: Path,
    *,
    data: DatasetSource | None,
    progress: bool,
    callbacks: Sequence[Any] = (),
    backbone: Model | Backbone | None = None,
) -> Run:
    """Go on with a run from its checkpoint."""
    folder = RunFolder(path)
    record = folder.read_record()
    if not folder.checkpoint.exists() and folder.model.exists():
        raise InputError(f"resume: {path} has no checkpoint: the run is finished.")
    session = _session("resume", record, folder, data, progress, backbone, callbacks)
    session.circumstances.follow(record)
    return session.train(is_new=False)


def repeat_run(
    path: Path,
    *,
    data: DatasetSource | None,
    out: Path | None,
    progress: bool,
    callbacks: Sequence[Any] = (),
    backbone: Model | Backbone | None = None,
) -> Run:
    """Begin a run anew from its record, in another folder, and compare what comes of it with what the record says."""
    record = RunFolder(path).read_record()
    folder = None if out is None else RunFolder(out)
    session = _session("repeat", record, folder, data, progress, backbone, callbacks)
    if folder is not None:
        folder.create()
    run = session.train(is_new=True)
    session.reporter.note(_compared(path, record, run.record))
    return run


def _session(
    what: str,
    record: Record,
    folder: RunFolder | None,
    data: DatasetSource | None,
    progress: bool,
    backbone: Model | Backbone | None,
    callbacks: Sequence[Any],
) -> RunSession:
    """Make what a run's record tells of, on the same images, network and cut.

    Raises:
        InputError: they are not the same, or not at hand.
    """
    images = data if data is not None else _images(what, record)
    decoders = record["data"].get("decoder", ())
    session = RunSession(images, _settings(record), folder, progress, backbone, callbacks, decoders)
    _check_same(what, record, session.data_record, session.phases.first_digest)
    session.phases.timings = record.get("engines")
    # of several phases the record knows the last one's cut; when it is repeated, each chooses its own, as it did
    if "cache" in record and (what == "resume" or len(session.phases.policies) == 1):
        session.phases.cut_at = (record["cache"] or {}).get("tensors", [])
    session.circumstances.environment = record["environment"]
    return session


def _settings(record: Record) -> Settings:
    """Return a run's settings; files that they name are looked for where the run was begun, if they are not here."""
    settings = Settings.from_dict(record["settings"])
    found = {name: _found(getattr(settings, name), record) for name in ("backbone", "weights")}
    return settings.but(**found)


def _images(what: str, record: Record) -> DatasetSource:
    """Return where the run's images are.

    Raises:
        InputError: they did not come from a folder.
    """
    source = record["data"]["source"]
    if source is None:
        raise InputError(f"{what}: the run's images did not come from a folder. Pass data.")
    if isinstance(source, Mapping):
        return {name: _found(folder, record) for name, folder in source.items()}
    return str(_found(source, record))


def _found(name: str | None, record: Record) -> str | None:
    """Return a relative path as it is seen from here: where it is, or from the folder that the run was begun in."""
    if name is None or os.path.exists(name) or os.path.isabs(name):
        return name
    elsewhere = Path(record.get("origin", {}).get("directory", "."), name)
    return str(elsewhere) if elsewhere.exists() else name


def _check_same(what: str, record: Record, data: Record, first_digest: str) -> None:
    """Make sure that images and network are those that a record tells of.

    Raises:
        InputError: they are not.
    """
    if data["digest"] != record["data"]["digest"]:
        raise InputError(f"{what}: the images are not those the run began with. Restore them, or start a new run.")
    began = (record.get("weights") or {}).get("sha256_start")
    if began is not None and began != first_digest:
        raise InputError(
            f"{what}: the network's weights are not those the run began with: got {first_digest[:16]}…, expected "
            f"{began[:16]}…. Restore them, or start a new run."
        )


def is_repeated(record: Record, again: Record) -> bool | None:
    """Return whether a run came to the same weights once more; None where one of them did not come to its end."""
    ends = [each.get("weights", {}).get("sha256_end") for each in (record, again)]
    if None in ends or any(each["ended"] not in ("finished", "stopped early") for each in (record, again)):
        return None
    return bool(ends[0] == ends[1])


def _compared(path: Path, record: Record, again: Record) -> str:
    """Return in one line whether a run came to the same weights once more, and if not, how far off it was."""
    same = is_repeated(record, again)
    if same is None:
        return f"repeat: {path} or its repetition did not come to its end, so there is nothing to compare"
    if same:
        return f"repeat: the weights are those of {path}, bit for bit"
    pairs = zip(record["history"]["losses"], again["history"]["losses"], strict=False)
    first = next((i for i, (a, b) in enumerate(pairs, start=1) if a != b), None)
    where = "" if first is None else f"; the first loss that differs is that of step {first:,}"
    changed = changes(record["environment"], again["environment"])
    why = "; ".join(f"{name} {change}" for name, change in changed.items()) or "the environment is the same"
    return f"repeat: the weights are NOT those of {path}{where} ({why})"
