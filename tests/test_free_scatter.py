"""Updates put at places of tensors whose sizes stay free, against onnxruntime."""

import numpy as np
import pytest
from test_free_sizes import agree, array, engine, parse, reached

import portnet
from portnet.errors import UnsupportedError

__all__ = ["engine"]


def whole(*shape, below, seed=0):
    return np.random.default_rng(seed).integers(-below, below, shape)


def test_elements_are_replaced_in_a_tensor_of_any_size(engine):
    text = "g (float[N,T] x, int64[N,K] i, float[N,K] u) => (float[N,T] y) { y = ScatterElements<axis = 1>(x, i, u) }"
    feeds = [
        {"x": array(2, 5), "i": np.array([[0, 2, -1], [1, -2, 4]]), "u": array(2, 3, seed=1)},
        {"x": array(3, 4), "i": np.array([[3], [-4], [1]]), "u": array(3, 1, seed=2)},
    ]
    agree(engine, parse(text), *feeds)


@pytest.mark.parametrize("kind", ["float", "int64", "bool"])
def test_slices_are_replaced_in_a_tensor_of_any_size(engine, kind):
    text = f"g ({kind}[N,T,C] x, int64[K,2] i, {kind}[K,C] u) => ({kind}[N,T,C] y) {{ y = ScatterND(x, i, u) }}"
    feeds = [
        {"x": array(2, 5, 3) * 9, "i": np.array([[0, 2], [1, -1]]), "u": array(2, 3, seed=1) * 9},
        {"x": array(3, 4, 2) * 9, "i": np.array([[2, 3], [-1, 0], [0, 0]]), "u": array(3, 2, seed=2) * 9},
    ]
    dtype = {"float": np.float32}.get(kind, kind)
    data = [
        {name: x if name == "i" else (x > 0 if kind == "bool" else x).astype(dtype) for name, x in feed.items()}
        for feed in feeds
    ]
    agree(engine, parse(text), *data)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_several_updates_of_one_place_are_reduced(engine, reduction):
    text = f"""g (float[N,T,4] x, float[6,4] u) => (float[N,T,4] y) {{
        y = ScatterND<reduction = "{reduction}">(x, i, u) }}"""
    places = np.array([[0, 1], [0, 1], [1, -1], [0, 0], [1, -1], [0, 1]])
    model = parse(text, i=places)
    agree(
        engine, model, {"x": array(2, 3, 4), "u": array(6, 4, seed=1)}, {"x": array(3, 2, 4), "u": array(6, 4, seed=2)}
    )


def test_columns_are_reduced_for_any_batch(engine):
    text = """g (float[N,4,T] x, float[2,4,1] u) => (float[N,4,T] y) {
        y = ScatterElements<axis = 2, reduction = "add">(x, i, u) }"""
    model = parse(text, i=whole(2, 4, 1, below=3))
    agree(engine, model, {"x": array(2, 4, 3), "u": array(2, 4, 1)}, {"x": array(3, 4, 5), "u": array(2, 4, 1)})


def test_a_free_number_of_updates_is_not_reduced_in_mxnet():
    pytest.importorskip("portnet_gluon")
    text = """g (float[N,4] x, int64[K,1] i, float[K,4] u) => (float[N,4] y) {
        y = ScatterND<reduction = "max">(x, i, u) }"""
    with pytest.raises(UnsupportedError, match=r"^gluon: ScatterND .* 'y': reduction: got max of \(None,\) updates"):
        portnet.engine("gluon").lower(parse(text))


def test_nothing_is_written_beyond_an_array():
    pytest.importorskip("portnet_gluon")
    text = """g (float[N,4] x, int64[K,1] i, float[K,4] u) => (float[N,4] y, float[6,4] z) {
        y = ScatterND(x, i, u) z = ScatterND<reduction = "add">(known, i, u) }"""
    lowered = portnet.engine("gluon").lower(parse(text, known=np.zeros((6, 4), np.float32)))
    far = np.array([[2**40], [-(2**40)], [10**6]])
    results = lowered.run({"x": array(3, 4), "i": far, "u": array(3, 4)})
    assert [value.shape for value in results.values()] == [(3, 4), (6, 4)]


def test_gradients_reach_updates_and_what_is_not_replaced():
    pytest.importorskip("portnet_gluon")
    text = """g (float[N,3,4,4] x) => (float[N,3,4,4] y) { a = Conv(x, k) b = Conv(x, l)
        zero = Constant<value = int64[1] {0}>() u = Gather(b, zero) y = ScatterND(a, i, u) }"""
    lowered = portnet.engine("gluon").lower(parse(text, k=array(3, 3, 1, 1), l=array(3, 3, 1, 1), i=np.array([[1]])))
    assert reached(lowered, array(2, 3, 4, 4)) == {"k", "l"}
