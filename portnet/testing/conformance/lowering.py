"""Lowering: names, weights and outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from portnet.errors import UnsupportedError, WeightsError
from portnet.graph.digests import weights_digest
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.testing.conformance.base import EngineCase, batch
from portnet.testing.networks import batch_norm_network, convnet, dropout_network, mlp, reference_run

__all__ = ["LoweringConformance"]

NETWORKS = [mlp, dropout_network, batch_norm_network, convnet]


def kept(model: Model) -> dict[str, np.ndarray]:
    """Return the arrays of ``model`` that an engine must hand back."""
    return {name: array for name, array in model.weights().items() if model.roles[name] is not Role.CONSTANT}


class LoweringConformance(EngineCase):
    """What `Adapter.lower` and `Lowered` promise."""

    @pytest.mark.parametrize("network", NETWORKS)
    def test_outputs_equal_the_standards_at_every_batch_size(self, network):
        model = network()
        lowered = self.lower(model)
        for size in (1, 3, 8, 2):
            x, _ = batch(model, size, seed=size)
            got = lowered.predict(x)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, reference_run(model, x.astype(np.float64)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("network", NETWORKS)
    def test_weights_come_back_bit_identical_under_their_names(self, network):
        model = network()
        weights = self.lower(model).weights()
        expected = kept(model)
        assert set(weights) >= set(expected)
        assert weights_digest({name: weights[name] for name in expected}) == weights_digest(expected)

    @pytest.mark.parametrize("network", NETWORKS)
    def test_weights_round_trip_in_onnx_layout(self, network):
        model = network()
        lowered = self.lower(model)
        new = {name: np.abs(array) + np.float32(0.5) for name, array in kept(model).items()}
        lowered.set_weights(new)
        weights = lowered.weights()
        for name, array in new.items():
            np.testing.assert_array_equal(weights[name], array, err_msg=name)
        x, _ = batch(model, 3)
        expected = reference_run(model, x.astype(np.float64), new)
        np.testing.assert_allclose(lowered.predict(x), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("network", NETWORKS)
    def test_weights_are_copies(self, network):
        lowered = self.lower(network())
        before = weights_digest(lowered.weights())
        for array in lowered.weights().values():
            if array.flags.writeable:
                array[...] = 0
        assert weights_digest(lowered.weights()) == before

    def test_some_weights_can_be_set_and_the_others_stay(self):
        lowered = self.lower(mlp())
        before = lowered.weights()
        lowered.set_weights({"head.bias": np.ones(4, np.float32)})
        after = lowered.weights()
        np.testing.assert_array_equal(after["head.bias"], 1)
        np.testing.assert_array_equal(after["hidden.weight"], before["hidden.weight"])

    @pytest.mark.parametrize(
        ("arrays", "named"),
        [
            ({"head.bias": np.ones(3, np.float32)}, "head.bias"),
            ({"head.bias": np.ones((4, 1), np.float32)}, "head.bias"),
            ({"head.weight": np.ones((7, 4), np.float32)}, "head.weight"),
            ({"nowhere": np.ones(4, np.float32)}, "nowhere"),
            ({"hidden.bias": np.ones(7, np.float32), "head.bias": np.ones(1, np.float32)}, "head.bias"),
        ],
    )
    def test_weights_that_do_not_fit_are_refused_and_nothing_changes(self, arrays, named):
        lowered = self.lower(mlp())
        before = weights_digest(lowered.weights())
        with pytest.raises(WeightsError, match=named):
            lowered.set_weights(arrays)
        assert weights_digest(lowered.weights()) == before

    @pytest.mark.parametrize("network", NETWORKS)
    def test_the_framework_counts_what_the_graph_counts(self, network):
        model = network()
        assert self.lower(model).trainable_count == model.parameter_count > 0

    def test_lowering_leaves_the_model_alone(self):
        model = convnet()
        before = model.to_bytes()
        self.lower(model)
        assert model.to_bytes() == before

    def test_two_networks_of_one_model_share_nothing(self):
        model = mlp()
        first, second = self.lower(model), self.lower(model)
        first.set_weights({"head.bias": np.full(4, 9, np.float32)})
        assert weights_digest(second.weights()) == weights_digest(kept(model))

    @pytest.mark.parametrize("network", NETWORKS)
    def test_nan_in_is_nan_out(self, network):
        model = network()
        x, _ = batch(model, 2)
        x[0] = np.nan
        got = self.lower(model).predict(x)
        assert np.isnan(got[0]).all()
        assert np.isfinite(got[1]).all()

    def test_run_takes_and_gives_names(self):
        model = mlp()
        x, _ = batch(model, 2)
        assert list(self.lower(model).run({"x": x})) == ["logits"]

    def test_unknown_op_is_refused_in_one_line_that_names_it(self):
        node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], name="strange", domain="org.example")
        ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
        graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:])
        opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("org.example", 1)]
        proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        with pytest.raises(UnsupportedError, match=r"Frobnicate.*'strange'") as caught:
            self.lower(Model.from_bytes(proto.SerializeToString()))
        assert "\n" not in str(caught.value)

    def test_unknown_device_is_refused(self):
        with pytest.raises(UnsupportedError, match="abacus"):
            self.adapter.lower(mlp(), device="abacus")
