"""Widths of padding, and cuts, that an exporter computes from sizes that stay free."""

import pytest
from test_free_sizes import agree, array, engine, parse

from portnet.conversion import convert_to_file
from portnet.errors import UnsupportedError

__all__ = ["engine"]

# pads at the end so that height and width are multiples of four
TO_FOURS = """g (float[N,{c},H,W] x) => (float[N,{c},A,B] y) {{
    s = Shape(x) two = Constant<value = int64[1] {{2}}>() far = Constant<value = int64[1] {{4}}>()
    area = Slice(s, two, far) four = Constant<value = int64 {{4}}>() left = Mod(area, four)
    open = Sub(four, left) ends = Mod(open, four) before = Constant<value = int64[6] {{0, 0, {start}, 0, 0, 0}}>()
    pads = Concat<axis = 0>(before, ends) {fill} y = Pad<mode = "{mode}">(x, pads{given}) }}"""
FILL = "fill = Constant<value = float {2.5}>()"


@pytest.mark.parametrize("start", [0, 1, -1])
@pytest.mark.parametrize(("mode", "fill"), [("constant", ""), ("constant", FILL), ("reflect", ""), ("edge", "")])
def test_pads_may_follow_from_a_free_size(engine, mode, fill, start):
    model = parse(TO_FOURS.format(c=3, mode=mode, fill=fill, given=", fill" * bool(fill), start=start))
    agree(engine, model, {"x": array(2, 3, 5, 7)}, {"x": array(1, 3, 8, 6)}, {"x": array(3, 3, 4, 4)})


# as much before as after
AROUND = """g ({kind}[N,H,W] x) => ({kind}[N,A,B] y) {{
    s = Shape(x) one = Constant<value = int64[1] {{1}}>() far = Constant<value = int64[1] {{3}}>()
    area = Slice(s, one, far) eight = Constant<value = int64 {{8}}>() two = Constant<value = int64 {{2}}>()
    less = Neg(area) total = {total} start = Div(total, two) end = Sub(total, start)
    pads = Concat<axis = 0>(start, end) axes = Constant<value = int64[2] {{1, 2}}>()
    y = Pad<mode = "{mode}">(x, pads, {fill}, axes) }}"""


@pytest.mark.parametrize("total", ["Mod(less, eight)", "Mod(area, two)"])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_a_map_is_padded_on_both_sides(engine, mode, total):
    model = parse(AROUND.format(kind="float", mode=mode, total=total, fill=""))
    agree(engine, model, {"x": array(2, 13, 15)}, {"x": array(1, 16, 9)}, {"x": array(1, 20, 22)})


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "bool", "double"])
def test_whatever_is_padded_keeps_its_type(engine, kind):
    model = parse(AROUND.format(kind=kind, mode="constant", total="Mod(less, eight)", fill=""))
    x = (array(2, 13, 15) * 100).astype({"double": "float64"}.get(kind, kind))
    agree(engine, model, {"x": x}, {"x": x[:1, :7]})


def test_what_is_beyond_a_multiple_is_cut_off(engine):
    model = parse(
        AROUND.format(kind="float", mode="constant", total="Sub(rest, area)", fill="").replace(
            "less =", "whole = Div(area, eight) rest = Mul(whole, eight) less ="
        )
    )
    agree(engine, model, {"x": array(2, 13, 15)}, {"x": array(1, 16, 9)})


AT_LEAST = """g (float[N,4,H,W] x) => (float[N,4,A,B] y) {
    s = Shape(x) two = Constant<value = int64[1] {2}>() four = Constant<value = int64[1] {4}>()
    area = Slice(s, two, four) least = Constant<value = int64 {6}>() none = Constant<value = int64 {0}>()
    missing = Sub(least, area) ends = Max(missing, none) before = Constant<value = int64[6] {0, 0, 0, 0, 0, 0}>()
    pads = Concat<axis = 0>(before, ends) p = Pad(x, pads) y = MaxPool<kernel_shape = [3, 3]>(p) }"""


def test_a_map_is_padded_to_a_least_size(engine):
    model = parse(AT_LEAST)
    if engine.name == "gluon":
        with pytest.raises(UnsupportedError, match=r"^gluon: Pad .* 'p': a length of the computed size .*Max\(.*\)$"):
            engine.lower(model)
        return
    agree(engine, model, {"x": array(2, 4, 3, 8)}, {"x": array(1, 4, 9, 6)}, {"x": array(1, 4, 1, 1)})


def test_the_smaller_one_of_two_sizes_is_told(engine):
    text = """g (float[N,T] x) => (int64[2] y) { s = Shape(x) five = Constant<value = int64 {5}>() m = Min(s, five)
        two = Constant<value = int64 {2}>() h = Mul(m, two) y = Max(h, five) }"""
    agree(engine, parse(text), {"x": array(2, 7)}, {"x": array(6, 3)})


# as tf2onnx writes a transposed convolution to twice the size, and numbers sizes
TO_TWICE = """g (float[unk__7,3,unk__8,unk__9] x) => (float[unk__1,2,unk__2,unk__3] y) {
    whole = ConvTranspose<strides = [2, 2]>(x, w) s = Shape(x) two = Constant<value = int64[1] {2}>()
    four = Constant<value = int64[1] {4}>() area = Slice(s, two, four) twice = Mul(area, two) t = Shape(whole)
    own = Slice(t, two, four) none = Constant<value = int64[1] {0}>() apart = Sub(own, twice) more = Max(apart, none)
    start = Div(more, two) stop = Add(start, twice) axes = Constant<value = int64[2] {2, 3}>()
    cut = Slice(whole, start, stop, axes) less = Neg(apart) missing = Max(less, none)
    before = Constant<value = int64[6] {0, 0, 0, 0, 0, 0}>() pads = Concat<axis = 0>(before, missing)
    y = Pad(cut, pads) }"""


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_a_map_is_cut_or_padded_to_twice_its_size(engine, kernel):
    model = parse(TO_TWICE, w=array(3, 2, kernel, kernel, seed=1))
    agree(engine, model, {"x": array(2, 3, 4, 7)}, {"x": array(1, 3, 6, 3)})


def test_a_keras_file_pads_by_what_comes_in(tmp_path):
    keras = pytest.importorskip("portnet_keras.framework").keras
    model = parse(TO_FOURS.format(c=3, mode="constant", fill="", given="", start=0))
    model.save(tmp_path / "net.onnx")
    convert_to_file(tmp_path / "net.onnx", to="keras", output=tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    assert loaded(array(1, 3, 5, 6)).shape == (1, 3, 8, 8)
