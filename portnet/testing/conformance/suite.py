"""The ONNX standard's suite against an engine's reviewed list of known gaps."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from portnet.testing.known_gaps import compare, load_gaps
from portnet.testing.suite import run_suite

__all__ = ["SuiteConformance"]


class SuiteConformance:
    """Runs the suite; a wrong value, a crash, a new gap and a closed gap fail.

    Attributes:
        engine_name: the engine under test.
        gaps: its ``known_gaps.toml``.
        at_least: count of cases that must pass.
        processes: worker processes.
    """

    engine_name: ClassVar[str]
    gaps: ClassVar[Path]
    at_least: ClassVar[int]
    processes: ClassVar[int] = 1

    def test_suite_is_as_known(self):
        report = run_suite(self.engine_name, processes=self.processes)
        assert compare(report, load_gaps(self.gaps)) == []
        assert report.count("passed") >= self.at_least
