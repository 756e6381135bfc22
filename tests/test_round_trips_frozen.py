"""What a framework had frozen, labels and preprocessing come back from every other framework, and from their files."""

import sys

import numpy as np
import pytest

import portnet
from portnet import FreezePolicy
from portnet.conversion import convert_to_file
from portnet.engines import installed
from portnet.graph.metadata import Preprocessing

LABELS = ("cat", "dog", "gnu")
WAYS = Preprocessing(size=(12, 12), resize=None, color="BGR", scale=1.0, mean=(1, 2, 3), std=(1, 1, 1))
X = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
ENGINES = ("torch", "keras", "gluon")

pytestmark = pytest.mark.skipif(not set(ENGINES) <= set(installed()), reason="the route needs all three engines")


def module():
    """Return a network of torch whose first convolution and its norm do not train."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    first = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)]
    network = nn.Sequential(*first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).train()
    for parameter in network[:2].parameters():
        parameter.requires_grad = False
    network[1].eval()
    return network


@pytest.fixture(scope="module")
def model():
    found = portnet.capture(module(), X)
    found.labels, found.preprocessing = LABELS, WAYS
    return found


def again(native):
    return portnet.capture(native, X)


def told(model):
    """Return what a policy says of each array, arrays by their numbers: names are each framework's own."""
    table = FreezePolicy.captured().resolve(model)
    arrays = model.weights()
    prints = {name: np.sort(arrays[name], axis=None).tobytes() for name in model.roles if name in arrays}
    trains = {prints[name]: plan.trainable for name, plan in table.parameters.items()}
    return trains, {prints[name] for name in table.frozen_statistics}


def test_torch_keras_torch_with_files_of_onnx_between(model, tmp_path):
    model.save(tmp_path / "a.onnx")
    there = again(portnet.convert(tmp_path / "a.onnx", to="keras"))
    there.save(tmp_path / "b.onnx")
    back = again(portnet.convert(tmp_path / "b.onnx", to="torch"))
    first, last = (FreezePolicy.captured().resolve(m) for m in (model, back))
    assert (back.labels, back.preprocessing) == (LABELS, WAYS)
    assert {n: p.trainable for n, p in last.parameters.items()} == {n: p.trainable for n, p in first.parameters.items()}
    assert last.frozen_statistics == first.frozen_statistics == {"1.running_mean", "1.running_var"}


@pytest.mark.parametrize("second", ENGINES)
@pytest.mark.parametrize("first", ENGINES)
def test_every_way_over_two_engines(model, first, second):
    back = again(portnet.convert(again(portnet.convert(model, to=first)), to=second))
    assert told(back) == told(model)
    assert (back.labels, back.preprocessing) == (LABELS, WAYS)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("keras", "net.keras"), ("keras", "folder"), ("torch", "net.pt2"), ("gluon", "net-symbol.json")],
)
def test_through_files(model, engine, name, tmp_path):
    convert_to_file(model, to=engine, output=tmp_path / name)
    back = portnet.capture(tmp_path / name)
    assert told(back) == told(model)
    assert (back.labels, back.preprocessing) == (LABELS, WAYS)


def test_through_code(model, tmp_path, monkeypatch):
    there = again(portnet.convert(model, to="keras"))  # whose names are not torch's
    convert_to_file(there, to="torch", output=tmp_path / "frozen_code.py", form="code")
    monkeypatch.syspath_prepend(tmp_path)
    network = __import__("frozen_code").load()
    sys.modules.pop("frozen_code")
    assert told(again(network)) == told(model)


def test_layers_that_keras_keeps_from_training_are_known(tmp_path):
    import keras
    from keras import layers

    made = [keras.Input((12, 12, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")]
    network = keras.Sequential([*made, layers.GlobalAveragePooling2D(), layers.Dense(3, name="head")])
    for name in ("conv", "norm"):
        network.get_layer(name).trainable = False
    network.save(tmp_path / "net.keras")
    for source in (network, tmp_path / "net.keras"):
        table = FreezePolicy.captured().resolve(portnet.capture(source))
        trains = {name: plan.trainable for name, plan in table.parameters.items()}
        assert {name for name, train in trains.items() if train} == {"head/kernel", "head/bias"}
        assert table.frozen_statistics == {"norm/moving_mean", "norm/moving_variance"}


def test_converted_networks_train_what_the_original_trains(model, tmp_path):
    import keras

    expected = sum(parameter.numel() for parameter in module().parameters() if parameter.requires_grad)
    torch_network, keras_network, gluon_network = (portnet.convert(model, to=engine) for engine in ENGINES)
    assert sum(p.numel() for p in torch_network.parameters() if p.requires_grad) == expected
    assert keras_network.count_params() > sum(v.numpy().size for v in keras_network.trainable_variables) == expected
    learned = [p for p in gluon_network.collect_params().values() if p.grad_req != "null"]
    assert sum(p.data().size for p in learned) == expected
    keras_network.save(tmp_path / "plain.keras")  # without PortNet's own file beside the network
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert sum(v.numpy().size for v in loaded.trainable_variables) == expected
    assert told(portnet.capture(tmp_path / "plain.keras")) == told(model)
