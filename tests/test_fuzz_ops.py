"""Random ops on every engine against onnxruntime; see `fuzz_ops`, which also says how to try more of them."""

from collections import Counter

import pytest
from fuzz_ops import draw, judge

from portnet.testing.backend import make_backend

COUNTS = {"torch": 240, "keras": 160, "gluon": 240}


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
