"""``python -m portnet.testing.coverage`` runs the suite and writes docs/coverage.md, the table of ops and engines."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import onnx

from portnet.engines import installed
from portnet.errors import OutputError, PortNetError
from portnet.testing.cases import KINDS
from portnet.testing.peers import PEERS, version_of
from portnet.testing.suite import Report, run_suite

__all__ = ["markdown"]

_INTRODUCTION = """\
# Coverage of the ONNX standard

The `onnx` package ships the standard's own test suite. Here is what of it passes on each engine: same number of
outputs, same shapes, same dtypes, values within each case's own tolerance. What is missing is refused when a network
is converted, in one line that names op, opset, attribute and node; a wrong value or a crash counts as a failure
and has a line of its own. Bernoulli and live Dropout draw from a generator that the standard does not define:
their cases are listed apart where shapes and dtypes are right.

Differences that a framework makes and that are left as they are: TensorFlow on a CPU pools a window of NaN to the
lowest float, and gives 0 for NaN where oneDNN fuses a Relu with the product before it (`TF_ENABLE_ONEDNN_OPTS=0`).

Written by `python -m portnet.testing.coverage`; do not edit.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 2 when an engine or the output cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m portnet.testing.coverage", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    parser.add_argument("--reports", type=Path, help="folder of NAME.json to read in place of running, and to fill")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        names = [*installed(), *PEERS]
        reports = [_report(name, options.reports, options.processes) for name in names]
        _write(options.out, markdown(reports, [version_of(name) for name in names]))
    except PortNetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _report(name: str, folder: Path | None, processes: int) -> Report:
    kept = None if folder is None else folder / f"{name}.json"
    if kept is not None and kept.exists():
        return Report.from_json(kept.read_text())
    print(f"running the suite on {name}", file=sys.stderr)
    report = run_suite(name, processes=processes)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _write(kept, report.to_json())
    return report


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def markdown(reports: list[Report], titles: list[str]) -> str:
    """Return the page: figures of every backend, then passed cases of each op.

    Args:
        reports: one for each backend.
        titles: what each is called, with its version.
    """
    parts = [_INTRODUCTION, _figures(reports, titles), "## By op\n", _ops(reports, titles)]
    return "\n".join(parts)


def _figures(reports: list[Report], titles: list[str]) -> str:
    total = len(reports[0].outcomes)
    rows = [f"## Figures\n\nCases of onnx {onnx.__version__}: {total:,}.\n", _row(["", *titles]), _rule(len(titles))]
    rows.append(_row(["**passed**", *(f"**{report.count('passed'):,}**" for report in reports)]))
    for status, label in (
        ("refused", "refused"),
        ("random", "random"),
        ("wrong", "wrong value"),
        ("crashed", "crashed"),
    ):
        rows.append(_row([label, *(f"{report.count(status):,}" for report in reports)]))
    for kind in KINDS:
        count = sum(outcome.kind == kind for outcome in reports[0].outcomes.values())
        rows.append(_row([f"passed, {kind} ({count:,})", *(f"{r.count('passed', kind):,}" for r in reports)]))
    return "\n".join(rows) + "\n"


def _ops(reports: list[Report], titles: list[str]) -> str:
    tables = [report.by_op() for report in reports]
    rows = [_row(["op", "cases", *titles]), _rule(len(titles) + 1)]
    for op, counts in tables[0].items():
        total = sum(counts.values())
        rows.append(_row([op, str(total), *(_cell(table[op]["passed"], total) for table in tables)]))
    return "\n".join(rows) + "\n"


def _cell(passed: int, total: int) -> str:
    return {0: "–", total: "all"}.get(passed, str(passed))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---|" + "---:|" * columns


if __name__ == "__main__":
    sys.exit(main())
