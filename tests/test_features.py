"""Features of layers, as scikit-learn uses them, and advice on what to do with them."""

import copy
import json
import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC
from typer.testing import CliRunner

import portnet
from portnet import FeatureExtractor
from portnet.cli.app import app
from portnet.data.dataset import load_dataset
from portnet.errors import DataError, InputError, OutputError, UnknownNameError
from portnet.features import find_tensor, write_features
from portnet.graph.layers import STAGE_MARK
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model
from portnet.recommendation import measure_likeness, recommend

PREPROCESSING = Preprocessing(size=(16, 16), resize=None)


def proto(output="logits"):
    """Return conv → relu → conv → relu → pool → flatten → dense with fixed weights, cut at ``output``."""
    random = np.random.default_rng(3)
    shapes = {"w1": (6, 3, 3, 3), "w2": (8, 6, 3, 3), "w3": (200, 8)}
    weights = [onnx.numpy_helper.from_array(random.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2"),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["logits"], "dense", transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    end = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [image], [end], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model():
    made = Model.from_bytes(proto().SerializeToString())
    made.preprocessing = PREPROCESSING
    for node, stage in zip(made.ir.graph, ["one"] * 2 + ["two"] * 2 + ["head"] * 3, strict=True):
        node.metadata_props[STAGE_MARK] = stage
    return made


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(7)]


def reference(tensor, images):
    """Return a tensor by onnx's own evaluator, of images that Pillow resized."""
    resized = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in images]
    x = (np.stack(resized) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return ReferenceEvaluator(proto(tensor)).run(None, {"x": x.transpose(0, 3, 1, 2).astype(np.float32)})[0]


@pytest.mark.parametrize(
    ("layer", "tensor"),
    [("conv1", "a"), ("relu1", "b"), ("one", "b"), ("two", "d"), ("c", "c"), (None, "d"), ("dense", "logits")],
)
def test_features_are_the_activations_of_the_layer_stage_or_tensor(model, images, layer, tensor):
    assert find_tensor(model, layer) == tensor
    expected = reference(tensor, images)
    whole = FeatureExtractor(model, layer=layer, pooled=None, batch_size=3).transform(images)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)
    flat = FeatureExtractor(model, layer=layer, pooled="flatten").transform(images)
    np.testing.assert_array_equal(flat, whole.reshape(7, -1))
    pooled = FeatureExtractor(model, layer=layer).transform(np.stack(images))
    mean = expected.mean(axis=(2, 3)) if expected.ndim == 4 else expected
    np.testing.assert_allclose(pooled, mean, rtol=1e-4, atol=1e-4)
    assert pooled.dtype == np.float32


def test_an_unknown_layer_is_answered_with_near_ones(model, images):
    with pytest.raises(UnknownNameError, match="'relu1'"):
        FeatureExtractor(model, layer="rely1").fit(images)
    with pytest.raises(UnknownNameError, match="fire9"):
        FeatureExtractor("squeezenet1_1", layer="fire99", weights=None).fit([])
    with pytest.raises(UnknownNameError, match="avg"):
        FeatureExtractor(model, pooled="max").fit(images)
    with pytest.raises(InputError, match="batch size"):
        FeatureExtractor(model, batch_size=0).fit(images)


def test_what_is_no_list_of_images_is_refused(model, tmp_path):
    extractor = FeatureExtractor(model)
    for nothing in ([], "cat.png", np.zeros((0, 8, 8, 3), np.uint8)):
        with pytest.raises(InputError, match="no list of images"):
            extractor.transform(nothing)
    with pytest.raises(DataError, match=r"gone\.png"):
        extractor.transform([tmp_path / "gone.png"])
    model.preprocessing = None
    with pytest.raises(InputError, match="preprocessing"):
        FeatureExtractor(model).transform([np.zeros((8, 8, 3), np.uint8)])


