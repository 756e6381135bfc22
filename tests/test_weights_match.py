"""A file's arrays under a network's names: exact names, Keras' and old Gluon's, and what does not fit."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from portnet import zoo
from portnet.errors import WeightsError
from portnet.weights.convention import Convention
from portnet.weights.keymaps import key_maps, recognise
from portnet.weights.match import match
from portnet.weights.read import read_weights

WANTED = {"conv.weight": (2, 3, 1, 1), "fc.weight": (4, 2), "fc.bias": (4,)}


def arrays(**changes):
    made = {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(WANTED.items())}
    return {name: array for name, array in {**made, **changes}.items() if array is not None}


def refused(weights, *words, **keywords):
    with pytest.raises(WeightsError) as caught:
        match(weights, WANTED, source="pets.pth", **keywords)
    for word in ("pets.pth", *words):
        assert word in str(caught.value)


def test_takes_exact_names_in_the_network_s_order():
    given = dict(reversed(arrays(**{"bn.num_batches_tracked": np.array(7)}).items()))
    matched = match(given, WANTED)
    assert list(matched) == list(WANTED)
    for name, array in arrays().items():
        assert np.array_equal(matched[name], array)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_makes_floats_float32(dtype):
    matched = match({name: array.astype(dtype) for name, array in arrays().items()}, WANTED)
    assert {array.dtype for array in matched.values()} == {np.dtype(np.float32)}


def test_names_the_first_wrong_shape_and_both_shapes():
    refused(
        arrays(**{"fc.weight": np.zeros((10, 2)), "fc.bias": np.zeros(10)}),
        "'fc.weight' got shape (10, 2), expected (4, 2) (1 more differ)",
    )
    refused(arrays(**{"fc.bias": np.zeros(10)}), "'fc.bias' got shape (10,), expected (4,).")


def test_counts_what_is_missing_and_left_over():
    extra = {f"aux{i}": np.zeros(1) for i in range(5)}
    refused(arrays(**extra, **{"fc.bias": None}), "1 missing: 'fc.bias'", "5 unexpected: 'aux0', 'aux1', 'aux2', …")


def test_does_not_guess_by_shape():
    refused({f"x{i}": array for i, array in enumerate(arrays().values())}, "3 missing", "3 unexpected")


# ---- key maps


@pytest.mark.parametrize("key_map", key_maps(), ids=lambda key_map: key_map.name)
def test_key_maps_reach_every_initializer_once(key_map):
    model = zoo.load(key_map.network, weights=None)
    wanted = {name for name in model.weights() if name.rpartition(".")[0].partition(".")[0] not in ("relu6",)}
    wanted = {name for name in wanted if not name.endswith(".ratio")}
    reached = {target.name for target in key_map.targets.values()}
    assert wanted <= reached
    # Keras' convolutions may have a bias that is folded into the norm; nothing else is left over
    assert all(name.endswith(".bias") for name in reached - wanted)
    assert recognise(key_map.targets, key_map.network) is key_map
    assert recognise([*key_map.targets, "stranger"], key_map.network) is None


def test_refuses_weights_of_another_convention():
    key_map = next(each for each in key_maps() if each.name == "Keras MobileNetV2")
    weights = {"Conv1/kernel": np.zeros((3, 3, 3, 32), np.float32)}
    with pytest.raises(WeightsError, match="fit by shape alone"):
        match(weights, {"features.0.0.weight": (32, 3, 3, 3)}, network="mobilenet_v2")
    got = match(weights, {"features.0.0.weight": (32, 3, 3, 3)}, network="mobilenet_v2", convention=key_map.convention)
    assert got["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert key_map.convention != Convention()


SIZE = (96, 97)  # Keras pads even and odd sizes differently


def keras_network(name):
    """A Keras network with random weights, and statistics by which its logits depend on the image."""
    keras = pytest.importorskip("keras")
    network = getattr(keras.applications, name)(weights=None, classifier_activation=None, input_shape=(*SIZE, 3))
    rng = np.random.default_rng(1)
    for variable in network.variables:
        if variable.path.endswith(("gamma", "beta", "bias")):
            variable.assign(variable + rng.uniform(0, 0.3, variable.shape))
    for layer in network.layers:
        layer.momentum = 0.0
    network(images().transpose(0, 2, 3, 1), training=True)
    return network


def images():
    return np.random.default_rng(2).normal(size=(2, 3, *SIZE)).astype(np.float32)


def difference(network, model):
    """Largest difference of logits, in units of their largest difference between two images."""
    expected = np.asarray(network.predict_on_batch(images().transpose(0, 2, 3, 1)))
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": images()})
    assert got.shape == expected.shape
    return abs(got - expected).max() / abs(expected[0] - expected[1]).max()


@pytest.mark.parametrize(
    ("application", "name", "suffix", "scale"),
    [("MobileNetV2", "mobilenet_v2", ".weights.h5", 127.5), ("ResNet50", "resnet50", ".h5", 1.0)],
)
def test_networks_with_keras_weights_compute_as_keras_does(tmp_path, application, name, suffix, scale):
    network = keras_network(application)
    path = tmp_path / f"w{suffix}"
    (network.save_weights if suffix == ".weights.h5" else network.save)(path)
    model = zoo.load(name, weights=path, size=SIZE)
    assert difference(network, model) < 1e-3
    assert model.metadata.provenance["convention"] == "Keras"
    assert model.preprocessing.scale == scale
    onnx.checker.check_model(onnx.load_from_string(model.to_bytes()), full_check=True)

    wanted = {key: array.shape for key, array in model.weights().items() if array.ndim}
    convention = recognise(read_weights(path), name).convention
    arrays = match(read_weights(path), wanted, network=name, convention=convention)
    reference = zoo.load(name, weights=None, size=SIZE).with_weights(arrays)
    assert difference(network, reference) > 0.1


def test_reads_gluon_s_own_names_old_and_new(tmp_path):
    script = (
        "import sys, numpy as np; np.bool = np.bool_\n"
        "try: import mxnet as mx\n"
        "except Exception: raise SystemExit(77)\n"
        "from mxnet.gluon.model_zoo import vision\n"
        "mx.random.seed(0); net = vision.resnet18_v2(); net.initialize(mx.init.Uniform(0.1))\n"
        "net(mx.nd.zeros((1, 3, 224, 224)))\n"
        "net.save_parameters(sys.argv[1] + '/new.params')\n"
        "net.collect_params().save(sys.argv[1] + '/bare.params', strip_prefix=net.prefix)\n"
        "net.collect_params().save(sys.argv[1] + '/old.params')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True)
    if done.returncode == 77:
        pytest.skip("MXNet is not installed")
    assert done.returncode == 0, done.stderr.decode()
    new, *others = (
        zoo.load("resnet18_v2", weights=tmp_path / f"{name}.params").weights() for name in ("new", "bare", "old")
    )
    for other in others:
        assert list(other) == list(new)
        assert all(np.array_equal(other[name], array) for name, array in new.items())
