"""Sizes that a network leaves free are fixed by the caller; a refusal says which, once that is known to help."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

import portnet
from portnet import Model
from portnet.cli import main
from portnet.cli.shape import shapes_of
from portnet.engines import installed
from portnet.errors import InputError, UnknownNameError, UnsupportedError
from portnet.graph.fix import fix_shapes
from portnet.runtime.session import Session

# Gluon must know how large Resize's result is
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
grows (float[N, 2, H, W] x, float[W] weights) => (float[N, 2, h, W] y)
<float[4] factors = {1, 1, 2, 1}, float[2, 2, 1, 1] kernel = {1, 2, 3, 4}>
{
    seen = Conv (x, kernel)
    resized = Resize <mode = "cubic"> (seen, , factors)
    y = Mul(resized, weights)
}
"""
# how long the result is depends on the data
COUNTS = """
<ir_version: 8, opset_import: ["" : 17]>
counts (float[N] x) => (float[1, M] y)
{
    places = NonZero(x)
    y = Cast <to = 1> (places)
}
"""
needs_gluon = pytest.mark.skipif("gluon" not in installed(), reason="the gluon engine is not installed")
CONVERTED = {"x": (None, 2, 5, 6)}


@pytest.fixture
def run(monkeypatch):
    """Run ``portnet`` with words; return its exit code."""

    def portnet_(*words):
        monkeypatch.setattr("sys.argv", ["portnet", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    return portnet_


@pytest.fixture
def model():
    return Model.from_bytes(onnx.parser.parse_model(TEXT).SerializeToString())


@pytest.fixture
def file(model, tmp_path):
    model.save(tmp_path / "grows.onnx")
    return tmp_path / "grows.onnx"


def test_a_named_size_is_fixed_wherever_its_name_stands(model):
    fixed = fix_shapes(model, CONVERTED)
    assert [port.shape for port in fixed.inputs] == [("N", 2, 5, 6), (6,)]
    assert fixed.outputs[0].shape == ("N", 2, 10, 6)
    assert model.outputs[0].shape == ("N", 2, "h", "W")
    assert [port.shape for port in model.inputs] == [("N", 2, "H", "W"), ("W",)]
    assert fix_shapes(model, {"H": 5, "W": 6}).inputs == fixed.inputs
    assert fix_shapes(model, {"weights": 6, "H": 5}).inputs == fixed.inputs


def test_numbers_that_were_recorded_for_other_sizes_are_forgotten():
    model = Model.from_bytes(onnx.parser.parse_model(COUNTS).SerializeToString())
    places = next(node.outputs[0] for node in model.ir.graph)
    places.shape = ir.Shape([1, 64])  # as exporters write what they saw
    fixed = fix_shapes(model, {"N": 7}).canonical()
    assert [node.outputs[0].shape[0] for node in fixed.ir.graph] == [1, 1]
    assert all(64 not in node.outputs[0].shape for node in fixed.ir.graph)


def test_the_fixed_network_computes_what_the_free_one_does(model):
    feeds = {
        "x": np.random.default_rng(0).normal(size=(2, 2, 5, 6)).astype("f"),
        "weights": np.arange(6, dtype="f"),
    }
    np.testing.assert_array_equal(Session(fix_shapes(model, CONVERTED)).run(feeds)["y"], Session(model).run(feeds)["y"])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (1, 2, 5)}, "shape of 'x': got 3 sizes, expected 4: N, 2, H, W"),
        ({"x": (1, 3, 5, 6)}, "shape of 'x', axis 1: got 3, expected 2: the network fixes it"),
        ({"x": (1, 2, 0, 6)}, "shape of 'x', axis 2: got 0, expected a number from 1 to 2147483647"),
        ({"x": (1, 2, 2**40, 6)}, "expected a number from 1"),
        ({"x": 5}, "shape of 'x': got 5, expected a size for each axis"),
        ({"x": "1256"}, "shape of 'x': got '1256', expected a size for each axis"),
        ({"x": (1, 2, 5, 6), "W": 7}, "size 'W': got 7 and 6, expected one number"),
        ({"H": 2.5}, "size 'H': got 2.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(model, shapes, message):
    with pytest.raises(InputError) as error:
        fix_shapes(model, shapes)
    assert message in str(error.value)


def test_an_unknown_name_is_refused_with_the_nearest(model):
    with pytest.raises(UnknownNameError, match="Known: x, weights, H, N, W"):
        fix_shapes(model, {"V": 3})


def test_words_of_the_command_line():
    assert shapes_of(None) is None
    assert shapes_of(["a=b:0=?,3", "W=4", "w=?"]) == {"a=b:0": (None, 3), "W": 4, "w": (None,)}
    for word in ("x", "=3", "x=", "x=1,,2", "x=-1", "x=1.5", "x=²"):
        with pytest.raises(InputError, match="--shape: got"):
            shapes_of([word])


@needs_gluon
def test_gluon_says_what_to_type_and_then_converts(file, tmp_path, capsys, run):
    with pytest.raises(UnsupportedError, match=r"Resize .* free.*--shape 'x=\?,2,64,64'") as error:
        portnet.convert(file, to="gluon")
    assert str(error.value).endswith("(Python: shapes={'x': (None, 2, 64, 64)})")

    output = tmp_path / "grows"
    assert run("convert", file, "--to", "gluon", "-o", output, "--shape", "x=?,2,5,6") == 0
    assert "batch 3): " in capsys.readouterr().out
    assert run("check", file, "gluon", "--shape", "H=5", "--shape", "W=6") == 0
    assert run("check", file, "gluon") == 2
    assert "--shape" in capsys.readouterr().err


@needs_gluon
def test_no_advice_where_sizes_do_not_help(tmp_path):
    Model.from_bytes(onnx.parser.parse_model(COUNTS).SerializeToString()).save(tmp_path / "counts.onnx")
    with pytest.raises(UnsupportedError) as error:
        portnet.convert(tmp_path / "counts.onnx", to="gluon")
    assert "--shape" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in installed() if name != "gluon"])
def test_other_engines_take_fixed_sizes_too(file, name):
    assert portnet.check(file, name, shapes={"H": 5, "W": 6}).passed


def test_what_is_built_has_its_sizes(model):
    with pytest.raises(InputError, match=r"shapes: got .*Session is built already"):
        portnet.check(Session(model), model, shapes={"H": 5})
