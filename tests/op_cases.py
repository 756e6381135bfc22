"""Draws single ops with attributes, dtypes and opsets at random; a drawn model may be invalid, its judge finds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Rng = np.random.Generator
FLOATS = ("float32", "float32", "float64", "float16")
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint32")


@dataclass
class Op:
    """An op under test: its inputs (None for one left out), of which those from `constants` on are initializers.

    The first input's size of each axis in `free` has a name in place of a number.
    """

    name: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 18
    constants: int = 1
    domain: str = ""
    free: tuple[int, ...] = ()


def model_of(op: Op) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a model of one node with typeless outputs, and what to feed it."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(op.inputs)]
    outputs = [f"y{i}" for i in range(op.outputs)]
    node = helper.make_node(op.name, names, outputs, name="node", domain=op.domain, **op.attributes)
    given = [(name, value) for name, value in zip(names, op.inputs, strict=True) if name]
    feeds = dict(pair for pair in given if int(pair[0][1:]) < op.constants)
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    ]
    for axis in op.free:
        ports[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    weights = [numpy_helper.from_array(v, n) for n, v in given if n not in feeds]
    graph = helper.make_graph([node], "g", ports, [helper.make_empty_tensor_value_info(n) for n in outputs], weights)
    opsets = [helper.make_opsetid("", op.opset), *([helper.make_opsetid(op.domain, 1)] if op.domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model), feeds


def array(rng: Rng, shape: Any, dtype: str = "float32") -> np.ndarray:
    """Return numbers of a dtype: floats in about ±4, whole numbers in ±9."""
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("uint"):
        return np.asarray(rng.integers(0, 10, shape)).astype(dtype)
    if dtype.startswith("int"):
        return np.asarray(rng.integers(-9, 10, shape)).astype(dtype)
    return np.asarray(rng.normal(0, 1.5, shape)).astype(dtype)


def resized(op: Op, by: int) -> np.ndarray:
    """Return the first input with its free sizes larger by a number."""
    x = op.inputs[0]
    return np.resize(x, [size + by * (axis in op.free) for axis, size in enumerate(x.shape)])


def unbound(rng: Rng, rank: int) -> tuple[int, ...]:
    """Return spatial axes to leave free, mostly none."""
    return tuple(axis for axis in range(2, rank) if rng.random() < 0.6) if rng.random() < 0.3 else ()


def pick(rng: Rng, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def sizes(rng: Rng, rank: int, low: int = 1, high: int = 5) -> list[int]:
    return [int(n) for n in rng.integers(low, high, rank)]


def _padding(rng: Rng, rank: int, high: int = 2) -> dict[str, Any]:
    mode = pick(rng, "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID")
    return {"pads": sizes(rng, 2 * rank, 0, high)} if mode == "pads" else {"auto_pad": mode}


def _drop_odd_padding(attributes: dict[str, Any], kernel: list[int], strides: list[int]) -> None:
    """Leave out auto_pad where a window is shorter than its step.

    The standard asks for size / stride places, or size · stride; onnxruntime makes fewer, or fails.
    """
    if attributes.get("auto_pad", "VALID") != "VALID" and any(k < s for k, s in zip(kernel, strides, strict=True)):
        del attributes["auto_pad"]


def conv(rng: Rng) -> Op:
    """Conv and ConvTranspose of ranks 1 to 3."""
    rank, groups, back = int(rng.integers(1, 4)), int(rng.integers(1, 4)), bool(rng.random() < 0.4)
    kernel, strides = sizes(rng, rank, 1, 4), sizes(rng, rank, 1, 4)
    attributes = {"group": groups, "strides": strides, "dilations": sizes(rng, rank, 1, 3), **_padding(rng, rank)}
    inner, outer = 2 * groups, int(rng.integers(1, 3)) * groups
    if back:
        shape = [inner, outer // groups, *kernel]
        if rng.random() < 0.4:
            attributes["output_padding"] = [int(rng.integers(0, s)) for s in strides]
        _drop_odd_padding(attributes, kernel, strides)
    else:
        shape = [outer, inner // groups, *kernel]
    bias = [array(rng, outer)] if rng.random() < 0.5 else []
    inputs = [array(rng, [2, inner, *sizes(rng, rank, 5, 9)]), array(rng, shape), *bias]
    name, free = "ConvTranspose" if back else "Conv", unbound(rng, rank + 2)
    return Op(name, inputs, attributes, opset=pick(rng, 7, 11, 18, 22), free=free)


def pool(rng: Rng) -> Op:
    """MaxPool, AveragePool and LpPool of ranks 1 to 3."""
    name, rank, opset = (
        pick(rng, "MaxPool", "AveragePool", "LpPool"),
        int(rng.integers(1, 4)),
        pick(rng, 8, 12, 19, 22),
    )
    kernel = sizes(rng, rank, 2, 4)
    attributes = {"kernel_shape": kernel, "strides": sizes(rng, rank, 1, 4), **_padding(rng, rank)}
    if opset >= (18 if name == "LpPool" else 12) and (name != "AveragePool" or opset >= 19):
        attributes |= {"ceil_mode": int(rng.integers(2)), "dilations": sizes(rng, rank, 1, 3)}
    if attributes.get("auto_pad", "VALID") != "VALID":
        # onnxruntime pads for windows without their gaps, the standard asks for ceil(size / stride) places
        attributes.pop("dilations", None)
        _drop_odd_padding(attributes, kernel, attributes["strides"])
    if name == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(2))
    if name == "LpPool":
        attributes["p"] = int(rng.integers(1, 4))
    outputs = 2 if name == "MaxPool" and rng.random() < 0.3 else 1
    if outputs == 2:
        attributes["storage_order"] = int(rng.integers(2))
    x, free = array(rng, [2, 3, *sizes(rng, rank, 5, 9)]), unbound(rng, rank + 2) if outputs == 1 else ()
    return Op(name, [x], attributes, outputs, opset, free=free)


def resize(rng: Rng) -> Op:
    """Resize in all modes."""
    mode = pick(rng, "nearest", "linear", "cubic")
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": pick(
            rng, "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"
        ),
    }
    if mode == "nearest":
        attributes["nearest_mode"] = pick(rng, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    else:
        attributes["antialias"] = int(rng.random() < 0.3)
    if mode == "cubic":
        attributes |= {"exclude_outside": int(rng.integers(2)), "cubic_coeff_a": pick(rng, -0.75, -0.5)}
    x = array(rng, [1, 2, *sizes(rng, 2, 3, 7)])
    if rng.random() < 0.5:
        scales = [1, 1, *(pick(rng, 0.5, 0.6, 1.0, 1.5, 2.0, 2.3) for _ in range(2))]
        return Op("Resize", [x, None, np.array(scales, np.float32)], attributes, opset=19, free=unbound(rng, 4))
    target = [1, 2, *sizes(rng, 2, 2, 11)]
    if rng.random() < 0.5:
        attributes |= {"axes": [2, 3], "keep_aspect_ratio_policy": pick(rng, "stretch", "not_larger", "not_smaller")}
        target = target[2:]
    free = () if "keep_aspect_ratio_policy" in attributes else unbound(rng, 4)
    return Op("Resize", [x, None, None, np.array(target, np.int64)], attributes, opset=19, free=free)


def pad(rng: Rng) -> Op:
    """Pad in all modes, negative pads and axes among them."""
    x, mode = (
        array(rng, sizes(rng, 4, 3, 6), pick(rng, *FLOATS, "int32", "int64")),
        pick(rng, "constant", "reflect", "edge", "wrap"),
    )
    axes = rng.permutation(4)[: int(rng.integers(1, 5))]
    pads = rng.integers(-1 if mode == "constant" else 0, 3, 2 * len(axes))
    value = array(rng, (), x.dtype.name) if mode == "constant" else None
    axes, free = axes - 4 * (rng.random(len(axes)) < 0.5), unbound(rng, 4)
    return Op("Pad", [x, pads, value, axes], {"mode": mode}, opset=19, free=free)


def cut(rng: Rng) -> Op:
    """Slice with negative steps and bounds out of range."""
    axes = rng.permutation(3)[: int(rng.integers(1, 4))].astype(np.int64)
    bounds = [rng.integers(-9, 10, len(axes)) for _ in range(2)]
    steps = rng.choice([-3, -2, -1, 1, 2, 3], len(axes)).astype(np.int64)
    return Op(
        "Slice", [array(rng, sizes(rng, 3, 2, 7), pick(rng, *FLOATS, *WHOLE, "bool")), *bounds, axes, steps], opset=13
    )


def reduce(rng: Rng) -> Op:
    """Every Reduce op, axes as an attribute and as an input."""
    name = "Reduce" + pick(rng, "Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    x = array(rng, sizes(rng, 3), pick(rng, *FLOATS, "int32", "int64"))
    x = np.abs(x) + np.ones((), x.dtype) if name == "ReduceLogSum" else x
    axes, keep = rng.permutation(3)[: int(rng.integers(0, 4))] - 3 * int(rng.integers(2)), int(rng.integers(2))
    if rng.random() < 0.4:
        return Op(name, [x], {"keepdims": keep, **({"axes": axes.tolist()} if len(axes) else {})}, opset=11)
    return Op(name, [x, axes.astype(np.int64)], {"keepdims": keep, "noop_with_empty_axes": int(rng.integers(2))})


def elementwise(rng: Rng) -> Op:
    """Two operands that broadcast: arithmetic, comparison, remainder, powers."""
    name, dtype = (
        pick(rng, "Add", "Sub", "Mul", "Div", "Mod", "Pow", "Less", "Equal", "Max", "Min"),
        pick(rng, *FLOATS, *WHOLE),
    )
    attributes = {"fmod": 1 if dtype in FLOATS else int(rng.integers(2))} if name == "Mod" else {}
    shape = sizes(rng, int(rng.integers(0, 4)))
    a, b = (
        array(rng, shape, dtype),
        array(rng, [pick(rng, 1, n) for n in shape[int(rng.integers(len(shape) + 1)) :]], dtype),
    )
    if name in ("Div", "Mod"):
        b = np.where(b == 0, np.ones((), b.dtype), b)
    if name == "Pow":
        a, b = np.abs(a), np.abs(b) % np.asarray(3, b.dtype)
    if name in ("Less", "Equal", "Max", "Min") and dtype in FLOATS and a.size:
        a = np.where(rng.random(a.shape) < 0.2, pick(rng, np.nan, np.inf, -np.inf), a).astype(a.dtype)
    return Op(name, [np.asarray(a), np.asarray(b)], attributes, opset=13, constants=2)


def cast(rng: Rng) -> Op:
    """Cast between dtypes, for values that both can hold: what is out of range, the standard leaves undefined."""
    source, target = pick(rng, *FLOATS, *WHOLE, "bool"), pick(rng, *FLOATS, *WHOLE, "bool")
    x = array(rng, sizes(rng, 2), source)
    x = np.abs(x) if target.startswith("uint") and source != "bool" else x
    return Op("Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(target))}, opset=pick(rng, 9, 13, 19))


def gather(rng: Rng) -> Op:
    """Gather, GatherElements, ScatterElements with negative indices and reductions."""
    x, axis = array(rng, sizes(rng, 3, 2, 5), pick(rng, "float32", "int64")), int(rng.integers(-3, 3))
    size = x.shape[axis]
    name = pick(rng, "Gather", "GatherElements", "ScatterElements")
    shape = sizes(rng, int(rng.integers(0, 3))) if name == "Gather" else [int(rng.integers(1, n + 1)) for n in x.shape]
    if name != "ScatterElements":
        return Op(name, [x, np.asarray(rng.integers(-size, size, shape))], {"axis": axis}, opset=13, constants=2)
    how = pick(rng, "none", "add", "mul", "max", "min")
    places = np.argsort(rng.random([size if i == axis % 3 else n for i, n in enumerate(shape)]), axis)
    places = places - size * (rng.random(places.shape) < 0.5)
    return Op(name, [x, places, array(rng, places.shape, x.dtype.name)], {"axis": axis, "reduction": how}, constants=3)


def product(rng: Rng) -> Op:
    """MatMul of all ranks and Gemm."""
    n, k, m = sizes(rng, 3)
    if rng.random() < 0.5:
        a, b = pick(rng, [k], [n, k], [2, n, k], [3, 1, n, k]), pick(rng, [k], [k, m], [2, k, m])
        return Op("MatMul", [array(rng, a), array(rng, b)], opset=13, constants=pick(rng, 1, 2))
    ta, tb = int(rng.integers(2)), int(rng.integers(2))
    c = [array(rng, pick(rng, [], [1], [m], [n, 1], [n, m]))] if rng.random() < 0.7 else []
    factors = {"alpha": pick(rng, 1.0, 0.5), "beta": pick(rng, 1.0, 2.0), "transA": ta, "transB": tb}
    return Op(
        "Gemm", [array(rng, [k, n] if ta else [n, k]), array(rng, [m, k] if tb else [k, m]), *c], factors, opset=13
    )


def recurrent(rng: Rng) -> Op:
    """RNN, GRU and LSTM: directions, initial states, lengths, peepholes, clipping."""
    name, direction = pick(rng, "RNN", "GRU", "LSTM"), pick(rng, "forward", "reverse", "bidirectional")
    gates, ways = {"RNN": 1, "GRU": 3, "LSTM": 4}[name], 1 + (direction == "bidirectional")
    steps, batch, size, hidden = 4, 2, 3, 2
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if rng.random() < 0.3:
        attributes["clip"] = 0.7
    if name == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    weights = [array(rng, [ways, gates * hidden, n]) for n in (size, hidden)]
    maybe = lambda value: value if rng.random() < 0.5 else None  # noqa: E731
    lengths = maybe(rng.integers(1, steps + 1, batch).astype(np.int32))
    inputs = [array(rng, [steps, batch, size]), *weights, maybe(array(rng, [ways, 2 * gates * hidden])), lengths]
    inputs.append(maybe(array(rng, [ways, batch, hidden])))
    if name == "LSTM":
        inputs += [maybe(array(rng, [ways, batch, hidden])), maybe(array(rng, [ways, 3 * hidden]))]
    return Op(name, inputs, attributes, 3 if name == "LSTM" else 2, opset=pick(rng, 7, 14))


def along(rng: Rng) -> Op:
    """Ops along an axis: Softmax of either meaning, TopK, CumSum, ArgMax, norms."""
    x, axis = array(rng, sizes(rng, 3, 2, 5)), int(rng.integers(-3, 3))
    name = pick(
        rng,
        "Softmax",
        "LogSoftmax",
        "Hardmax",
        "TopK",
        "CumSum",
        "ArgMax",
        "ArgMin",
        "LpNormalization",
        "LayerNormalization",
    )
    if name == "TopK":
        order = {"largest": int(rng.integers(2)), "sorted": 1}
        return Op(name, [x, np.array([2], np.int64)], {"axis": axis, **order}, 2, 11)
    if name == "CumSum":
        flags = {"exclusive": int(rng.integers(2)), "reverse": int(rng.integers(2))}
        return Op(name, [x, np.array(axis, np.int64)], flags, opset=14)
    if name.startswith("Arg"):
        flags = {"keepdims": int(rng.integers(2)), "select_last_index": int(rng.integers(2))}
        return Op(name, [np.round(x)], {"axis": axis, **flags}, opset=13)  # with zeros of both signs
    if name == "LpNormalization":
        return Op(name, [x], {"axis": axis, "p": int(rng.integers(1, 3))}, opset=11)
    if name == "LayerNormalization":
        return Op(name, [x, *(array(rng, x.shape[axis:]) for _ in range(2))], {"axis": axis}, opset=17)
    return Op(name, [x], {"axis": axis if (old := rng.random()) < 0.5 else axis % 3}, opset=13 if old < 0.5 else 7)


KINDS: tuple[Callable[[Rng], Op], ...] = (
    conv, pool, resize, pad, cut, reduce, elementwise, cast, gather, product, recurrent, along,
)  # fmt: skip
