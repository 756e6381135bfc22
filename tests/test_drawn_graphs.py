"""Random networks on every engine against onnxruntime; see `drawn_graphs`, which also says how to try more of them."""

import numpy as np
import pytest
from drawn_graphs import differs, judge

COUNTS = {"torch": 150, "keras": 60, "gluon": 150}


@pytest.mark.parametrize("engine", COUNTS)
def test_random_networks_compute_what_onnxruntime_computes(engine):
    outcomes = {seed: judge(engine, seed) for seed in range(1000, 1000 + COUNTS[engine])}
    wrong = {seed: outcome for seed, outcome in outcomes.items() if not outcome.startswith(("agrees", "refused"))}
    assert wrong == {}
    refused = [outcome for outcome in outcomes.values() if outcome.startswith("refused")]
    assert len(refused) <= 0.05 * len(outcomes), refused


@pytest.mark.parametrize(
    "wrong",
    [[1, 2.01, np.nan], [1, 2, 3], [np.nan, 2, np.nan], [[1, 2, np.nan]]],
    ids=["value", "nan", "more", "shape"],
)
def test_what_differs_is_told(wrong):
    right = np.array([1, 2, np.nan], np.float32)
    assert differs(right, right) is None
    assert differs(np.array(wrong, np.float32), right)
