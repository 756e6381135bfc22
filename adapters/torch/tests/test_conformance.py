"""The behaviour that every engine must show."""

from portnet.testing.conformance import Conformance


class TestTorchConformance(Conformance):
    engine_name = "torch"
