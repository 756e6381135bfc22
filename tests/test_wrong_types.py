"""What people give in place of what is meant: a clear error, or what they mean by it."""

import copy
import pickle

import numpy as np
import pytest
from small_runs import small_backbone, small_images, small_settings

import portnet
from portnet.errors import DataError, InputError, UnknownNameError
from portnet.finetuning.settings import Settings
from portnet.graph.metadata import Preprocessing


@pytest.fixture(scope="module")
def classifier():
    model = portnet.zoo.load("squeezenet1_1", weights=None, size=48)
    model.labels = [f"name {i}" for i in range(1000)]
    return model


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epochs": "3"}, "epochs: got '3' (str), expected an integer"),
        ({"epochs": True}, "epochs: got True"),
        ({"batch_size": 2.0}, "batch size: got 2.0 (float)"),
        ({"lr": "0.1"}, "learning rate: got '0.1' (str), expected a number"),
        ({"val": None}, "val: got None"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"head": 3}, "head: got a int"),
        ({"freeze": None}, "freeze: got a NoneType"),
        ({"unfreeze": [3]}, "unfreeze: got a list, expected a mapping"),
        ({"lr_mult": [("head", 10)]}, "lr_mult: got a list, expected a mapping"),
        ({"rename": ["a"]}, "rename: got a list, expected a mapping"),
        ({"class_weights": {"a": 1}}, "class weights: got {'a': 1}"),
        ({"class_weights": ["1", "2", "3"]}, "expected numbers from 0 on"),
        ({"callbacks": print}, "callbacks: got <built-in function print>"),
        ({"backend": None}, "unknown engine None"),
        ({"backbone": None}, "backbone: got a NoneType"),
        ({"weights": True}, "weights: got True"),
        ({"out": 3}, "out: got 3"),
        ({"optimizer": dict}, "unknown optimizer"),
    ],
)
def test_finetune_says_what_it_wants(option, message):
    with pytest.raises(InputError) as caught:
        portnet.finetune(small_images(), **small_settings(**option))
    assert message in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    settings = Settings("x", epochs=np.int64(3), val=np.float32(0.25), clip_norm=np.float64(2))
    assert (type(settings.epochs), type(settings.val), type(settings.clip_norm)) == (int, float, float)
    assert settings == Settings("x", epochs=3, val=0.25, clip_norm=2.0)


@pytest.mark.parametrize("thing", [None, 3, b"bytes", ["a.onnx"]])
def test_what_is_no_network_is_said(thing):
    for use in (portnet.load, lambda it: portnet.convert(it, to="torch")):
        with pytest.raises(InputError, match="expected a name in the zoo, a path, a Model, a run"):
            use(thing)


def test_load_takes_what_the_commands_take(tmp_path, digits):
    run = portnet.finetune(digits, size=48, epochs=1, progress=False, out=tmp_path / "run")
    expected = portnet.load(run.model).predict(digits / "0" / "0000.png").probabilities
    for source in (run, tmp_path / "run", str(tmp_path / "run"), tmp_path / "run" / "model.onnx"):
        assert np.array_equal(portnet.load(source).predict(digits / "0" / "0000.png").probabilities, expected)
    with pytest.raises(UnknownNameError, match=r"unknown network 'squeezenet1\.1'\. Did you mean 'squeezenet1_1'"):
        portnet.load("squeezenet1.1")


def test_a_session_is_opened_again_where_it_is_copied(classifier):
    session = portnet.load(classifier, threads=1)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    expected = session.predict(pixels).probabilities
    for copied in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        assert np.array_equal(copied.predict(pixels).probabilities, expected)
        assert copied.provider == session.provider


def test_several_images_come_in_any_form(classifier):
    session = portnet.load(classifier)
    batch = np.random.default_rng(0).integers(0, 255, (3, 60, 60, 3)).astype(np.uint8)
    expected = session.predict(list(batch)).probabilities
    for several in (batch, tuple(batch), (image for image in batch), iter(batch)):
        assert np.array_equal(session.predict(several).probabilities, expected)
    assert portnet.preprocess(classifier, (image for image in batch)).shape == (3, 3, 48, 48)


def test_another_librarys_tensor_is_named_and_not_printed(classifier, tmp_path):
    class Tensor:
        def __str__(self):
            return "[[0, 0]]\n" * 100

    with pytest.raises(DataError, match=r"image of type .*Tensor: expected a path.*its numpy array") as caught:
        portnet.load(classifier).predict([Tensor()])
    assert "\n" not in str(caught.value)
    (tmp_path / "x.png").write_bytes(b"x")
    with open(tmp_path / "x.png", "rb") as file, pytest.raises(DataError, match="BufferedReader: expected a path"):
        portnet.load(classifier).predict(file)


def test_an_engine_says_what_it_lowers_and_runs():
    engine = portnet.engine("torch")
    assert repr(engine) == "<engine torch: PyTorch>"
    with pytest.raises(InputError, match=r"got a str to lower, expected a portnet\.Model"):
        engine.lower("model.onnx")
    lowered = engine.lower(small_backbone())
    assert f"{lowered.trainable_count:,} trainable" in repr(lowered)
    with pytest.raises(InputError, match=r"predict: got shape \(1, 12, 12, 3\), expected .*N×3×12×12"):
        lowered.predict(np.zeros((1, 12, 12, 3), np.float32))


def test_heads_and_policies_say_what_they_want():
    assert portnet.Head.mlp(64) == portnet.Head.mlp((64,))
    with pytest.raises(InputError, match="hidden got"):
        portnet.Head.mlp(("64",))
    with pytest.raises(InputError, match="first got '3'"):
        portnet.FreezePolicy.first("3")
    with pytest.raises(InputError, match=r"portnet.graph.metadata.Preprocessing\(size"):
        portnet.preprocess(small_model_without_preprocessing(), np.zeros((9, 9, 3), np.uint8))


def small_model_without_preprocessing():
    model = small_backbone()
    assert isinstance(model.preprocessing, Preprocessing)
    model.preprocessing = None
    return model
