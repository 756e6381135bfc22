"""The zoo by itself: published facts, structure, what travels along, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from portnet import zoo
from portnet.errors import InputError, UnknownNameError, WeightsError
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model
from portnet.graph.parameters import Role

NAMES = [
    "darknet19",
    "darknet53",
    "mobilenet_v2",
    "resnet18",
    "resnet18_v2",
    "resnet50",
    "squeezenet1_0",
    "squeezenet1_1",
]


@pytest.fixture(scope="module")
def networks() -> dict[str, Model]:
    return {name: zoo.load(name, weights=None) for name in NAMES}


def test_names() -> None:
    assert zoo.names() == NAMES


# torchvision's documentation, Darknet's .cfg files, and for resnet18_v2 gluon.model_zoo's, which counts statistics too
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("squeezenet1_0", 1_248_424),
        ("squeezenet1_1", 1_235_496),
        ("mobilenet_v2", 3_504_872),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("darknet19", 20_842_376),
        ("darknet53", 41_609_928),
        ("resnet18_v2", 11_695_796),
    ],
)
def test_published_parameter_counts(networks: dict[str, Model], name: str, published: int) -> None:
    model = networks[name]
    counted = model.parameter_count
    if name == "resnet18_v2":
        counted = sum(array.size for array in model.weights().values())
        assert model.parameter_count == 11_687_848
    assert counted == published == zoo.info(name).parameters


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_valid_onnx(networks: dict[str, Model], name: str) -> None:
    proto = onnx.load_from_string(networks[name].to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    # the sizes that the builder computed are those that the standard infers
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    expected = {value.name: value.type for value in inferred.graph.value_info}
    stated = {value.name: value.type for value in proto.graph.value_info if value.name in expected}
    assert len(stated) == len(proto.graph.node) - 1
    assert stated == {key: expected[key] for key in stated}


@pytest.mark.parametrize("name", NAMES)
def test_depth_is_the_longest_path(networks: dict[str, Model], name: str) -> None:
    depths: dict[str, int] = {"input": 0}
    for node in networks[name].ir.graph:
        own = node.op_type in ("Conv", "Gemm")
        depths[node.outputs[0].name] = own + max(depths.get(v.name, 0) for v in node.inputs)
    assert depths["logits"] == zoo.info(name).depth


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_has_its_name_and_stage(networks: dict[str, Model], name: str) -> None:
    layers = networks[name].layers[1:]
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    assert all(layer.stage for layer in layers)
    for layer in layers:
        assert all(key.startswith(layer.name + ".") for key, role, _ in layer.initializers if role is not Role.CONSTANT)


def test_stages_in_order(networks: dict[str, Model]) -> None:
    def stages(name: str) -> list[str]:
        return list(dict.fromkeys(layer.stage for layer in networks[name].layers[1:]))

    assert stages("squeezenet1_1") == ["conv1", *(f"fire{n}" for n in range(2, 10)), "conv10"]
    assert stages("resnet50") == ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert stages("resnet18_v2") == ["stem", "layer1", "layer2", "layer3", "layer4", "output"]
    assert stages("mobilenet_v2") == ["stem", *(f"block{n}" for n in range(1, 18)), "conv_last", "classifier"]


def test_first_sixteen_layers_of_squeezenet_end_in_fire3(networks: dict[str, Model]) -> None:
    """MATLAB's layers(1:16): the input, the stem and fire2, and fire3 up to its last convolution."""
    layers = networks["squeezenet1_1"].layers[:16]
    assert (layers[-1].stage, layers[-1].name) == ("fire3", "features.4.expand3x3")
    assert [layer.op for layer in layers[:11]] == [
        *("Input", "Conv", "Relu", "MaxPool"),
        *("Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Concat"),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_feature_is_the_last_map_before_the_head(networks: dict[str, Model], name: str) -> None:
    model, entry = networks[name], zoo.info(name)
    assert model.backbone is not None
    assert (model.backbone.feature, model.backbone.head) == (entry.feature, entry.head)
    channels = {"squeezenet": 512, "mobilenet": 1280, "resnet18": 512, "resnet50": 2048, "darknet": 1024}
    (feature,) = [n.outputs[0] for n in model.ir.graph if n.outputs[0].name == entry.feature]
    assert feature.shape[1] == next(value for key, value in channels.items() if name.startswith(key))
    assert len(feature.shape) == 4
    assert entry.head == ("conv" if name.startswith("squeezenet") else "linear")


@pytest.mark.parametrize("name", NAMES)
def test_random_networks_compute_sane_numbers(networks: dict[str, Model], name: str) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, *zoo.info(name).size), np.float32)
    session = onnxruntime.InferenceSession(networks[name].to_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": images})
    assert logits.shape == (2, 1000)
    assert 0.01 < logits.std() < 5


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "resnet18_v2", "darknet53"])
def test_running_variances_start_near_what_is_normalised(networks: dict[str, Model], name: str) -> None:
    model = networks[name].copy()
    size = zoo.info(name).size
    norms = [node for node in model.ir.graph if node.op_type == "BatchNormalization"][1:]
    model.ir.graph.outputs[:] = list(dict.fromkeys(node.inputs[0] for node in norms))
    images = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    tensors = dict(zip([port.name for port in model.outputs], session.run(None, {"input": images}), strict=True))
    for node in norms:
        found = np.square(tensors[node.inputs[0].name]).mean()
        assert 1 / 8 < found / node.inputs[4].const_value.numpy()[0] < 8, node.name


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (zoo.load("resnet18", None, seed=seed) for seed in (5, 5, 6))
    assert first.digest() == again.digest() != other.digest()


