"""Runs the ONNX standard's suite on a backend and tells what came of each case.

A case ends in one of five ways:

* ``passed``: same number of outputs, same shapes, same dtypes, values within the case's tolerance.
* ``refused``: the engine said at conversion time that it cannot (`PortNetError`).
* ``random``: right in all but values that the standard leaves to an undefined random generator.
* ``wrong``: another value, shape, dtype or number of outputs.
* ``crashed``: any other exception, a dead process, or no end within the time limit.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from portnet.errors import PortNetError
from portnet.testing.cases import Case, cases, is_random
from portnet.testing.compare import difference, differences_of_kind

__all__ = ["STATUSES", "Outcome", "Report", "run_case", "run_suite"]

STATUSES = ("passed", "refused", "random", "wrong", "crashed")


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        name: the case's name.
        kind: the case's kind.
        op: op under test, "" for whole networks.
        status: one of `STATUSES`.
        reason: why it did not pass, one line; "" when it did.
        seconds: wall time, conversion included.
    """

    name: str
    kind: str
    op: str
    status: str
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """What came of a run of the suite.

    Attributes:
        engine: name of the engine.
        outcomes: by case name, in the order of the suite.
    """

    engine: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def count(self, status: str, kind: str | None = None) -> int:
        """Count cases with ``status``, of one kind or of all."""
        return sum(o.status == status and kind in (None, o.kind) for o in self.outcomes.values())

    def kinds(self) -> list[str]:
        """Kinds that were run, in order."""
        return list(dict.fromkeys(outcome.kind for outcome in self.outcomes.values()))

    def by_op(self) -> dict[str, Counter[str]]:
        """Count statuses for each op under test, by op name in alphabetical order."""
        table: dict[str, Counter[str]] = {}
        for outcome in self.outcomes.values():
            if outcome.op:
                table.setdefault(outcome.op, Counter())[outcome.status] += 1
        return dict(sorted(table.items()))

    def by_reason(self, status: str) -> list[tuple[str, list[str]]]:
        """Group the cases of a status by reason, names and numbers left out; the most frequent first."""
        groups: dict[str, list[str]] = {}
        for outcome in self.outcomes.values():
            if outcome.status == status:
                groups.setdefault(_gist(outcome.reason), []).append(outcome.name)
        return sorted(groups.items(), key=lambda group: -len(group[1]))

    def to_json(self) -> str:
        """Return the report as JSON; `from_json` reads it."""
        return json.dumps({"engine": self.engine, "outcomes": [asdict(o) for o in self.outcomes.values()]}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(data["engine"], {entry["name"]: Outcome(**entry) for entry in data["outcomes"]})


def _gist(reason: str) -> str:
    reason = re.sub(r" node '[^']*'", "", reason)
    reason = re.sub(r"'[^']*'", "'…'", reason)
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "n", reason)


def run_case(case: Case, backend: Any) -> Outcome:
    """Run one case on a backend (a class like `onnx.backend.base.Backend`)."""
    start = time.perf_counter()
    status, reason = _judge(case, backend)
    return Outcome(case.name, case.kind, case.op, status, reason, round(time.perf_counter() - start, 3))


def _judge(case: Case, backend: Any) -> tuple[str, str]:
    try:
        return _attempt(case, backend)
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {_line(error)}"


def _attempt(case: Case, backend: Any) -> tuple[str, str]:
    model, data_sets = case.load()
    try:
        prepared = backend.prepare(model)
        for inputs, _ in data_sets:
            getattr(prepared, "specialise", lambda _: None)(inputs)
    except PortNetError as error:
        return "refused", _line(error)
    for inputs, expected in data_sets:
        got = prepared.run(inputs)
        found = difference(got, expected, case.rtol, case.atol)
        if found and is_random(model, inputs) and not differences_of_kind(got, expected):
            return "random", "the standard does not define the generator"
        if found:
            return "wrong", found
    return "passed", ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:600]


def run_suite(
    engine: str,
    pattern: str | None = None,
    *,
    kind: str | None = None,
    limit_s: float = 60.0,
    processes: int = 1,
    progress: Any = None,
) -> Report:
    """Run the suite on an engine, each case in a process that may die without harm.

    Args:
        engine: name of an installed engine.
        pattern: regular expression that a case's name must match somewhere; None for all.
        kind: one of `portnet.testing.cases.KINDS`; None for all.
        limit_s: seconds that one case may take.
        processes: worker processes.
        progress: called with each `Outcome` as it comes.

    Raises:
        PortNetError: the engine is not installed.
    """
    from portnet.testing.worker import run_cases

    chosen = select(pattern, kind)
    found = {o.name: o for o in run_cases(engine, chosen, limit_s, processes, progress or (lambda outcome: None))}
    return Report(engine, {case.name: found[case.name] for case in chosen})


def run_here(engine: str, backend: Any, chosen: Iterable[Case]) -> Report:
    """Run cases on a backend class in this process, without a time limit."""
    return Report(engine, {case.name: run_case(case, backend) for case in chosen})


def select(pattern: str | None = None, kind: str | None = None) -> list[Case]:
    """Return the cases of a kind whose name matches a regular expression."""
    return [case for case in cases(kind) if pattern is None or re.search(pattern, case.name)]
