"""Sizes that follow from free ones are known by name, so that engines can compute with them."""

import random

import numpy as np
import onnx.parser
import pytest
import sympy

import portnet
from portnet.graph.floors import Floors, floor_of
from portnet.graph.model import Model
from portnet.runtime.session import Session

# rows of a free width and batch through strided convolutions and a branch, folded together and apart again
ROWS = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,1,4,W] x) => (float[T,N,6] y)
<int64[1] first = {0}, int64[1] second = {1}, int64[1] rest = {-1},
 int64[1] six = {6}> {
    a = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w)
    b = Conv<pads = [1,1,1,1]>(a, v)  c = Add(a, b)
    t = Transpose<perm = [3,0,1,2]>(c)
    s = Shape(t) n = Gather(s, first) k = Gather(s, second)
    three = Concat<axis = 0>(n, k, six) r = Reshape(t, three)
    both = Mul(n, k) two = Concat<axis = 0>(both, six) f = Reshape(r, two)
    d = MatMul(f, m) back = Concat<axis = 0>(n, k, rest) y = Reshape(d, back) }"""

# widths that exporters call "?" are not one width
UNKNOWN = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,H,W] x) => (float[N,K] y) {
    s = Shape(x) i = Constant<value = int64[1] {3}>() w = Gather(s, i) j = Constant<value = int64[1] {0}>()
    n = Gather(s, j) r = Constant<value = int64[1] {-1}>() d = Concat<axis = 0>(n, w, r) f = Reshape(x, d)
    m = Constant<value = int64[1] {1}>() y = ReduceSum<keepdims = 0>(f, m) }"""


def _model(text: str) -> Model:
    proto = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    for name, shape in (("w", (3, 1, 3, 3)), ("v", (3, 3, 3, 3)), ("m", (6, 6))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Model.from_bytes(proto.SerializeToString())


def _size(value, axis):
    size = value.shape[axis]
    return size if isinstance(size, int) else size.value


def test_sizes_behind_a_window_of_a_free_width_have_one_name():
    graph = _model(ROWS).canonical().ir.graph
    values = {output.name: output for node in graph for output in node.outputs}
    width = _size(values["a"], 3)
    assert isinstance(width, str)
    assert [_size(values["b"], 3), _size(values["c"], 3), _size(values["t"], 0), _size(values["r"], 0)] == [width] * 4
    assert [_size(values["r"], 1), _size(values["y"], 1), _size(values["y"], 2)] == ["N", "N", 6]


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
def test_a_free_batch_and_width_come_apart_again(engine):
    pytest.importorskip(f"portnet_{engine}")
    model = _model(ROWS)
    lowered, session = portnet.engine(engine).lower(model), Session(model)
    for n, w in ((1, 9), (3, 16)):
        feed = {"x": np.random.default_rng(n).standard_normal((n, 1, 4, w)).astype(np.float32)}
        np.testing.assert_allclose(lowered.run(feed)["y"], session.run(feed)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "keras"])
def test_sizes_without_a_name_are_not_taken_for_one(engine):
    pytest.importorskip(f"portnet_{engine}")
    proto = onnx.parser.parse_model(UNKNOWN)
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "?"
    model = Model.from_bytes(proto.SerializeToString())
    feed = {"x": np.arange(2 * 2 * 3 * 5, dtype=np.float32).reshape(2, 2, 3, 5)}
    got = portnet.engine(engine).lower(model).run(feed)["y"]
    np.testing.assert_allclose(got, feed["x"].reshape(2, 5, 6).sum(1), rtol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "keras"])
def test_all_of_a_free_axis_is_sorted(engine):
    """What torch's exporter writes for lengths of packed sequences: TopK of Shape(x)."""
    pytest.importorskip(f"portnet_{engine}")
    model = _model("""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] n, float[N,2] x) => (int64[N] s, float[N,2] y)
        { k = Shape(n) s, order = TopK<axis = 0>(n, k) y = Gather(x, order) }""")
    lowered, session = portnet.engine(engine).lower(model), Session(model)
    for lengths in ([3, 9, 1, 9], [2]):
        feed = {"n": np.array(lengths), "x": np.random.default_rng(0).random((len(lengths), 2), np.float32)}
        for name, expected in session.run(feed).items():
            np.testing.assert_array_equal(lowered.run(feed)[name], expected)


def test_floors_of_floors_are_one_floor():
    generator = random.Random(0)
    s, t = (sympy.Symbol(name, integer=True, positive=True) for name in "st")
    for _ in range(60):
        size = sympy.Rational(generator.randint(1, 7), generator.randint(1, 6)) * s + generator.choice([0, 1]) * t
        for _ in range(generator.randint(0, 3)):
            size = generator.randint(1, 3) * floor_of(size) + generator.randint(-9, 9)
            size = size / sympy.Integer(generator.randint(1, 4))
        for _ in range(4):
            at = {s: generator.randint(1, 300), t: generator.randint(1, 300)}
            assert floor_of(size).subs(at) == sympy.floor(size.subs(at))


def test_a_size_in_another_spelling_is_the_same_symbol():
    s = sympy.Symbol("s", integer=True, positive=True)
    floors, windows = Floors(), s
    for kernel, stride in ((10, 5), (3, 2), (3, 2)):
        windows = floors.symbol_of(floor_of((windows - kernel) / sympy.Integer(stride)) + 1)
    assert isinstance(windows, sympy.Symbol)
    assert floors.respelled(4 * floor_of(s / 20) - 4, {windows}) == 4 * windows
    assert floors.symbol_of(floor_of(s / 20) + 2) == windows + 3
    assert floors.respelled(floor_of(s / 20), ()) == floor_of(s / 20)
