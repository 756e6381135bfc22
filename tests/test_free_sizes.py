"""What exporters write around sizes that stay free, on every engine: resizing like another tensor, positions and picks
of any length, tables, tiles and masks.
"""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

import portnet
from portnet.errors import UnsupportedError
from portnet.graph.model import Model
from portnet.runtime.session import Session


@pytest.fixture(params=["torch", "keras", "gluon"])
def engine(request):
    pytest.importorskip(f"portnet_{request.param}")
    return portnet.engine(request.param)


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
    if (engine.name, mode) == ("gluon", "cubic"):
        with pytest.raises(UnsupportedError, match=r"Resize .*'y': axis 2: its size is free"):
            engine.lower(model)
        return
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


SIZES = """s = Shape(x) zero = Constant<value = int64 {0}>() one = Constant<value = int64 {1}>()
    two = Constant<value = int64 {2}>() three = Constant<value = int64 {3}>() t = Gather(s, one)"""


@pytest.mark.parametrize(
    "limit",
    ["n = Identity(t)", "n = Add(t, three)", "n = Sub(t, two)", "n = Mul(t, three)", "n = Div(t, two)"],
)
def test_what_follows_from_a_free_size_is_counted(engine, limit):
    text = f"g (float[N,T,4] x) => (int64[M] y) {{ {SIZES} {limit} y = Range(one, n, one) }}"
    agree(engine, parse(text), {"x": array(2, 5, 4)}, {"x": array(1, 8, 4)})


def test_the_end_of_a_table_is_cut_off_by_a_size(engine):
    text = f"""g (float[N,T,4] x) => (float[M,4] y) {{ {SIZES} h = Sub(t, two) axis = Constant<value = int64[1] {{0}}>()
        a = Unsqueeze(h, axis) b = Unsqueeze(t, axis) y = Slice(table, a, b, axis) }}"""
    agree(engine, parse(text, table=array(9, 4)), {"x": array(2, 5, 4)}, {"x": array(1, 9, 4)})


def test_entries_are_picked_among_any_number(engine):
    text = """g (float[N,T] x, int64[N,K] i) => (float[N,K] y) { y = GatherElements<axis = 1>(x, i) }"""
    picks = np.array([[0, 2, -1], [1, 1, 3]])
    agree(engine, parse(text), {"x": array(2, 5), "i": picks}, {"x": array(1, 4), "i": picks[:1, :2]})


def reached(lowered, *feeds):
    """Return the parameters of a Gluon network every number of which has a gradient of the sum of its output."""
    import mxnet as mx

    with mx.autograd.record():
        total = lowered.native(*map(mx.nd.array, feeds)).sum()
    total.backward()
    learned = [p for p in lowered.native.collect_params().values() if p.grad_req != "null"]
    return {p.name for p in learned if np.abs(p.grad().asnumpy()).min() > 0}


def test_gradients_reach_what_is_resized():
    pytest.importorskip("portnet_gluon")
    model = parse(
        LIKE.format(how='mode = "linear"')
        .replace("(x, none", "(c, none")
        .replace("s = Shape(x)", "c = Conv(x, k) s = Shape(c)"),
        k=array(3, 3, 1, 1),
    )
    lowered = portnet.engine("gluon").lower(model)
    assert reached(lowered, array(2, 3, 4, 5), array(2, 2, 8, 9, seed=1)) == {"k"}


def test_queries_are_repeated_for_each_of_a_batch(engine):
    text = """g (float[N,5,4] x) => (float[N,5,4] y) { s = Shape(x) zero = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() n = Slice(s, zero, one) reps = Concat<axis = 0>(n, one, one)
        q = Tile(queries, reps) y = Add(x, q) }"""
    agree(engine, parse(text, queries=array(1, 5, 4)), {"x": array(3, 5, 4)}, {"x": array(1, 5, 4)})


def test_one_of_many_axes_is_cut(engine):
    text = """g (float[N,2,3,2,2,2,3] x) => (float[N,2,3,1,2,2,2] y) { a = Constant<value = int64[2] {1, -1}>()
        b = Constant<value = int64[2] {2, -4}>() axes = Constant<value = int64[2] {3, 6}>()
        steps = Constant<value = int64[2] {1, -2}>() y = Slice(x, a, b, axes, steps) }"""
    agree(engine, parse(text), {"x": array(2, 2, 3, 2, 2, 2, 3)})


