"""The behaviour that every engine must show, as a class that pytest collects.

An adapter's own test of it is this much::

    from portnet.testing.conformance import Conformance

    class TestConformance(Conformance):
        engine_name = "torch"

What an engine computes is compared with float64 numpy (`portnet.testing.oracle`) and with the standard's own
evaluator, never with another engine.
"""

from portnet.testing.conformance.freezing import FreezingConformance
from portnet.testing.conformance.gradients import GradientConformance
from portnet.testing.conformance.lowering import LoweringConformance
from portnet.testing.conformance.resume import ResumeConformance
from portnet.testing.conformance.statistics import StatisticsConformance
from portnet.testing.conformance.suite import SuiteConformance
from portnet.testing.conformance.updates import UpdateConformance

__all__ = ["Conformance", "SuiteConformance"]


class Conformance(
    LoweringConformance,
    UpdateConformance,
    GradientConformance,
    StatisticsConformance,
    FreezingConformance,
    ResumeConformance,
):
    """All of it, but for the ONNX standard's suite, which is `SuiteConformance`."""
