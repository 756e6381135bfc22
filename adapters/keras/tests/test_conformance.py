"""The behaviour that every engine must show."""

import pytest

from portnet.testing.conformance import Conformance
from portnet.testing.networks import batch_norm_network, dropout_network, mlp


class TestKerasConformance(Conformance):
    engine_name = "keras"

    @pytest.mark.parametrize("network", [mlp, dropout_network, batch_norm_network])
    def test_nan_in_is_nan_out(self, network):
        """TensorFlow's max pooling on a CPU gives the lowest float for a window of NaN, so convnet is left out."""
        super().test_nan_in_is_nan_out(network)
