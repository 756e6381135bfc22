"""Random networks on every engine against onnxruntime; see `drawn_graphs`, which also says how to try more of them."""

import pytest
from drawn_graphs import judge

COUNTS = {"torch": 150, "keras": 60, "gluon": 150}


@pytest.mark.parametrize("engine", COUNTS)
def test_random_networks_compute_what_onnxruntime_computes(engine):
    outcomes = {seed: judge(engine, seed) for seed in range(1000, 1000 + COUNTS[engine])}
    wrong = {seed: outcome for seed, outcome in outcomes.items() if not outcome.startswith(("agrees", "refused"))}
    assert wrong == {}
    refused = [outcome for outcome in outcomes.values() if outcome.startswith("refused")]
    assert len(refused) <= 0.05 * len(outcomes), refused
