"""The frameworks' own zoo networks, as oracles for the zoo's."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from portnet.graph.model import Model


@functools.cache
def torchvision_models() -> ModuleType:
    """Import torchvision beside a CPU build of torch, which lacks the two operators that its import asks for."""
    torch = pytest.importorskip("torch")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _library().define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    pytest.importorskip("torchvision", exc_type=ImportError)
    import torchvision.models

    return torchvision.models


@functools.cache
def _library() -> Any:
    import torch

    return torch.library.Library("torchvision", "FRAGMENT")  # kept alive: its definitions die with it


def torchvision_network(name: str, model: Model, images: np.ndarray) -> Any:
    """torchvision's network with the weights of ``model``, its running statistics taken from ``images``."""
    models = torchvision_models()
    import torch

    network = getattr(models, name)(weights=None)
    state = network.state_dict()
    arrays = {key: torch.from_numpy(array.copy()) for key, array in model.weights().items() if key in state}
    counters = {key: value for key, value in state.items() if key.endswith("num_batches_tracked")}
    network.load_state_dict(arrays | counters, strict=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(images))
    return network.eval()


@functools.cache
def mxnet() -> ModuleType:
    """Import MXNet, giving it the one name that NumPy has dropped since."""
    given = "bool" in vars(np)
    if not given:
        np.bool = bool  # type: ignore[attr-defined]
    try:
        return pytest.importorskip("mxnet", exc_type=ImportError)
    finally:
        if not given:
            del np.bool  # type: ignore[attr-defined]


def gluon_network(name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Gluon's network with ``arrays`` as its parameters, by structural name."""
    mx = mxnet()
    from mxnet.gluon.model_zoo import vision

    network = getattr(vision, name)()
    network.initialize()
    network(mx.nd.zeros((1, 3, 64, 64)))
    parameters = network._collect_params_with_prefix()
    assert parameters.keys() == arrays.keys()
    for key, array in arrays.items():
        parameters[key].set_data(mx.nd.array(array))
    return network


def gluon_arrays(network: Any) -> dict[str, np.ndarray]:
    """A Gluon network's parameters and statistics by structural name."""
    return {key: value.data().asnumpy() for key, value in network._collect_params_with_prefix().items()}