def test_a_map_is_a_matrix_for_a_while_and_then_what_it_was(engine):
    text = """g (float[N,2,H,W] x) => (float[N,2,H,W] y) { s = Shape(x) f = Flatten<axis = 3>(x)
        p = Softmax<axis = -1>(f) y = Reshape(p, s) }"""
    agree(engine, parse(text), {"x": array(2, 2, 3, 5)}, {"x": array(1, 2, 4, 2)})


def test_a_map_is_split_into_rows_of_a_computed_count(engine):
    text = f"""g (float[N,T,M,6] x) => (float[N,A,B,2] y) {{ {SIZES} n = Gather(s, zero) h = Mul(t, t)
        axis = Constant<value = int64[1] {{0}}>() a = Unsqueeze(n, axis) b = Unsqueeze(h, axis)
        c = Constant<value = int64[1] {{2}}>() d = Constant<value = int64[1] {{3}}>() m = Gather(s, c)
        size = Concat<axis = 0>(a, b, d, c) y = Reshape(x, size) }}"""
    agree(engine, parse(text), {"x": array(2, 3, 3, 6)}, {"x": array(1, 4, 4, 6)})


def test_what_was_multiplied_by_numbers_is_spread_over_free_sizes(engine):
    text = """g (float[N,2,1,T,3] x) => (float[N,2,4,T,3] y) { s = Shape(x)
        ones = Constant<value = int64[5] {1, 1, 4, 1, 1}>() size = Mul(s, ones) h = Mul(x, c) y = Expand(h, size) }"""
    agree(engine, parse(text, c=array(1, 1, 1, 1, 3)), {"x": array(2, 2, 1, 5, 3)}, {"x": array(1, 2, 1, 3, 3)})


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


HEADS = """nine = Constant<value = int64[1] {9}>() zero = Constant<value = int64[1] {0}>()
    one = Constant<value = int64[1] {1}>() rest = Constant<value = int64[1] {-1}>()
    four = Constant<value = int64[1] {4}>()
    s = Shape(x) n = Slice(s, zero, one) two = Add(one, one) t = Slice(s, one, two)"""


def test_heads_come_apart_after_positions_were_added(engine):
    """torch's exporter: positions cut to the length and spread over the batch, the count of heads left to Reshape."""
    text = f"""g (int64[N,T] x) => (float[N,H,T,4] y) {{ {HEADS} cut = Slice(ids, zero, t, one)
        size = Concat<axis = 0>(n, t) where = Expand(cut, size) p = Gather(table, where) e = Gather(words, x)
        sum = Add(e, p) dims = Concat<axis = 0>(n, t, rest, four) heads = Reshape<allowzero = 1>(sum, dims)
        h = Transpose<perm = [0, 2, 1, 3]>(heads) own = Shape(h) folded = Concat<axis = 0>(rest, t, four)
        f = Reshape(h, folded) z = Softmax<axis = 1>(f) y = Reshape(z, own) }}"""
    model = parse(text, ids=np.arange(9)[None], table=array(9, 8), words=array(20, 8, seed=1))
    x = np.arange(10).reshape(2, 5)
    agree(engine, model, {"x": x}, {"x": x[:1, :3]}, {"x": np.arange(9)[None]})


def test_a_width_behind_windows_is_the_one_that_an_exporter_computed(engine):
    """⌊(⌊(w − 10) / 5 + 1⌋ − 3) / 2 + 1⌋, less what is cut off, beside ⌊(w − 10) / 10⌋."""
    text = f"""g (float[N,1,W] v) => (float[N,H,M,2] y) {{ a = Conv<strides = [5]>(v, k) b = Conv<strides = [2]>(a, l)
        c = Conv<pads = [2, 2]>(b, m) {HEADS.replace("Shape(x)", "Shape(v)")} end = Slice(c, zero, rest, two)
        x = Transpose<perm = [0, 2, 1]>(end) w = Slice(s, two, nine) five = Constant<value = int64[1] {{5}}>()
        ten = Add(five, five) less = Sub(w, ten) length = Div(less, ten) pair = Constant<value = int64[1] {{2}}>()
        dims = Concat<axis = 0>(n, length, rest, pair) h = Reshape<allowzero = 1>(x, dims)
        y = Transpose<perm = [0, 2, 1, 3]>(h) }}"""
    model = parse(text, k=array(3, 1, 10), l=array(3, 3, 3), m=array(6, 3, 4))
    agree(engine, model, {"v": array(2, 1, 64)}, {"v": array(1, 1, 79)}, {"v": array(1, 1, 25)})