def test_random_weights_of_a_layer_do_not_depend_on_the_rest() -> None:
    few, many = zoo.load("mobilenet_v2", None, num_classes=3), zoo.load("mobilenet_v2", None)
    assert few.outputs[0].shape == ("N", 3)
    same = [k for k, array in few.weights().items() if np.array_equal(array, many.weights()[k])]
    assert set(few.weights()) - set(same) == {"classifier.1.weight", "classifier.1.bias"}


def test_metadata_survives_a_file(networks: dict[str, Model], tmp_path) -> None:
    model = networks["resnet18_v2"]
    model.save(tmp_path / "x.onnx")
    loaded = Model.load(tmp_path / "x.onnx")
    assert loaded.metadata == model.metadata
    assert loaded.roles == model.roles
    assert [layer.stage for layer in loaded.layers] == [layer.stage for layer in model.layers]


@pytest.mark.parametrize(("size", "expected"), [(None, (224, 224)), (227, (227, 227)), ((96, 160), (96, 160))])
def test_size(size: int | tuple[int, int] | None, expected: tuple[int, int]) -> None:
    model = zoo.load("squeezenet1_1", None, size=size)
    assert model.inputs[0].shape == ("N", 3, *expected)
    assert model.preprocessing is not None
    assert model.preprocessing.size == expected


def test_resize_keeps_the_share_that_the_crop_keeps() -> None:
    preprocessing = zoo.load("resnet18", None, size=448).preprocessing
    assert preprocessing == Preprocessing(size=(448, 448), resize=512)


def published(name: str, weights: str) -> Model:
    if weights not in zoo.info(name).weights_at_hand():
        pytest.skip(f"weights {weights!r} of {name} are not at hand")
    return zoo.load(name, weights)


def test_published_weights_bring_labels_preprocessing_and_provenance() -> None:
    model = published("mobilenet_v2", "imagenet")
    assert model.labels is not None
    assert (len(model.labels), model.labels[281]) == (1000, "tabby")
    assert model.preprocessing == Preprocessing()
    facts = model.metadata.provenance
    assert facts["architecture"] == "mobilenet_v2"
    assert facts["sha256"].startswith("b0353104")
    assert facts["licence"] == "BSD-3-Clause"
    assert facts["top1"] == 71.878


