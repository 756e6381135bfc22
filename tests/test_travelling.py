"""Labels, preprocessing and what was frozen travel through every form of file, and through living networks."""

import sys

import numpy as np
import pytest

import portnet
from portnet.conversion import convert_to_file
from portnet.errors import ModelError
from portnet.graph.metadata import Preprocessing
from portnet.graph.travel import from_text, take_along, to_text
from portnet.originals import open_original
from portnet.zoo.given import open_weights

LABELS = ("tabby", "Löwe", "zebra")
WAYS = Preprocessing(size=(16, 16), resize=None, color="BGR", scale=1.0, mean=(1, 2, 3), std=(1, 1, 1))
FORMS = [("keras", "x.keras"), ("keras", "folder"), ("gluon", "x-symbol.json"), ("torch", "x.pt2")]


@pytest.fixture(scope="module")
def model():
    from onnx import parser

    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,3,16,16] x) => (float[N,3] y) <float[3,3] w =
        {1, 2, 3, 4, 5, 6, 7, 8, 0.5}, float[3] b = {1, 2, 3}> { p = GlobalAveragePool(x) f = Flatten(p)
        y = Gemm<transB = 1>(f, w, b) }"""
    found = portnet.Model.from_bytes(parser.parse_model(text).SerializeToString())
    found.labels, found.preprocessing = LABELS, WAYS
    found.metadata.provenance = {"source": "somewhere", "frozen": {"parameters": ["w"]}}
    return found


@pytest.mark.parametrize(("engine", "name"), FORMS)
def test_they_travel_through_files(model, tmp_path, engine, name):
    pytest.importorskip(f"portnet_{engine}")
    convert_to_file(model, to=engine, output=tmp_path / name)
    back = open_original(str(tmp_path / name)).captured.model
    assert back.labels == LABELS
    assert back.preprocessing == WAYS
    assert back.metadata.provenance["source"] in ("somewhere", name)
    frozen = back.metadata.provenance.get("frozen", {"parameters": []})["parameters"]
    assert set(frozen) <= set(back.ir.graph.initializers)


def test_they_travel_through_code_and_its_weights(model, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    convert_to_file(model, to="torch", output=tmp_path / "net_of_code.py", form="code")
    monkeypatch.syspath_prepend(tmp_path)
    network = __import__("net_of_code").load()
    sys.modules.pop("net_of_code")
    back = portnet.capture(network, torch.zeros(1, 3, 16, 16))
    assert (back.labels, back.preprocessing) == (LABELS, WAYS)
    given = open_weights(tmp_path / "net_of_code.safetensors", (16, 16))
    assert (given.carried.labels, given.carried.preprocessing) == (LABELS, WAYS)


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
def test_they_travel_through_living_networks(model, engine):
    pytest.importorskip(f"portnet_{engine}")
    native = portnet.convert(model, to=engine)
    example = None if engine == "keras" else np.zeros((1, 3, 16, 16), np.float32)
    back = portnet.capture(native, example)
    assert (back.labels, back.preprocessing) == (LABELS, WAYS)


def test_what_does_not_fit_stays_behind(model):
    other = model.copy() if hasattr(model, "copy") else portnet.Model.from_bytes(model.to_bytes())
    other.labels = None
    carried = from_text(to_text(model.metadata).replace('"zebra\\"', '"zebra\\", \\"gnu\\"'), "test")
    assert len(carried.labels) == 4
    carried.provenance["frozen"] = {"parameters": ["w", "gone"]}
    other.metadata.provenance = {}
    take_along(other, carried)
    assert other.labels is None
    assert other.metadata.provenance["frozen"] == {"parameters": ["w"]}


@pytest.mark.parametrize("text", ["[1]", "{", '{"portnet.labels": "x"}', '{"portnet.labels": "[" }', "[" * 100_000])
def test_an_ill_formed_text_is_refused_in_a_line(text):
    with pytest.raises(ModelError) as caught:
        from_text(text, "file")
    assert "\n" not in str(caught.value)