def test_scikit_learn_takes_it_for_a_transformer(digits):
    dataset = load_dataset(digits)
    paths, labels = list(dataset.items), dataset.labels
    extractor = FeatureExtractor("squeezenet1_1", layer="fire5")
    assert clone(extractor).get_params() == extractor.get_params()
    scores = cross_val_score(make_pipeline(extractor, SVC()), paths, labels, cv=2)
    assert scores.mean() > 0.9  # three digits, features of ImageNet's weights
    assert Pipeline([("features", extractor)]).fit(paths[:2]).transform(np.array(paths[:2])).shape == (2, 256)


def test_scikit_learn_searches_over_layers_and_learns_their_names(digits):
    dataset = load_dataset(digits)
    paths, labels = np.array(dataset.items[::2]), dataset.labels[::2]
    pipeline = make_pipeline(FeatureExtractor("squeezenet1_1", layer="fire2"), SVC())
    grid = {"featureextractor__layer": ["fire2", "fire5"], "featureextractor__pooled": ["avg"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(paths, labels)
    assert search.best_score_ > 0.6
    assert pickle.loads(pickle.dumps(search)).score(paths, labels) > 0.9
    names = search.best_estimator_[:1].get_feature_names_out()
    layer = search.best_params_["featureextractor__layer"]
    assert names.tolist() == [f"{layer}_{i}" for i in range(len(names))]
    assert search.best_estimator_[:1].transform(paths[:1]).shape == (1, len(names))


def test_features_have_names_where_their_number_is_known(model, images):
    for pooled, count in (("avg", 6), ("flatten", 6 * 7 * 7)):
        extractor = FeatureExtractor(model, layer="one", pooled=pooled)
        assert len(extractor.get_feature_names_out()) == extractor.transform(images).shape[1] == count
    with pytest.raises(InputError, match="have no names"):
        FeatureExtractor(model, layer="one", pooled=None).get_feature_names_out()
    with pytest.raises(InputError, match=r"batch size got 2\.5"):
        FeatureExtractor(model, batch_size=2.5).fit(images)


def test_data_frames_go_in_and_come_out(digits):
    pandas = pytest.importorskip("pandas")
    dataset = load_dataset(digits)
    frame = pandas.DataFrame({"path": [str(path) for path in dataset.items[:3]]}, index=[5, 6, 7])
    extractor = FeatureExtractor("squeezenet1_1", layer="fire2")
    expected = extractor.transform(dataset.items[:3])
    for column in (frame, frame["path"], frame.to_numpy()):
        np.testing.assert_array_equal(extractor.transform(column), expected)
    found = clone(extractor.set_output(transform="pandas")).transform(frame)
    assert found.columns[0] == "fire2_0"
    assert found.index.tolist() == [5, 6, 7]
    np.testing.assert_array_equal(found.to_numpy(), expected)
    assert isinstance(extractor.set_output(transform="default").transform(frame), np.ndarray)
    with pytest.raises(UnknownNameError, match="arrow"):
        extractor.set_output(transform="arrow")


def test_parameters_can_be_changed_and_the_network_follows(model, images):
    extractor = FeatureExtractor(model, layer="one")
    assert extractor.fit_transform(images).shape == (7, 6)
    assert extractor.set_params(layer="two").transform(images).shape == (7, 8)
    with pytest.raises(UnknownNameError, match="layer"):
        extractor.set_params(layers="two")


def test_it_is_cloned_and_pickled_with_its_model(model, images):
    extractor = FeatureExtractor(model, layer="two").fit(images)
    expected = extractor.transform(images)
    for other in (clone(extractor), copy.deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        np.testing.assert_array_equal(other.transform(images), expected)
        assert other.get_params()["model"].digest() == model.digest()


def test_it_is_public():
    assert portnet.FeatureExtractor is FeatureExtractor
    assert len(portnet.__all__) <= 15


def test_features_in_a_file(digits, model, tmp_path):
    path = tmp_path / "features.npz"
    assert write_features(FeatureExtractor(model), digits, path) == (60, 8)
    with np.load(path) as file:
        assert file["features"].shape == (60, 8)
        names = file["classes"][file["labels"]]
        assert [p.split("/")[-2] for p in file["paths"]] == names.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["features.npz"]
    with pytest.raises(OutputError):
        write_features(FeatureExtractor(model), digits, tmp_path / "nowhere" / "features.npz")
    with pytest.raises(InputError, match=r"\.npz"):
        write_features(FeatureExtractor(model), digits, tmp_path / "features.csv")
    command = ["features", str(digits), "--layer", "fire2", "-o", str(path), "--json"]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    assert found["shape"] == [60, 128]


# ---- advice


class Asked:
    """Answers with logits that are sure of one class, or of none."""

    def __init__(self, monkeypatch, *, sure):
        logits = np.zeros((1, 1000))
        logits[0, 7] = 12 if sure else 1
        probabilities = np.exp(logits) / np.exp(logits).sum()
        monkeypatch.setattr("portnet.recommendation.find_model", lambda name: portnet.zoo.load(name, weights=None))
        monkeypatch.setattr("portnet.recommendation.Session", lambda model: self)
        self.probabilities = probabilities

    def predict(self, images):
        found = type("Found", (), {})()
        found.probabilities = np.repeat(self.probabilities, len(images), axis=0)
        return found


@pytest.mark.parametrize(
    ("per_class", "sure", "approach", "told"),
    [
        (19, True, "features", "portnet features"),
        (19, False, "earlier features", "--layer block"),
        (20, True, "freeze", "--freeze backbone --augment"),
        (999, False, "freeze early layers", "--freeze until:block"),
        (1000, True, "fine-tune", "--freeze none --lr-mult head=10"),
        (1000, False, "fine-tune", "--freeze none"),
    ],
)
def test_advice_follows_size_and_likeness(monkeypatch, per_class, sure, approach, told):
    Asked(monkeypatch, sure=sure)
    pixel = np.zeros((1, 1, 3), np.uint8)
    found = recommend([(pixel, name) for name in "ab" for _ in range(per_class)])
    assert found.approach == approach
    assert told in found.commands[0]
    assert found.likeness.is_like == sure
    assert f"{per_class:,} images" in found.reasons[0]
    assert [command.split()[0] for command in found.commands[1:]] == (["python"] if per_class < 20 else [])
    assert len(found.reasons) == 2


def test_advice_warns_of_classes_of_unequal_size(monkeypatch):
    Asked(monkeypatch, sure=True)
    pixel = np.zeros((1, 1, 3), np.uint8)
    found = recommend([(pixel, "a")] * 10 + [(pixel, "b")] * 70)
    assert "7 times" in found.reasons[2]
    assert (found.smallest, found.median, found.largest) == (10, 40, 70)


def test_photographs_are_like_imagenet_and_digits_are_not(digits):
    """The real network on real images: what the line between the two was drawn by."""
    from skimage import data

    network = portnet.zoo.load("mobilenet_v2")
    photographs = [(image, name) for name in "ab" for image in (data.chelsea(), data.coffee())]
    assert measure_likeness(load_dataset(photographs), network).score > 0.8
    assert measure_likeness(load_dataset(digits), network).score < 0.5
    found = json.loads(CliRunner().invoke(app, ["recommend", str(digits), "--json"]).stdout)
    assert found["approach"] == "freeze early layers"
    assert found["likeness"]["images"] == 60


def test_a_small_network_cannot_tell_likeness(images):
    pairs = load_dataset([(image, name) for name in "ab" for image in images])
    small = Model.from_bytes(proto("f").SerializeToString())
    small.preprocessing, small.labels = PREPROCESSING, tuple("abcdefgh")
    with pytest.raises(InputError, match="8 classes"):
        measure_likeness(pairs, small)
