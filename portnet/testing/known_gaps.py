"""Known gaps of an engine: reviewed, each with its reason, and kept true by a test.

``adapters/<engine>/known_gaps.toml`` maps a case name, or a pattern with ``*``, to the reason why it is refused::

    "test_nonmaxsuppression_*" = "the number of boxes is not known when the network is built"

`compare` fails on a refusal that the file does not know, on an entry that no longer refuses anything, and always on
a wrong value or a crash: those cannot be excused by a file.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portnet.errors import InputError
from portnet.testing.suite import Outcome, Report

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["compare", "load_gaps", "write_gaps"]


def load_gaps(path: str | Path) -> dict[str, str]:
    """Read a file of gaps: case name or pattern → reason.

    Raises:
        InputError: it is not TOML, or holds anything but names with a reason.
    """
    try:
        gaps: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"known gaps: {path} is no TOML: {error}") from error
    for name, reason in gaps.items():
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(f"known gaps: {path}: {name!r} got {reason!r}, expected a reason")
    return gaps


def compare(report: Report, gaps: Mapping[str, str]) -> list[str]:
    """Say what in ``report`` is not as ``gaps`` has it; an empty list when all is.

    A closed gap is only looked for among the cases that were run.
    """
    return [*_failures(report), *_new(report, gaps), *_closed(report, gaps)]


def _failures(report: Report) -> list[str]:
    bad = [o for o in report.outcomes.values() if o.status in ("wrong", "crashed")]
    return [f"{outcome.status}: {outcome.name}: {outcome.reason}" for outcome in bad]


def _new(report: Report, gaps: Mapping[str, str]) -> list[str]:
    refused = [o for o in report.outcomes.values() if o.status == "refused"]
    return [f"new gap: {o.name}: {o.reason}" for o in refused if not any(_covers(gap, o) for gap in gaps)]


def _closed(report: Report, gaps: Mapping[str, str]) -> list[str]:
    problems = []
    for gap, reason in gaps.items():
        done = [o.name for o in report.outcomes.values() if _covers(gap, o) and o.status != "refused"]
        if done:
            problems.append(f"closed gap: {gap!r} ({reason}) no longer refuses {', '.join(done)}. Remove or narrow it.")
    return problems


def _covers(gap: str, outcome: Outcome) -> bool:
    return fnmatch.fnmatchcase(outcome.name, gap)


def write_gaps(report: Report, path: str | Path) -> None:
    """Write a file that lists each refused case with the engine's own words as reason, to be reviewed by hand."""
    refused = [o for o in report.outcomes.values() if o.status == "refused"]
    lines = [f"{_quoted(o.name)} = {_quoted(o.reason)}" for o in sorted(refused, key=lambda o: (o.op, o.name))]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
