"""What exporters write around sizes that stay free: resizing like another tensor, tables, tiles and masks."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from portnet.graph.model import Model
from portnet.runtime.session import Session


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(text, **weights):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 19]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return Model.from_bytes(proto.SerializeToString())


def agree(engine, model, *feeds):
    lowered, session = engine.lower(model), Session(model)
    for feed in feeds:
        for name, expected in session.run(feed).items():
            got = lowered.run(feed)[name]
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    return lowered


LIKE = """g (float[N,3,H,W] x, float[N,2,A,B] z) => (float[N,3,A,B] y) {{
    s = Shape(x) t = Shape(z) zero = Constant<value = int64[1] {{0}}>() two = Constant<value = int64[1] {{2}}>()
    four = Constant<value = int64[1] {{4}}>() own = Slice(s, zero, two) area = Slice(t, two, four)
    size = Concat<axis = 0>(own, area) none = Constant<value = float[0] {{}}>()
    y = Resize<{how}>(x, none, none, size) }}"""


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_a_map_is_resized_to_the_size_of_another(engine, mode, coordinates):
    model = parse(LIKE.format(how=f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'))
    agree(
        engine,
        model,
        {"x": array(2, 3, 4, 5), "z": array(2, 2, 8, 15, seed=1)},
        {"x": array(1, 3, 6, 2), "z": array(1, 2, 3, 2, seed=2)},
    )


def test_a_map_of_free_size_is_resized_by_a_factor(engine):
    text = """g (float[N,3,H,W] x) => (float[N,3,A,B] y) { none = Constant<value = float[0] {}>()
        scales = Constant<value = float[4] {1, 1, 1.5, 0.5}>() y = Resize<mode = "linear">(x, none, scales) }"""
    agree(engine, parse(text), {"x": array(2, 3, 4, 6)}, {"x": array(1, 3, 2, 10)})


def test_a_map_of_fixed_size_is_resized_for_any_batch(engine):
    text = """g (float[N,3,4,4] x) => (float[N,3,6,7] y) { s = Shape(x) zero = Constant<value = int64[1] {0}>()
        two = Constant<value = int64[1] {2}>() own = Slice(s, zero, two) area = Constant<value = int64[2] {6, 7}>()
        size = Concat<axis = 0>(own, area) none = Constant<value = float[0] {}>()
        y = Resize<mode = "linear">(x, none, none, size) }"""
    agree(engine, parse(text), {"x": array(2, 3, 4, 4)}, {"x": array(1, 3, 4, 4)})


def test_positions_are_cut_from_a_table(engine):
    text = """g (float[N,T,4] x) => (float[N,T,4] y) { s = Shape(x) zero = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() two = Constant<value = int64[1] {2}>() t = Slice(s, one, two)
        cut = Slice(ids, zero, t, one) p = Gather(table, cut) y = Add(x, p) }"""
    model = parse(text, ids=np.arange(9).reshape(1, 9), table=array(9, 4))
    agree(engine, model, {"x": array(2, 5, 4)}, {"x": array(1, 9, 4)})


def test_what_was_multiplied_by_numbers_is_spread_over_free_sizes(engine):
    text = """g (float[N,2,1,T,3] x) => (float[N,2,4,T,3] y) { s = Shape(x)
        ones = Constant<value = int64[5] {1, 1, 4, 1, 1}>() size = Mul(s, ones) h = Mul(x, c) y = Expand(h, size) }"""
    agree(engine, parse(text, c=array(1, 1, 1, 1, 3)), {"x": array(2, 2, 1, 5, 3)}, {"x": array(1, 2, 1, 3, 3)})


def test_queries_are_repeated_for_each_of_a_batch(engine):
    text = """g (float[N,5,4] x) => (float[N,5,4] y) { s = Shape(x) zero = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() n = Slice(s, zero, one) reps = Concat<axis = 0>(n, one, one)
        q = Tile(queries, reps) y = Add(x, q) }"""
    agree(engine, parse(text, queries=array(1, 5, 4)), {"x": array(3, 5, 4)}, {"x": array(1, 5, 4)})


def test_blocks_are_added_up_for_any_batch(engine):
    text = """g (float[N,12,4] x) => (float[N,3,3,3] y) { image = Constant<value = int64[2] {3, 3}>()
        block = Constant<value = int64[2] {2, 2}>() y = Col2Im(x, image, block) }"""
    model = parse(text)
    lowered = engine.lower(model)
    x = array(2, 12, 4)
    whole = lowered.run({"x": x})["y"]
    assert whole.shape == (2, 3, 3, 3)
    tiles, expected = x.reshape(2, 3, 2, 2, 2, 2), np.zeros((2, 3, 3, 3), np.float32)
    for i, j in np.ndindex(2, 2):
        expected[:, :, i : i + 2, j : j + 2] += tiles[:, :, i, j]
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)


def test_a_product_of_weights_alone_scales_a_map(engine):
    text = """g (float[N,3,4,4] x) => (float[N,4,16] y) { c = Conv(x, k) shape = Constant<value = int64[3] {0, 4, 16}>()
        r = Reshape(c, shape) t = Transpose<perm = [0, 2, 1]>(r) ab = Mul(a, b) m = Mul(t, ab)
        y = Transpose<perm = [0, 2, 1]>(m) }"""
    model = parse(text, k=array(4, 3, 1, 1), a=array(1, 1, 4), b=array(1, 1, 4, seed=1))
    lowered = agree(engine, model, {"x": array(2, 3, 4, 4)})
    assert lowered.trainable_count == 12 + 4 + 4
