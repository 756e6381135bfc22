"""``python -m portnet.testing ENGINE``: run the ONNX standard's suite and say what is missing, most frequent first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from portnet.errors import PortNetError
from portnet.testing.cases import KINDS
from portnet.testing.suite import STATUSES, Outcome, Report, run_suite, select


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 when nothing is wrong or crashed, 1 when something is, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    total = len(select(options.pattern, options.kind))
    try:
        report = run_suite(
            options.engine,
            options.pattern,
            kind=options.kind,
            limit_s=options.limit,
            processes=options.processes,
            progress=_Progress(total, options.verbose),
        )
    except PortNetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        options.json.write_text(report.to_json())
    print(summary(report, options.reasons))
    return int(report.count("wrong") + report.count("crashed") > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m portnet.testing", description=__doc__)
    parser.add_argument("engine", help="torch, keras, gluon or any installed engine; onnx.reference or onnxruntime")
    parser.add_argument("--pattern", help="regular expression on case names")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes there")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="time one case may take")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--reasons", type=int, default=40, metavar="N", help="show the N most frequent gaps")
    parser.add_argument("--verbose", action="store_true", help="one line for every case")
    return parser


class _Progress:
    """Counts outcomes as they come, on standard error."""

    def __init__(self, total: int, verbose: bool) -> None:
        self.total, self.verbose, self.counts = total, verbose, dict.fromkeys(STATUSES, 0)

    def __call__(self, outcome: Outcome) -> None:
        self.counts[outcome.status] += 1
        if self.verbose:
            print(f"{outcome.status:8} {outcome.name} {outcome.reason}", file=sys.stderr)
        elif sys.stderr.isatty():
            done = sum(self.counts.values())
            end = "\n" if done == self.total else ""
            print(f"\r{done}/{self.total} {_counts(self.counts)}", end=end, file=sys.stderr, flush=True)


def _counts(counts: dict[str, int]) -> str:
    return " · ".join(f"{count} {status}" for status, count in counts.items() if count)


def summary(report: Report, reasons: int = 40) -> str:
    """Return counts by kind, then what did not pass, grouped by reason, the most frequent first."""
    lines = [f"{report.engine}: {report.count('passed')} of {len(report.outcomes)} passed"]
    for kind in report.kinds():
        counts = {status: report.count(status, kind) for status in STATUSES}
        lines.append(f"  {kind:18} {_counts(counts)}")
    for status in ("crashed", "wrong", "refused"):
        lines += _groups(report, status, reasons)
    return "\n".join(lines)


def _groups(report: Report, status: str, limit: int) -> list[str]:
    groups = report.by_reason(status)
    if not groups:
        return []
    lines = [f"{status}:"] + [f"  {len(names):4}  {gist}  [{names[0]}]" for gist, names in groups[:limit]]
    hidden = sum(len(names) for _, names in groups[limit:])
    return lines + ([f"  {hidden:4}  for {len(groups) - limit} other reasons"] if hidden else [])


if __name__ == "__main__":
    sys.exit(main())
