"""Random ops on every engine against onnxruntime; see `fuzz_ops`, which also says how to try more of them."""

from collections import Counter

import pytest
from fuzz_ops import draw, judge, runtime

from portnet.errors import UnsupportedError
from portnet.testing.backend import make_backend

COUNTS = {"torch": 200, "keras": 100, "gluon": 200}


@pytest.mark.parametrize("engine", COUNTS)
def test_random_ops_compute_what_onnxruntime_computes(engine):
    backend, totals, wrong = make_backend(engine), Counter(), []
    for number in range(COUNTS[engine]):
        title, model, sets = draw(5, number)
        status, why = judge(backend, model, sets)
        totals[status] += 1
        if status in ("wrong", "crashed"):
            wrong.append((number, title, why))
    assert wrong == []
    assert totals["agreed"] >= 0.9 * COUNTS[engine], totals


class Engine:
    """An engine that is wrong in a way of its own."""

    def __init__(self, fault):
        self.fault = fault

    def prepare(self, model):
        if self.fault == "refused":
            raise UnsupportedError("an op: not there")
        self.model = model
        return self

    def specialise(self, feeds):
        if self.fault == "crashed":
            raise KeyError("x")

    def run(self, feeds):
        return [value + (self.fault == "wrong") for value in runtime(self.model, feeds)]


@pytest.mark.parametrize("fault", ["agreed", "wrong", "refused", "crashed"])
def test_a_fault_is_told(fault):
    drawn = (draw(5, number)[1:] for number in range(100))
    model, sets = next((model, sets) for model, sets in drawn if runtime(model, sets[0]) is not None)
    assert judge(Engine(fault), model, sets)[0] == fault
