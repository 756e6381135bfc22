"""What exporters write for GELU becomes the op, and nothing else does."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import portnet
from portnet.graph.model import Model

HALF_ROOT, ROOT = math.sqrt(0.5), math.sqrt(2)


def network(text: str, dtype=np.float32, kept=(), **constants) -> Model:
    """Return the network of lines such as ``e = Erf(d)``, from x (n, 4) to y and whatever is ``kept``.

    A constant's name is its number, with _ for the point.
    """
    numbers = {"half": 0.5, "one": 1, "two": 2, "three": 3, "root": ROOT, "half_root": HALF_ROOT}
    numbers |= {"cubic": 0.044715, "tau": math.sqrt(2 / math.pi), **constants}
    nodes = []
    for line in filter(None, map(str.strip, text.splitlines())):
        output, call = line.split(" = ")
        op, inputs = call.rstrip(")").split("(")
        nodes.append(helper.make_node(op, inputs.split(", "), [output], name=output))
    used = {name for node in nodes for name in node.input}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(number, dtype)))
            for name, number in numbers.items()
            if name in used
        ]
        + nodes,
        "gelu",
        [helper.make_tensor_value_info("x", kind, ["n", 4])],
        [helper.make_tensor_value_info(name, kind, ["n", 4]) for name in ("y", *kept)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return Model.from_bytes(model.SerializeToString())


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.canonical().ir.graph]


EXACT = {
    "torch": "d = Div(x, root)\ne = Erf(d)\na = Add(e, one)\nm = Mul(x, a)\ny = Mul(m, half)",
    "torch, dynamo": "h = Mul(x, half)\nd = Mul(x, half_root)\ne = Erf(d)\na = Add(e, one)\ny = Mul(h, a)",
    "half of the last": "d = Mul(half_root, x)\ne = Erf(d)\na = Add(one, e)\nm = Mul(half, a)\ny = Mul(x, m)",
    "over two": "d = Div(x, root)\ne = Erf(d)\na = Add(e, one)\nm = Mul(a, x)\ny = Div(m, two)",
}
TANH = {
    "pow": "p = Pow(x, three)\nc = Mul(p, cubic)\ns = Add(x, c)\nt = Mul(s, tau)\n",
    "products": "q = Mul(x, x)\np = Mul(x, q)\nc = Mul(cubic, p)\ns = Add(c, x)\nt = Mul(tau, s)\n",
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("text", EXACT.values(), ids=EXACT)
def test_exact(text, dtype):
    assert ops(network(text, dtype)) == ["Gelu"]


@pytest.mark.parametrize("text", TANH.values(), ids=TANH)
def test_tanh(text):
    model = network(text + "e = Tanh(t)\na = Add(e, one)\nh = Mul(x, half)\ny = Mul(h, a)")
    (node,) = model.canonical().ir.graph
    assert node.attributes["approximate"].as_string() == "tanh"


@pytest.mark.parametrize("to", ["torch", "keras", "gluon"])
def test_engines_agree_with_what_was_written(to):
    for text in (*EXACT.values(), TANH["pow"] + "e = Tanh(t)\na = Add(e, one)\nh = Mul(x, half)\ny = Mul(h, a)"):
        portnet.check(network(text), to).raise_if_failed()


NOT_GELU = {
    "another scale": ("torch", {"root": 1.5}),
    "another half": ("torch", {"half": 0.51}),
    "another one": ("torch", {"one": 1.01}),
    "an array": ("torch", {"half": np.full(4, 0.5)}),
    "not half, twice": ("over two", {"two": 0.5}),
}


@pytest.mark.parametrize(("form", "constants"), NOT_GELU.values(), ids=NOT_GELU)
def test_other_numbers_stay(form, constants):
    assert "Gelu" not in ops(network(EXACT[form], **constants))


def test_what_others_read_stays():
    assert "Gelu" not in ops(network(EXACT["torch"], kept=("a",)))
    assert "Gelu" not in ops(network(EXACT["torch"] + "\nz = Exp(e)", kept=("z",)))


def test_another_x_stays():
    assert "Gelu" not in ops(network(EXACT["torch"].replace("Div(x", "Div(z").replace("d =", "z = Exp(x)\nd =", 1)))


def test_the_result_may_be_read_often():
    assert ops(network(EXACT["over two"] + "\nz = Exp(y)", kept=("z",))) == ["Gelu", "Exp"]