def test_masks_are_picked_and_spread_over_the_batch(engine):
    """What torch's exporter writes for a padding mask: GatherND at every place, and truths for each of the batch."""
    text = f"""g (int64[N,T] x) => (bool[N,1,A,T] y) {{ {HEADS} mask = Cast<to = 9>(x)
        none = Constant<value = int64 {{0}}>()
        step = Constant<value = int64 {{1}}>() nn = Squeeze(n) tt = Squeeze(t)
        rows = Range(none, nn, step) columns = Range(none, tt, step) axes = Constant<value = int64[2] {{1, 2}}>()
        i = Unsqueeze(rows, axes) size = Concat<axis = 0>(n, one, t) ii = Expand(i, size) jj = Expand(columns, size)
        pair = Constant<value = int64[1] {{-1}}>() a = Unsqueeze(ii, pair) b = Unsqueeze(jj, pair)
        places = Concat<axis = -1>(a, b) m = GatherND(mask, places) mm = Unsqueeze(m, one)
        all = Concat<axis = 0>(n, one, one, t) causal = Expand(known, all) y = And(causal, mm) }}"""
    model = parse(text, known=np.array([[[[True], [False], [True]]]]))
    x = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    agree(engine, model, {"x": x}, {"x": x[:1, 1:4]})


def test_pairs_are_picked_within_each_of_a_batch(engine):
    text = "g (float[N,T,3] x, int64[N,K,1] i) => (float[N,K,3] y) { y = GatherND<batch_dims = 1>(x, i) }"
    picks = np.array([[[0], [2]], [[1], [-1]]])
    agree(engine, parse(text), {"x": array(2, 5, 3), "i": picks}, {"x": array(1, 4, 3), "i": picks[:1, :1]})


def test_rows_are_repeated_a_free_number_of_times(engine):
    text = f"""g (float[N,T] x) => (float[M,2,K] y) {{ {HEADS} reps = Concat<axis = 0>(n, one, two)
        y = Tile(rows, reps) }}"""
    agree(engine, parse(text, rows=array(3, 2, 2)), {"x": array(2, 5)}, {"x": array(1, 3)})


def test_what_is_left_for_a_size_of_another_input_stays_free():
    """A batch and the batch of a mask, which the file does not call equal."""
    text = f"""g (float[N,T] x, float[B,A] z) => (float[N,R] y) {{ {HEADS} dims = Concat<axis = 0>(n, rest)
        y = Reshape(z, dims) }}"""
    agree(
        portnet.engine("keras"), parse(text), {"x": array(2, 5), "z": array(2, 3)}, {"x": array(1, 2), "z": array(2, 3)}
    )


def test_a_map_is_pooled_to_its_own_size(engine):
    """What paddle2onnx writes: windows of an even size, padded on one side."""
    text = """g (float[N,2,H,W] x) => (float[N,2,H,W] y) {
        y = MaxPool<kernel_shape = [2,2], auto_pad = "SAME_UPPER">(x) }"""
    agree(engine, parse(text), {"x": array(2, 2, 4, 5)}, {"x": -(array(1, 2, 3, 7) ** 2)})


def test_a_branch_is_chosen_by_a_size_that_is_a_number(engine):
    """torch's exporter asks a state of known layers and free batch how many layers it has."""
    text = """g (float[2,N,4] h) => (float[2,N,3] y) { s = Shape(h) zero = Constant<value = int64[1] {0}>()
        layers = Gather(s, zero) given = Cast<to = 9>(layers)
        y = If (given) <then_branch = a () => (u) { u = MatMul(h, w) },
            else_branch = b () => (v) { v = MatMul(h, r) }> }"""
    model = parse(text, w=array(4, 3), r=array(4, 3, seed=1))
    assert agree(engine, model, {"h": array(2, 3, 4)}, {"h": array(2, 1, 4)}).trainable_count == 12


