"""Draws single ops that index, move and make elements, bitwise ones, and subgraphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from op_cases import FLOATS, WHOLE, Op, Rng, array, pick, sizes


def indexed(rng: Rng) -> Op:
    """GatherND, ScatterND, OneHot, Compress, Unique, TopK, NonZero, ReverseSequence."""
    name = pick(
        rng,
        "GatherND",
        "GatherND",
        "ScatterND",
        "ScatterND",
        "OneHot",
        "Compress",
        "Unique",
        "TopK",
        "NonZero",
        "ReverseSequence",
        "Scatter",
    )
    dtype = pick(rng, *FLOATS, *WHOLE, "bool")
    x = array(rng, sizes(rng, 4, 2, 5), dtype)
    if name == "GatherND":
        batch = int(rng.integers(0, 3))
        depth = int(rng.integers(1, 5 - batch))
        lengths = [*x.shape[:batch], *sizes(rng, int(rng.integers(0, 3)))]
        places = [rng.integers(-n, n, lengths) for n in x.shape[batch : batch + depth]]
        return Op(
            name, [x, np.stack(places, -1)], {"batch_dims": batch} if batch else {}, opset=13, constants=pick(rng, 1, 2)
        )
    if name == "ScatterND":
        depth = int(rng.integers(1, 5))
        how = pick(rng, "none", "add", "mul", "max", "min")
        count = int(rng.integers(1, 4))
        flat = rng.choice(int(np.prod(x.shape[:depth])), count, replace=how != "none")
        places = np.stack(np.unravel_index(flat, x.shape[:depth]), -1).astype(np.int64)
        places = places - np.array(x.shape[:depth]) * (rng.random(places.shape) < 0.3)
        updates = array(rng, [count, *x.shape[depth:]], dtype)
        return Op(name, [x, places, updates], {"reduction": how}, opset=pick(rng, 16, 18), constants=pick(rng, 1, 3))
    if name == "OneHot":
        places = array(rng, sizes(rng, int(rng.integers(0, 3))), pick(rng, "int64", "int32", "float32"))
        values = array(rng, [2], pick(rng, "float32", "int64", "int32"))
        places = np.asarray(np.round(places))
        axis = int(rng.integers(-1 - places.ndim, places.ndim + 1))
        return Op(name, [places, np.array(pick(rng, 4, 12), np.int64), values], {"axis": axis}, opset=pick(rng, 9, 11))
    if name == "Compress":
        axis = {"axis": int(rng.integers(-4, 4))} if rng.random() < 0.7 else {}
        size = x.shape[axis["axis"]] if axis else x.size
        return Op(
            name, [x, rng.random(int(rng.integers(1, size + 1))) < 0.5], axis, opset=11, constants=pick(rng, 1, 2)
        )
    if name == "Unique":
        axis = {"axis": int(rng.integers(-4, 4))} if rng.random() < 0.5 else {}
        return Op(name, [np.round(x) if x.dtype.kind == "f" else x], {"sorted": int(rng.integers(2)), **axis}, 4, 11)
    if name == "TopK":
        axis = int(rng.integers(-4, 4))
        x = np.round(x) if x.dtype.kind == "f" else x
        flags = {"axis": axis, "largest": int(rng.integers(2)), "sorted": 1}
        return Op(
            name, [x, np.array([int(rng.integers(1, x.shape[axis] + 1))], np.int64)], flags, 2, opset=pick(rng, 11, 24)
        )
    if name == "ReverseSequence":
        batch = int(rng.integers(2))
        lengths = rng.integers(1, x.shape[1 - batch] + 1, x.shape[batch])
        return Op(
            name, [x, lengths], {"batch_axis": batch, "time_axis": 1 - batch}, opset=10, constants=pick(rng, 1, 2)
        )
    if name == "Scatter":
        axis = int(rng.integers(-4, 4))
        places = np.argsort(rng.random(x.shape), axis)
        return Op(name, [x, places, array(rng, places.shape, dtype)], {"axis": axis}, opset=9, constants=3)
    return Op(name, [x], opset=13)


def moved(rng: Rng) -> Op:
    """Ops that rearrange: depth and space, Tile, Expand, CenterCropPad, Col2Im, Concat, Split, Transpose."""
    name = pick(
        rng,
        "DepthToSpace",
        "SpaceToDepth",
        "Tile",
        "Expand",
        "CenterCropPad",
        "Col2Im",
        "Split",
        "Trilu",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Where",
        "Concat",
    )
    dtype = pick(rng, *FLOATS, *WHOLE, "bool")
    x = array(rng, sizes(rng, 4, 1, 5), dtype)
    if name == "DepthToSpace":
        block = pick(rng, 1, 2, 3)
        return Op(
            name,
            [array(rng, [2, 2 * block**2, 2, 3], dtype)],
            {"blocksize": block, "mode": pick(rng, "DCR", "CRD")},
            opset=13,
        )
    if name == "SpaceToDepth":
        block = pick(rng, 1, 2, 3)
        return Op(name, [array(rng, [2, 2, 2 * block, 3 * block], dtype)], {"blocksize": block}, opset=13)
    if name == "Tile":
        return Op(name, [x, rng.integers(0 if rng.random() < 0.1 else 1, 4, 4)], opset=13)
    if name == "Expand":
        shape = [n if n > 1 else pick(rng, 1, 3) for n in x.shape][int(rng.integers(4)) :]
        return Op(name, [x, np.array(pick(rng, shape, [2, *x.shape]), np.int64)], opset=13)
    if name == "CenterCropPad":
        axes = rng.permutation(4)[: int(rng.integers(1, 5))]
        if len(axes) == 4 and rng.random() < 0.5:
            return Op(name, [x, np.array(sizes(rng, 4, 1, 8), np.int64)])
        return Op(
            name,
            [x, np.array(sizes(rng, len(axes), 1, 8), np.int64)],
            {"axes": (axes - 4 * int(rng.integers(2))).tolist()},
        )
    if name == "Col2Im":
        rank = int(rng.integers(1, 3))
        image, block = sizes(rng, rank, 5, 8), sizes(rng, rank, 1, 4)
        strides, dilations, pads = sizes(rng, rank, 1, 3), sizes(rng, rank, 1, 3), sizes(rng, 2 * rank, 0, 2)
        counts = [
            (image[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            for i in range(rank)
        ]
        given = array(rng, [2, 3 * int(np.prod(block)), int(np.prod(counts))])
        flags = {"strides": strides, "dilations": dilations, "pads": pads}
        return Op(name, [given, np.array(image, np.int64), np.array(block, np.int64)], flags)
    if name == "Split":
        axis = int(rng.integers(-4, 4))
        size = x.shape[axis]
        if rng.random() < 0.5:
            return Op(name, [x], {"axis": axis, "num_outputs": min(2, size)}, min(2, size))
        first = int(rng.integers(0, size + 1))
        return Op(name, [x, np.array([first, size - first], np.int64)], {"axis": axis}, 2, 13)
    if name == "Trilu":
        given = [x, np.array(int(rng.integers(-5, 6)), np.int64)] if rng.random() < 0.8 else [x]
        return Op(name, given, {"upper": int(rng.integers(2))}, opset=14)
    if name == "Transpose":
        return Op(name, [x], pick(rng, {}, {"perm": rng.permutation(4).tolist()}), opset=13)
    if name == "Reshape":
        shape = pick(
            rng, [0, -1], [-1], [0, 0, -1], [x.shape[0] * x.shape[1], -1], [1, -1, 0], [-1, 1, 1, x.shape[3], 1]
        )
        return Op(name, [x, np.array(shape, np.int64)], opset=14)
    if name in ("Squeeze", "Unsqueeze"):
        axes = pick(rng, [0], [-1], [1, 3], [-2, 0])
        x = x[:1, :1, :1, :1] if name == "Squeeze" else x
        return Op(name, [x, np.array(axes, np.int64)], opset=13)
    if name == "Flatten":
        return Op(name, [x], {"axis": int(rng.integers(-4, 5))}, opset=13)
    other = array(rng, x.shape, dtype)
    if name == "Concat":
        return Op(name, [x, other, other], {"axis": int(rng.integers(-4, 4))}, opset=13, constants=2)
    return Op(
        "Where",
        [rng.random([pick(rng, 1, n) for n in x.shape[2:]]) < 0.5, x, other],
        opset=16,
        constants=pick(rng, 2, 3),
    )


def made(rng: Rng) -> Op:
    """Ops that make elements or look at bits."""
    name = pick(
        rng,
        "EyeLike",
        "Range",
        "ConstantOfShape",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "BitwiseNot",
        "And",
        "Or",
        "Xor",
        "Not",
        "CumSum",
        "IsInf",
        "IsNaN",
        "Sign",
        "Shape",
        "Size",
        "Clip",
        "Mean",
        "Sum",
        "PRelu",
        "Greater",
        "GreaterOrEqual",
        "LessOrEqual",
        "Round",
    )
    shape, kind = sizes(rng, 3), pick(rng, *WHOLE)
    if name == "EyeLike":
        flags = {"k": int(rng.integers(-4, 5))}
        flags |= {"dtype": pick(rng, 1, 7, 11, 6)} if rng.random() < 0.6 else {}
        return Op(name, [array(rng, shape[:2], pick(rng, "float32", "int64", "int32"))], flags, opset=9)
    if name == "Range":
        dtype = pick(rng, "float32", "int64", "int32", "float64", "int16")
        whole = dtype.startswith("int")
        numbers = (
            pick(rng, (0, 7, 2), (7, 0, -3), (5, 5, 1), (-3, 4, 1))
            if whole
            else pick(rng, (0, 1, 0.3), (5, 1, -0.7), (1, 0, 1))
        )
        return Op(name, [np.array(n, dtype) for n in numbers], opset=11, constants=pick(rng, 0, 3))
    if name == "ConstantOfShape":
        value = array(rng, [1], pick(rng, "float32", "int64", "bool", "uint8", "float16"))
        return Op(name, [np.array(shape, np.int64)], {"value": numpy_helper.from_array(value)}, opset=9)
    if name.startswith("Bit"):
        kind = pick(rng, "uint8", "uint32", "uint64", "uint16") if name == "BitShift" else kind
        a, b = array(rng, shape, kind), array(rng, [pick(rng, 1, n) for n in shape[int(rng.integers(3)) :]], kind)
        if name == "BitwiseNot":
            return Op(name, [a])
        return Op(
            name,
            [a, b],
            {"direction": pick(rng, "LEFT", "RIGHT")} if name == "BitShift" else {},
            constants=pick(rng, 1, 2),
        )
    if name in ("And", "Or", "Xor"):
        return Op(name, [array(rng, shape, "bool"), array(rng, shape[1:], "bool")], opset=7, constants=2)
    if name == "Not":
        return Op(name, [array(rng, shape, "bool")], opset=7)
    x = array(rng, shape, pick(rng, *FLOATS))
    if name == "CumSum":
        flags = {"exclusive": int(rng.integers(2)), "reverse": int(rng.integers(2))}
        x = array(rng, shape, pick(rng, "float32", "float64", "int32", "int64"))
        return Op(name, [x, np.array(int(rng.integers(-3, 3)), pick(rng, np.int64, np.int32))], flags, opset=14)
    if name in ("IsInf", "IsNaN", "Sign"):
        x = (
            np.where(rng.random(shape) < 0.5, x, pick(rng, np.nan, np.inf, -np.inf)).astype(x.dtype)
            if name[0] == "I"
            else x
        )
        flags = (
            {"detect_negative": int(rng.integers(2)), "detect_positive": int(rng.integers(2))}
            if name == "IsInf"
            else {}
        )
        return Op(name, [x], flags, opset=20 if name != "Sign" else 13)
    if name in ("Shape", "Size"):
        flags = (
            {"start": int(rng.integers(-4, 4)), "end": int(rng.integers(-4, 5))}
            if name == "Shape" and rng.random() < 0.7
            else {}
        )
        return Op(name, [x], flags, opset=15)
    if name == "Clip":
        x = array(rng, shape, pick(rng, *FLOATS, "int32", "int64", "int8", "uint8"))
        low, high = np.array(pick(rng, 1, 2), x.dtype), np.array(pick(rng, 3, 1), x.dtype)
        return Op(name, [x, pick(rng, None, low), pick(rng, None, high)], opset=13)
    if name in ("Mean", "Sum"):
        return Op(
            name,
            [x, *(array(rng, shape[i:], x.dtype.name) for i in range(int(rng.integers(3))))],
            opset=13,
            constants=3,
        )
    if name == "PRelu":
        return Op(name, [x, array(rng, pick(rng, [], [1], shape, shape[-1:], [1, *shape[1:]]), x.dtype.name)], opset=16)
    if name == "Round":
        return Op(name, [np.round(x * 2) / np.asarray(2, x.dtype)], opset=11)
    return Op(name, [np.round(x), np.round(array(rng, shape, x.dtype.name))], opset=16, constants=2)


def _body(name: str, inputs: list[Any], outputs: list[Any], nodes: list[Any]) -> Any:
    return helper.make_graph(nodes, name, inputs, outputs)


def subgraph(rng: Rng) -> Op:
    """If, Loop and Scan with small bodies."""
    name, x = pick(rng, "If", "Loop", "Loop", "Scan", "Scan"), array(rng, [3, 2])
    port = helper.make_tensor_value_info
    op, last = pick(rng, "Add", "Mul", "Sub"), pick(rng, "Tanh", "Relu", "Neg")
    if name == "If":
        graphs = [
            _body(n, [], [port(f"o{n}", 1, None)], [helper.make_node(kind, ["x1"], [f"o{n}"], name=f"in_{n}")])
            for n, kind in (("t", "Neg"), ("e", last))
        ]
        return Op(
            name,
            [np.array(rng.random() < 0.5), x],
            {"then_branch": graphs[0], "else_branch": graphs[1]},
            opset=13,
            constants=pick(rng, 0, 2),
        )
    if name == "Loop":
        condition = pick(rng, "cond", "less")
        nodes = [
            helper.make_node(op, ["h", "h"], ["s"], name="sum"),
            helper.make_node(last, ["s"], ["ho"], name="act"),
            helper.make_node("Identity", ["ho"], ["scan"], name="scanned"),
        ]
        if condition == "cond":
            nodes.append(helper.make_node("Identity", ["c"], ["co"], name="same"))
        else:
            nodes += [
                helper.make_node(
                    "Constant", [], ["two"], value=helper.make_tensor("v", TensorProto.INT64, [], [2]), name="two"
                ),
                helper.make_node("Less", ["i", "two"], ["co"], name="less"),
            ]
        inputs = [port("i", TensorProto.INT64, []), port("c", TensorProto.BOOL, []), port("h", 1, [3, 2])]
        outputs = [port("co", TensorProto.BOOL, []), port("ho", 1, [3, 2]), port("scan", 1, [3, 2])]
        return (
            Op(
                name,
                [np.array(int(rng.integers(0, 5)), np.int64), np.array(True), x],
                {"body": _body("b", inputs, outputs, nodes)},
                2,
                opset=13,
                constants=3,
            )
            if rng.random() < 0.5
            else Op(
                name,
                [np.array(int(rng.integers(1, 5)), np.int64), None, x],
                {"body": _body("b", inputs, outputs, nodes)},
                2,
                opset=13,
                constants=1,
            )
        )
    nodes = [helper.make_node(op, ["h", "e"], ["ho"], name="sum"), helper.make_node(last, ["ho"], ["scan"], name="act")]
    axis, out = int(rng.integers(-2, 2)), int(rng.integers(-2, 2))
    length = x.shape[1 - axis % 2]
    inputs, outputs = (
        [port("h", 1, [length]), port("e", 1, [length])],
        [port("ho", 1, [length]), port("scan", 1, [length])],
    )
    flags = {
        "body": _body("b", inputs, outputs, nodes),
        "num_scan_inputs": 1,
        "scan_input_axes": [axis],
        "scan_output_axes": [out],
    }
    flags |= {"scan_input_directions": [int(rng.integers(2))], "scan_output_directions": [int(rng.integers(2))]}
    return Op(name, [array(rng, [length]), x], flags, 2, opset=13, constants=2)


PLACES: tuple[Callable[[Rng], Op], ...] = (indexed, moved, made, subgraph)
