"""The behaviour that every engine must show, and the ONNX standard's own suite."""

from pathlib import Path

from portnet.testing.conformance import Conformance
from portnet.testing.known_gaps import compare, load_gaps
from portnet.testing.suite import run_suite

GAPS = Path(__file__).parents[1] / "known_gaps.toml"


class TestGluonConformance(Conformance):
    engine_name = "gluon"


def test_the_standards_suite_holds_but_for_known_gaps():
    report = run_suite("gluon", processes=2)
    assert compare(report, load_gaps(GAPS)) == []
    assert report.count("passed") >= 1800
