"""Windows padded by ``auto_pad`` whose padding depends on a size that stays free, against onnxruntime."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_free_sizes import agree, array, engine, parse, reached

import portnet
from portnet.graph.model import Model

__all__ = ["engine"]

WINDOWS = [(3, 2), (2, 2), (5, 3), (2, 3), (1, 2)]


def windows(rank, mode):
    """Convolutions and pools of several kernels and strides on one map of free size."""
    weights, nodes = {}, []
    for i, (size, stride) in enumerate(WINDOWS):
        window = {"strides": [stride] * rank, "auto_pad": mode}
        kernel = {"kernel_shape": [size] * rank}
        weights[f"w{i}"] = array(2, 3, *[size] * rank, seed=i)
        nodes += [helper.make_node("Conv", ["x", f"w{i}"], [f"conv{i}"], **window)]
        if size >= stride:  # onnxruntime has no other pools
            nodes += [
                helper.make_node("MaxPool", ["x"], [f"max{i}"], **window, **kernel),
                helper.make_node("AveragePool", ["x"], [f"mean{i}"], **window, **kernel),
                helper.make_node("AveragePool", ["x"], [f"padded{i}"], count_include_pad=1, **window, **kernel),
                helper.make_node("LpPool", ["x"], [f"norm{i}"], **window, **kernel),
            ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *"DHW"[-rank:]])
    outputs = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    arrays = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], outputs, arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    return Model.from_bytes(proto.SerializeToString())


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("sizes", [[(9,), (4,), (1,)], [(8, 7), (5, 6), (1, 2)], [(3, 4, 5), (2, 6, 1)]])
def test_windows_reach_as_far_as_the_map_does(engine, sizes, mode):
    feeds = [{"x": array(2, 3, *size, seed=7) - np.float32(1)} for size in sizes]
    agree(engine, windows(len(sizes[0]), mode), *feeds)


def test_maps_shrink_and_grow_back(engine):
    """As tf2onnx writes a small segmentation network: each map that grows is cut, or padded, to one of those before."""
    grown = """t{i} = ConvTranspose<strides = [2, 2]>({x}, w{i}) s{i} = Shape({like}) area{i} = Slice(s{i}, two, four)
        o{i} = Shape(t{i}) own{i} = Slice(o{i}, two, four) apart{i} = Sub(own{i}, area{i}) more{i} = Max(apart{i}, none)
        start{i} = Div(more{i}, two) stop{i} = Add(start{i}, area{i}) cut{i} = Slice(t{i}, start{i}, stop{i}, axes)
        less{i} = Neg(apart{i}) missing{i} = Max(less{i}, none) pads{i} = Concat<axis = 0>(before, missing{i})
        p{i} = Pad(cut{i}, pads{i})"""
    text = f"""g (float[N,3,H,W] x) => (float[N,4,A,B] y) {{ two = Constant<value = int64[1] {{2}}>()
        four = Constant<value = int64[1] {{4}}>() none = Constant<value = int64[1] {{0}}>()
        axes = Constant<value = int64[2] {{2, 3}}>() before = Constant<value = int64[6] {{0, 0, 0, 0, 0, 0}}>()
        a = Conv<auto_pad = "SAME_UPPER">(x, k0) b = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(a, k1)
        c = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2], strides = [2, 2]>(b)
        {grown.format(i=0, x="c", like="b")} sum = Add(p0, b)
        {grown.format(i=1, x="sum", like="a")} y = Mul(p1, a) }}"""
    weights = {"k0": array(4, 3, 3, 3), "k1": array(4, 4, 3, 3), "w0": array(4, 4, 3, 3), "w1": array(4, 4, 2, 2)}
    model = parse(text, **{name: value / 6 for name, value in weights.items()})
    agree(engine, model, {"x": array(2, 3, 8, 11)}, {"x": array(1, 3, 7, 5)}, {"x": array(1, 3, 1, 2)})


def test_gradients_reach_what_stands_before_the_padding():
    pytest.importorskip("portnet_gluon")
    text = """g (float[N,3,H,W] x) => (float[N,4,A,B] y) { a = Conv(x, k)
        y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(a, l) }"""
    lowered = portnet.engine("gluon").lower(parse(text, k=array(3, 3, 1, 1), l=array(4, 3, 3, 3)))
    assert reached(lowered, array(2, 3, 5, 6)) == {"k", "l"}