def test_stand_in_brings_its_own_preprocessing() -> None:
    model = published("squeezenet1_1", "imagenet-caffe")
    assert model.preprocessing is not None
    assert (model.preprocessing.color, model.preprocessing.scale) == ("BGR", 1.0)


def test_published_file_by_path_is_recognised() -> None:
    from portnet.weights.store import resolve

    named = published("mobilenet_v2", "imagenet")
    _, path = resolve("mobilenet_v2")
    by_path = zoo.load("mobilenet_v2", path)
    assert by_path.metadata == named.metadata
    assert by_path.digest() == named.digest()


def test_weights_from_a_file(tmp_path) -> None:
    source = zoo.load("squeezenet1_1", None, num_classes=7, seed=9)
    arrays = {key: array for key, array in source.weights().items() if array.ndim}
    np.savez(tmp_path / "own.npz", **arrays)
    model = zoo.load("squeezenet1_1", str(tmp_path / "own.npz"), num_classes=7)
    assert model.digest() == source.digest()
    assert model.labels is None
    assert model.metadata.provenance["weights"] == "own.npz"


def test_weights_of_another_shape_name_the_first_mismatch(tmp_path) -> None:
    arrays = zoo.load("squeezenet1_1", None, num_classes=7).weights()
    np.savez(tmp_path / "own.npz", **{key: array for key, array in arrays.items() if array.ndim})
    with pytest.raises(WeightsError, match=r"classifier\.1\.weight.*\(7, 512, 1, 1\).*\(1000, 512, 1, 1\)"):
        zoo.load("squeezenet1_1", tmp_path / "own.npz", num_classes=1000)
    assert zoo.load("squeezenet1_1", tmp_path / "own.npz").outputs[0].shape == ("N", 7)
    with pytest.raises(WeightsError, match="does not fit"):
        zoo.load("squeezenet1_0", tmp_path / "own.npz", num_classes=7)


def test_no_such_weights_file(tmp_path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        zoo.load("resnet18", tmp_path / "absent.pth")


def test_published_weights_know_a_thousand_classes() -> None:
    published("squeezenet1_1", "imagenet-caffe")
    with pytest.raises(InputError, match=r"num_classes: got 3, .* 1000 classes"):
        zoo.load("squeezenet1_1", "imagenet-caffe", num_classes=3)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        zoo.load("resnet5")
    with pytest.raises(UnknownNameError, match="Did you mean 'imagenet'"):
        zoo.load("resnet50", "imagnet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes: got 0"),
        ({"num_classes": 2.0}, "num_classes: got 2.0"),
        ({"num_classes": 10**9}, "num_classes: got 1000000000"),
        ({"seed": -1}, "seed: got -1"),
        ({"size": 0}, "size: got 0"),
        ({"size": (224,)}, "size: got"),
        ({"size": 10**6}, "size: got 1000000"),
        ({"size": 16}, "16×16 pixels, too small"),
    ],
)
def test_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.load("squeezenet1_1", None, **arguments)


def test_smallest_size() -> None:
    assert zoo.load("squeezenet1_1", None, size=17).inputs[0].shape == ("N", 3, 17, 17)


def test_weights_at_hand_downloads_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path))
    assert zoo.info("resnet50").weights_at_hand() == ()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet50-0676ba61.pth").write_bytes(b"not the published bytes")
    assert zoo.info("resnet50").weights_at_hand() == ()


def test_listing_loads_neither_numpy_nor_onnx() -> None:
    code = (
        "import sys, portnet.zoo; portnet.zoo.names(); portnet.zoo.info('resnet50').megabytes;"
        "print([m for m in ('numpy', 'onnx', 'onnx_ir', 'onnxruntime') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