@pytest.mark.parametrize(("start", "stop"), [(-1, -(2**63)), (-2, -(2**31)), (-2, -4), (3, 0), (2, -(2**63))])
def test_an_axis_of_any_length_is_turned(engine, start, stop):
    text = f"""g (float[N,T] x) => (float[N,K] y) {{ a = Constant<value = int64[1] {{{start}}}>()
        b = Constant<value = int64[1] {{{stop}}}>() one = Constant<value = int64[1] {{1}}>()
        back = Constant<value = int64[1] {{-1}}>() y = Slice(x, a, b, one, back) }}"""
    agree(engine, parse(text), {"x": array(2, 5)}, {"x": array(1, 8)})


@pytest.mark.parametrize(
    "arithmetic",
    [
        "h = Mul(f, half) y = Add(x, h)",
        "h = Div(f, f3) y = Mul(x, h)",
        "h = Div(half, f) y = Mul(x, h)",
        "less = Sub(f, half) y = Div(x, less)",
        "h = Mul(f, half) y = Max(x, h)",
        "h = Mul(f, half) y = Clip(x, half, h)",
        "y = Pow(x, f)",
        "y = Mul(x, f)",
    ],
)
def test_a_part_of_a_free_size_is_a_number_of_its_own(engine, arithmetic):
    text = f"""g (float[N,T,4] x) => (float[N,T,4] y) {{ {SIZES} half = Constant<value = float {{0.5}}>()
        f3 = Constant<value = float {{3.0}}>() f = Cast<to = 1>(t) {arithmetic} }}"""
    agree(engine, parse(text), {"x": abs(array(2, 5, 4))}, {"x": abs(array(1, 8, 4))})


@pytest.mark.parametrize(
    "body",
    [
        "y = Slice(x, one, two, one)",
        "y = Slice(x, one, end, one)",
        "y, z = Split<axis = 1>(x, parts)",
        'y = Pad<mode = "edge">(x, pads)',
        "y = Pad(x, pads, true)",
        "n = Slice(size, zero, one) l = Expand(two, n) y = ReverseSequence<time_axis = 1, batch_axis = 0>(x, l)",
    ],
)
def test_truths_are_moved(engine, body):
    text = f"""g (bool[N,3] x) => (bool[N,M] y) {{ one = Constant<value = int64[1] {{1}}>()
        zero = Constant<value = int64[1] {{0}}>() two = Constant<value = int64[1] {{2}}>() size = Shape(x)
        end = Slice(size, one, two) parts = Constant<value = int64[2] {{2, 1}}>()
        pads = Constant<value = int64[4] {{0, 1, 0, 2}}>() true = Constant<value = bool {{1}}>() {body} }}"""
    agree(engine, parse(text), {"x": array(2, 3) > 0}, {"x": array(4, 3) > 0})


def test_a_map_is_padded_by_a_quantized_number(engine):
    text = """g (float[N,1,3,3] x) => (float[N,1,4,3] y) { scale = Constant<value = float {0.5}>()
        zero = Constant<value = uint8 {7}>() number = Constant<value = float {1.5}>()
        pads = Constant<value = int64[8] {0, 0, 1, 0, 0, 0, 0, 0}>() q = QuantizeLinear(number, scale, zero)
        fill = DequantizeLinear(q, scale, zero) y = Pad(x, pads, fill) }"""
    agree(engine, parse(text), {"x": array(2, 1, 3, 3)}, {"x": array(1, 1, 3, 3)})


def test_steps_over_an_axis_share_their_weights(engine):
    text = """g (float[N,5,3] x) => (float[N,3] y, float[N,5,3] z) { zero = Constant<value = int64[1] {0}>()
        one = Constant<value = int64[1] {1}>() s = Shape(x) n = Slice(s, zero, one)
        w = Constant<value = int64[1] {3}>() size = Concat<axis = 0>(n, w) h = ConstantOfShape(size)
        y, z = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], scan_input_directions = [1],
            body = b (float[N,3] a, float[N,3] e) => (float[N,3] o, float[N,3] p) {
                m = MatMul(a, k) t = Add(m, e) r = Mul(t, c) o = Tanh(r) p = Mul(o, e) }>(h, x) }"""
    model = parse(text, k=array(3, 3), c=array(3, seed=1))
    lowered = agree(engine, model, {"x": array(2, 5, 3)}, {"x": array(4, 5, 3)})
    assert lowered.trainable_count == 9 + 3
