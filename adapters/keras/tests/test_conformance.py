"""The behaviour that every engine must show."""

from portnet.testing.conformance import Conformance


class TestKerasConformance(Conformance):
    engine_name = "keras"
