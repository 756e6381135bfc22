"""What a drawn network may do next: each step adds nodes to a `Draw`, or nothing where it does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSETS = (13, 17, 18, 21)


class Draw:
    """A network under way: nodes, constants and the tensors made so far, by name, with their sizes behind the batch."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice(OPSETS))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.last = "x"

    # ---- small choices

    def pick(self, *options):
        return options[int(self.rng.integers(len(options)))]

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    # ---- building

    def weight(self, *shape: int, positive: bool = False) -> str:
        fan = max(1, math.prod(shape[1:]))
        array = self.rng.standard_normal(shape).astype(np.float32) / np.float32(math.sqrt(fan))
        return self.constant(np.abs(array) + np.float32(0.5) if positive else array)

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        names = [f"{op.lower()}{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names  # type: ignore[return-value]

    def goes_on(self, name: str, shape: tuple[int, ...]) -> None:
        """Take a tensor for the end of the chain; ``shape`` is without the batch."""
        self.shapes[name] = shape
        self.last = name


Step = Callable[[Draw, str, tuple[int, ...]], None]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    STEPS[function.__name__] = function
    return function


def window(d: Draw, sizes: tuple[int, ...], kernels: int = 3) -> tuple[dict[str, object], list[int]] | None:
    """Return attributes of a sliding window over ``sizes``, and the pads; None where it does not fit."""
    n = len(sizes)
    kernel = [d.whole(1, kernels) for _ in sizes]
    attributes: dict[str, object] = {"kernel_shape": kernel, "strides": [d.whole(1, 2) for _ in sizes]}
    reach = kernel
    if d.chance(0.3):
        attributes["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    else:
        dilations = [d.pick(1, 1, 2) for _ in sizes]
        attributes["dilations"] = dilations
        reach = [(k - 1) * e + 1 for k, e in zip(kernel, dilations, strict=True)]
        pads = [d.whole(0, k // 2) for k in kernel + kernel] if d.chance(0.7) else [0] * (2 * n)
        attributes["pads"] = pads
    return (attributes, reach) if all(r <= s for r, s in zip(reach, sizes, strict=True)) else None


@step
def conv(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or (found := window(d, shape[1:])) is None:
        return
    channels = shape[0]
    group = d.pick(*[g for g in (1, 1, 2, channels) if channels % g == 0])
    out = group * d.whole(1, max(1, 8 // group))
    kernel = found[0]["kernel_shape"]
    inputs = [x, d.weight(out, channels // group, *kernel), *([d.weight(out)] if d.chance() else [])]  # type: ignore[misc]
    d.goes_on(d.node("Conv", inputs, group=group, **found[0]), ())


@step
def conv_transpose(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3):
        return
    channels, n = shape[0], len(shape) - 1
    group = d.pick(*[g for g in (1, 1, 2) if channels % g == 0])
    kernel, strides = [d.whole(1, 3) for _ in range(n)], [d.whole(1, 3) for _ in range(n)]
    attributes = {"strides": strides, "group": group, "kernel_shape": kernel}
    if d.chance():
        attributes["output_padding"] = [d.whole(0, s - 1) for s in strides]
    if d.chance():
        attributes["pads"] = [d.whole(0, (k - 1) // 2) for k in kernel + kernel]
    inputs = [x, d.weight(channels, d.whole(1, 4), *kernel)]
    d.goes_on(d.node("ConvTranspose", inputs, **attributes), ())


@step
def pool(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or (found := window(d, shape[1:])) is None:
        return
    attributes, op = found[0], d.pick("MaxPool", "AveragePool")
    if "auto_pad" not in attributes and d.chance(0.4):
        attributes["ceil_mode"] = 1
    if op == "AveragePool":
        if d.opset < 19:
            attributes.pop("dilations", None)
        attributes["count_include_pad"] = d.whole(0, 1)
    d.goes_on(d.node(op, [x], **attributes), ())


@step
def global_pool(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 3:
        d.goes_on(d.node(d.pick("GlobalAveragePool", "GlobalMaxPool"), [x]), ())


@step
def batch_norm(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if not shape:
        return
    c = shape[0]
    statistics = [d.weight(c, positive=True), d.weight(c), d.weight(c), d.weight(c, positive=True)]
    d.goes_on(d.node("BatchNormalization", [x, *statistics], epsilon=1e-3), ())


@step
def norm(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    op = d.pick("InstanceNormalization", "LayerNormalization", "LRN", "GroupNormalization", "LpNormalization")
    if op == "InstanceNormalization" and len(shape) in (2, 3) and math.prod(shape[1:]) > 1:
        d.goes_on(d.node(op, [x, d.weight(shape[0]), d.weight(shape[0])]), ())
    elif op == "LayerNormalization" and d.opset >= 17:
        axis = d.whole(1, len(shape))
        d.goes_on(d.node(op, [x, d.weight(*shape[axis - 1 :]), d.weight(*shape[axis - 1 :])], axis=axis), ())
    elif op == "LRN" and len(shape) == 3:
        d.goes_on(d.node(op, [x], size=d.pick(1, 3, 5), alpha=0.1), ())
    elif op == "GroupNormalization" and d.opset >= 21 and len(shape) == 3 and shape[0] % 2 == 0:
        d.goes_on(d.node(op, [x, d.weight(shape[0]), d.weight(shape[0])], num_groups=2), ())
    elif op == "LpNormalization":
        d.goes_on(d.node(op, [x], axis=d.whole(1, len(shape)), p=d.whole(1, 2)), ())


@step
def activation(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    op = d.pick("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "HardSigmoid", "HardSwish", "Softplus", "Abs", "Neg",
                "Erf", "Selu", "Clip", "PRelu", "Softmax", "LogSoftmax", "Identity", "Dropout", "Sqrt")  # fmt: skip
    if op == "Clip":
        low, high = d.constant(np.float32(-0.3)), d.constant(np.float32(0.7))
        d.goes_on(d.node(op, [x, *d.pick([low, high], ["", high], [low])]), ())
    elif op == "PRelu":
        ones = [1] * (len(shape) - 1)
        d.goes_on(d.node(op, [x, d.weight(*d.pick((shape[0], *ones), (1,), (*ones, shape[-1])))]), ())
    elif op.endswith("Softmax"):
        d.goes_on(d.node(op, [x], axis=d.pick(*range(1, len(shape) + 1), -1)), ())
    elif op == "Sqrt":
        d.goes_on(d.node(op, [d.node("Abs", [x])]), ())
    else:
        d.goes_on(d.node(op, [x]), ())


@step
def with_constant(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    op, keep = d.pick("Add", "Mul", "Sub", "Div", "Max", "Min"), [d.chance() for _ in shape]
    sizes = [n if k else 1 for n, k in zip(shape, keep, strict=True)]
    while sizes and sizes[0] == 1 and d.chance():
        sizes.pop(0)
    if len(sizes) == len(shape) and d.chance():
        sizes = [1, *sizes]
    other = d.weight(*sizes, positive=op == "Div")
    operands = [x, other] if op == "Div" or d.chance() else [other, x]
    d.goes_on(d.node(op, operands), ())


@step
def with_earlier(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    op = d.pick("Add", "Mul", "Sub")
    fitting = [
        name
        for name, other in d.shapes.items()
        if len(other) == len(shape) and all(a == b or 1 in (a, b) for a, b in zip(other, shape, strict=True))
    ]
    if fitting:
        d.goes_on(d.node(op, [x, d.pick(*fitting)] if d.chance() else [d.pick(*fitting), x]), ())


@step
def gate(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        return
    squeezed = _reduced(d, "ReduceMean", x, [2, 3], 1)
    opened = d.node("Conv", [squeezed, d.weight(shape[0], shape[0], 1, 1)])
    d.goes_on(d.node("Mul", [x, d.node("Sigmoid", [opened])]), ())


@step
def concat(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    axis = d.whole(1, len(shape))
    others = [
        name
        for name, other in d.shapes.items()
        if len(other) == len(shape)
        and all(a == b for i, (a, b) in enumerate(zip(other, shape, strict=True), 1) if i != axis)
    ]
    d.goes_on(d.node("Concat", [x, d.pick(*others), *([x] if d.chance(0.3) else [])], axis=axis), ())


@step
def split(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    axis = d.whole(1, len(shape))
    size = shape[axis - 1]
    if size < 2:
        return
    cut = d.whole(1, size - 1)
    parts = d.node("Split", [x, d.ints(cut, size - cut)], outputs=2, axis=axis)
    order = d.pick([0], [1], [1, 0])
    out = parts[order[0]] if len(order) == 1 else d.node("Concat", [parts[i] for i in order], axis=axis)
    d.goes_on(out, ())


@step
def cut(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    axis = d.whole(1, len(shape))
    size = shape[axis - 1]
    start, end, by = d.pick((1, 1000, 1), (0, -1, 1), (-1, -1000, -1), (0, 1000, 2), (-2, 1000, 1))
    if size < 3:
        return
    d.goes_on(d.node("Slice", [x, d.ints(start), d.ints(end), d.ints(axis), d.ints(by)]), ())


@step
def pad(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    mode = d.pick("constant", "reflect", "edge")
    low = -1 if mode == "constant" and min(shape) > 2 else 0
    high = min(2, min(shape) - 1)
    if high < 1:
        return
    before, after = [d.whole(low, high) for _ in shape], [d.whole(low, high) for _ in shape]
    if mode != "constant" and d.chance(0.7):
        before[0] = after[0] = 0
    value = [d.constant(np.float32(0.25))] if mode == "constant" and d.chance() else []
    d.goes_on(d.node("Pad", [x, d.ints(0, *before, 0, *after), *value], mode=mode), ())


@step
def transpose(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    perm = [0, *(1 + d.rng.permutation(len(shape))).tolist()]
    d.goes_on(d.node("Transpose", [x], perm=perm), ())


@step
def channels_last_part(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        return
    inside = d.node("Transpose", [x], perm=[0, 2, 3, 1])
    width = d.whole(1, 6)
    product = d.node("MatMul", [inside, d.weight(shape[0], width)])
    product = d.node("Add", [product, d.weight(width)])
    d.goes_on(d.node("Transpose", [product], perm=[0, 3, 1, 2]) if d.chance(0.7) else product, ())


@step
def tokens(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 3:
        flat = d.node("Reshape", [x, d.pick(d.ints(0, shape[0], -1), d.ints(-1, shape[0], shape[1] * shape[2]))])
        d.goes_on(d.node("Transpose", [flat], perm=[0, 2, 1]) if d.chance(0.7) else flat, ())
    elif len(shape) == 2:
        turned = d.node("Transpose", [x], perm=[0, 2, 1])
        d.goes_on(d.node("Reshape", [turned, d.ints(0, shape[1], 1, shape[0])]), ())


@step
def attention(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] > 40:
        return
    q, k, v = (d.node("MatMul", [x, d.weight(shape[1], shape[1])]) for _ in range(3))
    scores = d.node("MatMul", [q, d.node("Transpose", [k], perm=[0, 2, 1])])
    d.goes_on(d.node("MatMul", [d.node("Softmax", [scores], axis=-1), v]), ())


@step
def shuffle(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] % 2:
        return
    c, h, w = shape
    groups = d.node("Reshape", [x, d.ints(-1, 2, c // 2, h, w)])
    turned = d.node("Transpose", [groups], perm=[0, 2, 1, 3, 4])
    d.goes_on(d.node("Reshape", [turned, d.ints(-1, c, h, w)]), ())


@step
def blocks(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        return
    if shape[0] % 4 == 0 and d.chance():
        d.goes_on(d.node("DepthToSpace", [x], blocksize=2, mode=d.pick("DCR", "CRD")), ())
    elif shape[1] % 2 == 0 and shape[2] % 2 == 0:
        d.goes_on(d.node("SpaceToDepth", [x], blocksize=2), ())


@step
def resize(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        return
    mode = d.pick("nearest", "linear", "cubic")
    attributes: dict[str, object] = {"mode": mode}
    attributes["coordinate_transformation_mode"] = d.pick("asymmetric", "half_pixel", "align_corners")
    if mode == "nearest":
        attributes["nearest_mode"] = d.pick("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")
    # of a size that is rounded, onnxruntime and the standard take the corners in different places
    high = d.pick(1, 2) if attributes["coordinate_transformation_mode"] == "align_corners" else d.pick(1, 2, 0.5, 1.5)
    scales = d.constant(np.array([1, 1, high, d.pick(1, 2, 3)], np.float32))
    d.goes_on(d.node("Resize", [x, "", scales], **attributes), ())


def _reduced(d: Draw, op: str, x: str, axes: list[int], keepdims: int) -> str:
    as_input = d.opset >= 18 or op == "ReduceSum"
    inputs = [x, d.ints(*axes)] if as_input else [x]
    return d.node(op, inputs, keepdims=keepdims, **({} if as_input else {"axes": axes}))


@step
def reduce(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    axes = [a for a in range(1, len(shape) + 1) if d.chance()]
    if not axes or len(axes) == len(shape):
        return
    axes = [a if d.chance() else a - len(shape) - 1 for a in axes]
    op = d.pick("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", "ReduceMin", "ReduceSumSquare")
    d.goes_on(_reduced(d, op, x, axes, d.whole(0, 1)), ())


@step
def flatten(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if d.chance(0.6):
        return
    out = d.node("Flatten", [x]) if d.chance() else d.node("Reshape", [x, d.ints(0, -1)])
    d.goes_on(out, ())


@step
def free_reshape(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    """Shape → Gather → Concat → Reshape, as exporters write it."""
    batch = d.node("Unsqueeze", [d.node("Gather", [d.node("Shape", [x]), d.constant(np.int64(0))]), d.ints(0)])
    sizes = list(shape)
    if len(sizes) > 1 and d.chance():
        sizes = [sizes[0] * sizes[1], *sizes[2:]]
    elif sizes[0] % 2 == 0 and len(sizes) < 3:
        sizes = [2, sizes[0] // 2, *sizes[1:]]
    d.goes_on(d.node("Reshape", [x, d.node("Concat", [batch, d.ints(*sizes)], axis=0)]), ())


@step
def rank(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    ones = [a for a, n in enumerate(shape, 1) if n == 1]
    if ones and len(shape) > 1:
        d.goes_on(d.node("Squeeze", [x, d.ints(d.pick(*ones))]), ())
    elif len(shape) < 3:
        d.goes_on(d.node("Unsqueeze", [x, d.ints(d.whole(1, len(shape) + 1))]), ())


@step
def gather(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    axis = d.whole(1, len(shape))
    size = shape[axis - 1]
    indices = d.rng.integers(-size, size, d.whole(1, size)).astype(np.int64)
    d.goes_on(d.node("Gather", [x, d.constant(indices)], axis=axis), ())


@step
def tile(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    d.goes_on(d.node("Tile", [x, d.ints(1, *(d.pick(1, 1, 2) for _ in shape))]), ())


@step
def expand(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if 1 in shape:
        d.goes_on(d.node("Expand", [x, d.ints(1, *(d.whole(1, 3) if n == 1 else 1 for n in shape))]), ())


@step
def dense(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    width = d.whole(1, 8)
    if len(shape) == 1 and d.chance(0.6):
        turned = d.whole(0, 1)
        weight = d.weight(*((width, shape[0]) if turned else (shape[0], width)))
        bias = [d.weight(*d.pick((width,), (1, width), (1,)))] if d.chance() else []
        d.goes_on(d.node("Gemm", [x, weight, *bias], transB=turned, alpha=d.pick(1.0, 0.5)), ())
    elif d.chance(0.8):
        d.goes_on(d.node("MatMul", [x, d.weight(shape[-1], width)]), ())
    elif len(shape) > 1:
        d.goes_on(d.node("MatMul", [d.weight(width, shape[-2]), x]), ())


@step
def choose(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    positive = d.node("Greater", [x, d.constant(np.float32(0.1))])
    other = d.pick(d.constant(np.float32(0.5)), d.weight(*shape), d.node("Neg", [x]))
    d.goes_on(d.node("Where", [positive, x, other] if d.chance() else [positive, other, x]), ())


@step
def cumulate(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if d.chance(0.6):
        return
    axis = d.constant(np.int64(d.whole(1, len(shape))))
    d.goes_on(d.node("CumSum", [x, axis], exclusive=d.whole(0, 1), reverse=d.whole(0, 1)), ())


@step
def einsum(d: Draw, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 3:
        d.goes_on(d.node("Einsum", [x, d.weight(shape[0], 3)], equation=d.pick("nchw,cd->ndhw", "nchw,cd->nhwd")), ())
    elif len(shape) == 2 and shape[0] < 40:
        d.goes_on(d.node("Einsum", [x, x], equation="nij,nkj->nik"), ())
