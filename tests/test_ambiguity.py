from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from portnet.cli.output import print_table
from portnet.errors import DataError, InputError, ModelError, UnknownNameError
from portnet.finetuning.ambiguity import ambiguity_of, rank
from portnet.finetuning.calibration import calibrate
from portnet.finetuning.metrics import evaluate_logits
from portnet.finetuning.run import evaluate
from portnet.graph.metadata import Metadata, Preprocessing
from portnet.graph.model import Model

CLASSES = ("chicken", "rabbit", "tiger")


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.longdouble))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (50, 3)).astype(np.float32)


def test_ambiguity_is_the_second_probability_over_the_first(logits):
    two = np.sort(softmax(logits), axis=1)[:, :-3:-1]
    np.testing.assert_allclose(ambiguity_of(logits), (two[:, 1] / two[:, 0]).astype(float), rtol=1e-6)


def test_ambiguity_of_a_sure_network_neither_overflows_nor_becomes_nan():
    assert ambiguity_of(np.array([[1e4, -1e4], [7.0, 7.0]], np.float32)).tolist() == [0.0, 1.0]


def test_the_table_is_sorted_and_counts_images_from_one(logits):
    labels = np.arange(50) % 3
    found = rank(logits, labels, CLASSES, [f"{i}.png" for i in range(50)], top=10)
    values = [row.ambiguity for row in found]
    assert len(found) == 10
    assert values == sorted(values, reverse=True)
    assert values[0] == ambiguity_of(logits).max()
    for row in found:
        index = row.number - 1
        order = np.argsort(-logits[index])
        assert (row.path, row.true) == (f"{index}.png", CLASSES[labels[index]])
        assert (row.likeliest, row.second) == (CLASSES[order[0]], CLASSES[order[1]])
        assert row.probability == pytest.approx(float(softmax(logits)[index, order[0]]), rel=1e-5)
        assert row.second_probability / row.probability == pytest.approx(row.ambiguity)
    first = str(found).splitlines()[1].split()
    assert first[:2] == [str(found[0].number), f"{found[0].ambiguity:.4f}"]
    assert json.loads(json.dumps(found.to_dict()))["images"][0]["number"] == found[0].number


def test_equal_ambiguities_keep_the_order_of_the_images():
    found = rank(np.zeros((4, 2), np.float32), np.zeros(4, int), ("a", "b"), [], top=9)
    assert [row.number for row in found] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("logits", "top", "error"),
    [
        (np.full((2, 3), np.nan), 1, ModelError),
        (np.array([[0.0, np.inf]]), 1, ModelError),
        (np.zeros((2, 1)), 1, InputError),
        (np.zeros((2, 3)), 0, InputError),
    ],
)
def test_what_has_no_ambiguity_is_refused(logits, top, error):
    with pytest.raises(error):
        rank(logits, np.zeros(len(logits), int), CLASSES, [], top)


def test_contact_sheet_shows_each_image(tmp_path, logits):
    colours = [(i * 5, 255 - i * 5, 128) for i in range(50)]
    images = [Image.new("RGB", (40, 30), colour) for colour in colours]
    found = rank(logits, np.zeros(50, int), CLASSES, images, top=7)
    path = found.contact_sheet(tmp_path / "sheet.png", columns=3)
    with Image.open(path) as sheet:
        pixels = {colour for _, colour in sheet.getcolors(1 << 24)}
    assert {colours[row.number - 1] for row in found} <= pixels
    assert not any(colours[n] in pixels for n in range(50) if n + 1 not in {row.number for row in found})


