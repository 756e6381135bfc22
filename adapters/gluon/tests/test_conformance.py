"""The behaviour that every engine must show."""

from portnet.testing.conformance import Conformance


class TestGluonConformance(Conformance):
    engine_name = "gluon"
