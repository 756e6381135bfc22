"""Backbones: from the zoo, from files of others, from models; cut where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from portnet import Backbone, Model, zoo
from portnet.errors import InputError, ModelError, UnknownNameError

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def run(model: Model, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    return output


@pytest.mark.parametrize(
    ("name", "channels", "head"),
    [
        ("squeezenet1_1", 512, "conv"),
        ("mobilenet_v2", 1280, "linear"),
        ("resnet18", 512, "linear"),
        ("resnet50", 2048, "linear"),
        ("resnet18_v2", 512, "linear"),
    ],
)
def test_zoo(name: str, channels: int, head: str) -> None:
    backbone = Backbone.of(name, weights=None, size=64)
    assert (backbone.channels, backbone.feature_rank, backbone.natural_head) == (channels, 4, head)
    assert [port.name for port in backbone.model.outputs] == [backbone.feature]
    features = run(backbone.model, np.zeros((1, 3, 64, 64), np.float32))
    assert features.shape[:2] == (1, channels)


def test_head_is_gone_and_the_rest_is_whole() -> None:
    model = zoo.load("resnet18", None)
    backbone = Backbone.of(model)
    assert set(model.weights()) - set(backbone.model.weights()) == {"fc.weight", "fc.bias"}
    assert backbone.stages == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert model.outputs[0].name == "logits", "the network itself must not change"


@pytest.mark.parametrize("name", zoo.names())
def test_feature_is_found_where_nothing_names_it(name: str) -> None:
    model = zoo.load(name, None)
    model.metadata.backbone = None
    assert Backbone.of(model).feature == zoo.info(name).feature


# channels before the classifier, from the papers; alexnet, vgg and zfnet end in dense layers
@pytest.mark.parametrize(
    ("file", "channels", "rank"),
    [
        ("bvlc_alexnet", 4096, 2),
        ("densenet121", 1024, 4),
        ("inception_v1", 1024, 4),
        ("inception_v2", 1024, 4),
        ("resnet50", 2048, 4),
        ("shufflenet", 544, 4),
        ("squeezenet", 512, 4),
        ("vgg19", 4096, 2),
    ],
)
def test_networks_of_the_onnx_package(file: str, channels: int, rank: int) -> None:
    backbone = Backbone.of(LIGHT / f"light_{file}.onnx")
    assert (backbone.channels, backbone.feature_rank) == (channels, rank)


def test_file_equals_model(tmp_path: Path) -> None:
    model = zoo.load("squeezenet1_1", None, size=64)
    model.save(tmp_path / "own.onnx")
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    from_file, from_model = Backbone.of(str(tmp_path / "own.onnx")), Backbone.of(model)
    np.testing.assert_allclose(run(from_file.model, images), run(from_model.model, images), atol=1e-5)
    assert from_file.stages == from_model.stages
    assert from_file.natural_head == "conv"


def test_another_feature() -> None:
    backbone = Backbone.of("squeezenet1_1", weights=None, feature="features.7.concat")
    assert (backbone.feature, backbone.channels) == ("features.7.concat", 256)
    assert backbone.stages == ("conv1", "fire2", "fire3", "fire4", "fire5")


def test_a_folder_does_not_hide_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resnet18").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Backbone.of("resnet18", weights=None).channels == 512


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        Backbone.of("resnet5")
    with pytest.raises(UnknownNameError, match="Did you mean 'squeezenet1_1'"):
        Backbone.of("squeezenet1.1")
    with pytest.raises(UnknownNameError, match=r"features\.12\.concat"):
        Backbone.of("squeezenet1_1", weights=None, feature="features.12.conca")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        Backbone.of(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="no such file"):
        Backbone.of("absent.onnx")


def test_size_of_a_fixed_network() -> None:
    model = zoo.load("resnet18", None, size=64)
    assert Backbone.of(model, size=64).channels == 512
    with pytest.raises(InputError, match=r"size: got 96, but the input of resnet18 is .*3×64×64"):
        Backbone.of(model, size=96)


def test_size_of_a_free_network() -> None:
    model = zoo.load("resnet18", None)
    shape = model.ir.graph.inputs[0].shape
    assert shape is not None
    shape[2], shape[3] = "H", "W"
    backbone = Backbone.of(model, size=96)
    assert backbone.model.preprocessing is not None
    assert backbone.model.preprocessing.size == (96, 96)
    assert model.preprocessing is not None
    assert model.preprocessing.size == (224, 224)


def test_a_network_without_classifier_is_refused() -> None:
    node = helper.make_node("Sigmoid", ["x"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8, 8]) for name in "xy"]
    proto = helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:]))
    with pytest.raises(ModelError, match="found no classifier"):
        Backbone.of(Model.from_bytes(proto.SerializeToString()))


def test_a_feature_of_odd_rank_is_refused() -> None:
    node = helper.make_node("Sigmoid", ["x"], ["y"], name="odd")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8]) for name in "xy"]
    proto = helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:]))
    with pytest.raises(ModelError, match=r"expected \(N, C, H, W\) or \(N, C\)"):
        Backbone.of(Model.from_bytes(proto.SerializeToString()), feature="y")