def test_contact_sheet_of_what_cannot_be_drawn(tmp_path, logits):
    with pytest.raises(InputError, match="not known"):
        rank(logits, np.zeros(50, int), CLASSES, []).contact_sheet(tmp_path / "sheet.png")
    found = rank(logits, np.zeros(50, int), CLASSES, [str(tmp_path / "gone.png")] * 50)
    with pytest.raises(UnknownNameError, match="gif"):
        found.contact_sheet(tmp_path / "sheet.gif")
    with pytest.raises(DataError, match=r"gone\.png"):
        found.contact_sheet(tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_calibration_error_by_its_definition(logits):
    probabilities, labels = softmax(logits), np.arange(50) % 3
    error = 0.0
    for m in range(1, 16):
        inside = [i for i, p in enumerate(probabilities.max(axis=1)) if (m - 1) / 15 < p <= m / 15]
        if inside:
            right = sum(probabilities[i].argmax() == labels[i] for i in inside) / len(inside)
            confidence = sum(probabilities[i].max() for i in inside) / len(inside)
            error += len(inside) / 50 * abs(right - confidence)
    result = calibrate(probabilities, labels)
    assert result.error == pytest.approx(float(error))
    assert result.count.sum() == 50


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1]] * 10)
    assert calibrate(probabilities, np.array([0] * 9 + [1])).error == pytest.approx(0)
    assert calibrate(probabilities, np.array([1] * 10)).error == pytest.approx(0.9)
    assert calibrate(np.array([[1.0, 0.0]]), np.array([0])).count[-1] == 1


def test_evaluation_keeps_the_logits_out_of_its_json(logits):
    result = evaluate_logits(logits, np.arange(50) % 3, CLASSES)
    plain = result.to_dict()
    assert plain["calibration_error"] == result.calibration.error
    assert not {"logits", "labels", "images"} & set(plain)
    np.testing.assert_allclose(result.probabilities, softmax(logits).astype(float), rtol=1e-5)
    assert len(result.ambiguity(top=3)) == 3


class Fixed:
    """A network that answers the same whatever it sees."""

    def __init__(self, answer: list[float]) -> None:
        self.answer = np.array(answer, np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.tile(self.answer, (len(x), 1))


@pytest.mark.parametrize("op", ["Identity", "Softmax"])
def test_probabilities_are_not_taken_for_logits(op):
    x = ir.Value(name="x", shape=ir.Shape(["N", 3, 8, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node(op, [x])
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17})
    metadata = Metadata(labels=CLASSES, preprocessing=Preprocessing(size=(8, 8), resize=None))
    model = Model(ir.Model(graph, ir_version=10), metadata)
    pairs = [(np.zeros((8, 8, 3), np.uint8), name) for name in CLASSES]
    answer = [0.5, 0.3, 0.2] if op == "Softmax" else np.log([0.5, 0.3, 0.2]).tolist()
    result = evaluate(Fixed(answer), model, pairs)
    assert result.loss == pytest.approx(-np.log([0.5, 0.3, 0.2]).mean(), rel=1e-5)
    assert [row.ambiguity for row in result.ambiguity()] == pytest.approx([0.6] * 3)
    assert len(result.images) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_wrong(broken):
    logits = np.eye(6, dtype=np.float32)
    logits[0, 3] = broken
    found = evaluate_logits(logits, np.arange(6), tuple("abcdef"))
    assert found.accuracy == found.top5 == 5 / 6
    assert found.confusion.trace() == found.confusion.sum() == 5
    assert np.isnan([found.loss, found.calibration_error]).all()
    assert found.calibration.count.sum() == 0


def test_a_network_that_answers_nan_is_not_evaluated():
    node = ir.node("Identity", [x := ir.Value(name="x", shape=ir.Shape(["N", 3, 8, 8]))])
    model = Model(ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17}), ir_version=10))
    model.labels, model.preprocessing = CLASSES, Preprocessing(size=(8, 8), resize=None)
    with pytest.raises(ModelError, match="NaN"):
        evaluate(Fixed([0.5, np.nan, 0.2]), model, [(np.zeros((8, 8, 3), np.uint8), name) for name in CLASSES])


def test_tables_show_names_as_they_are_whatever_is_in_them(capsys):
    print_table(("class",), [("[/x][red]a\x1b[31m\udcff",)])
    assert "[/x][red]a\ufffd[31m\ufffd" in capsys.readouterr().out
