"""Mutates model files and reads them: run as ``python fuzz_models.py SEED COUNT [ENGINE]``.

With an engine, what can be read is lowered and run once as well. Prints one line a file that ended otherwise than in a
model or a PortNetError, and exits 1 if there was one. A run may fail with whatever the framework raises: shapes that
the data decide are met when they come.
"""

from __future__ import annotations

import random
import resource
import sys
import warnings

import numpy as np
import onnx
import onnx.defs
import onnx.parser
from onnx import numpy_helper

import portnet
from portnet.adapter import Adapter, Lowered
from portnet.graph.model import Model
from portnet.parity.inputs import random_inputs
from portnet.testing.watch import ending

SECONDS = 10
MEMORY = 3 << 30
# the frameworks alone reserve more than what a file may take
ENGINE_MEMORY = 12 << 30
PRIMITIVES = frozenset({"Add", "Mul", "Sub", "Div", "Exp", "Reshape", "Conv", "MatMul", "Gemm", "Cast", "Concat"})
NUMBERS = (0, 1, -1, 3, 100, 2**31, -(2**31) - 1, 2**40, 2**62, -(2**63), 2**63 - 1)
SHAPES = ([10**9, 10**9], [2**40], [-1], [0], [2**62, 4], [], [1] * 500)
OPS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
SEEDS = (
    """<ir_version: 3, opset_import: ["" : 6]> g (float[2,3,4,4] x, float[3] b) => (float[2,3,4,4] y)
    { c = Add<broadcast = 1, axis = 1>(x, b) p = PRelu(c, b) y = Dropout<is_test = 1, ratio = 0.5>(p) }""",
    """<ir_version: 8, opset_import: ["" : 9]> g (float[N,1,5,5] x) => (float[N,4] y)
    <float[4,1,3,3] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> {
    c = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) u = Upsample<mode = "nearest">(c, s)
    s = Constant<value = float[4] {1,1,2,2}>() g1 = GlobalAveragePool(u) f = Flatten(g1) y = Softmax(f) }""",
    """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,3] x, bool c) => (float[N,6] y) {
    s = Shape(x) i = Constant<value = int64[1] {0}>() n = Gather(s, i) r = Constant<value = int64[1] {-1}>()
    d = Concat<axis = 0>(n, r) f = Reshape(x, d)
    y = If(c) <then_branch = t () => (float[N,6] a) { a = HardSwish(f) },
               else_branch = e () => (float[N,6] b) { b = Identity(f) }> }""",
    """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y, float[3,2] all) {
    n = Constant<value = int64 {3}>() go = Constant<value = bool {1}>()
    y, all = Loop(n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] out) {
        d = Identity(c) f = Cast<to = 1>(i) w = Add(v, f) out = LayerNormalization(w, v) }> }""",
    """<ir_version: 10, opset_import: ["" : 21, "own" : 1]> g (float[2,4] x) => (float[2,4] y)
    <float[4] scale = {1,1,1,1}> { n = own.norm<power = 3>(x, scale) y = Gelu(n) }
    <domain: "own", opset_import: ["" : 11]> norm <power> (a, s) => (b) {
    p = Constant<value_int = @power>() q = Cast<to = 1>(p) r = ReduceMean<axes = [1]>(a) t = Pow(r, q)
    u = Mul(t, s) b = Clip(u) }""",
    """<ir_version: 8, opset_import: ["" : 18]> g (float[1,8,6] q, int64[2] shape) => (float y)
    <int64[2] starts = {0,1}, int64[2] ends = {9,9}, int64[2] axes = {1,2}> {
    a = Slice(q, starts, ends, axes) b = Expand(a, shape) c = ReduceSum<keepdims = 0>(b)
    e, f = Split<num_outputs = 2, axis = 2>(q) z = ConstantOfShape(shape) y = Sum(c, c) }""",
)


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, overwrite, cut, insert or repeat some bytes."""
    buffer = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, other = draw.randrange(len(buffer) or 1), draw.randrange(len(buffer) or 1)
        noise = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 10)))
        match draw.randrange(6):
            case 0:
                buffer[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del buffer[at:]
            case 2:
                del buffer[at : at + draw.randrange(1, 20)]
            case 3:
                buffer[at:at] = noise
            case 4:
                buffer[at:at] = buffer[other : other + draw.randrange(1, 60)]
            case 5:
                buffer[at : at + 8] = b"\xff" * 8
    return bytes(buffer)


def mutate_graph(data: bytes, draw: random.Random) -> bytes:
    """Change names, ops, attributes, shapes and versions of a file that stays well-formed protobuf."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        graph = draw.choice(list(_graphs(model.graph)))
        if graph.node:
            draw.choice((_rewire, _retype, _set_attribute, _set_tensor, _set_version, _set_input, _feed_shape))(
                model, graph, draw.choice(graph.node), draw
            )
    return model.SerializeToString()


def _graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _rewire(model, graph, node, draw):
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "nowhere"]
    ends = draw.choice((node.input, node.output))
    if ends and draw.random() < 0.7:
        ends[draw.randrange(len(ends))] = draw.choice(names)
    elif draw.random() < 0.5:
        del ends[:]
    else:
        ends.append(draw.choice(names))


def _retype(model, graph, node, draw):
    if draw.random() < 0.8:
        node.op_type = draw.choice(OPS)
    else:
        node.domain = draw.choice(("com.microsoft", "ai.onnx.ml", "own", "ai.onnx"))


def _set_attribute(model, graph, node, draw):
    if not node.attribute:
        node.attribute.append(onnx.helper.make_attribute(draw.choice(("axis", "axes", "perm")), draw.choice(NUMBERS)))
        return
    attribute = draw.choice(node.attribute)
    match draw.randrange(5):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.i = draw.choice(NUMBERS)
        case 2:
            attribute.ints.append(draw.choice(NUMBERS))
        case 3:
            attribute.s = draw.choice((b"", b"SAME_UPPER", b"\xff\xfe", b"x" * 1000))
        case 4:
            attribute.type = draw.randrange(15)


def _set_tensor(model, graph, node, draw):
    if graph.initializer:
        tensor = draw.choice(graph.initializer)
        tensor.dims.append(draw.choice(NUMBERS)) if draw.random() < 0.5 else setattr(
            tensor, "data_type", draw.randrange(30)
        )


def _set_version(model, graph, node, draw):
    if model.opset_import:
        model.opset_import[0].version = draw.choice((-1, 0, 1, 5, 7, 9, 11, 13, 18, 21, 24, 28, 1000))


def _set_input(model, graph, node, draw):
    if graph.input:
        shape = draw.choice(graph.input).type.tensor_type.shape
        shape.dim.add(dim_value=draw.choice(NUMBERS))


def _feed_shape(model, graph, node, draw):
    name = f"shape{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.array(draw.choice(SHAPES), np.int64), name))
    if node.input:
        node.input[draw.randrange(len(node.input))] = name


def read(data: bytes, supports: frozenset[str] | None) -> str:
    """Return "" where a file ends in a model or a one-line PortNetError, else what happened."""
    return ending(lambda: repr(Model.from_bytes(data).canonical(supports)), SECONDS)


def run(data: bytes, engine: Adapter) -> str:
    """Read a file, lower it and run it once; return as `read` does."""
    lowered: list[Lowered] = []
    problem = ending(lambda: lowered.append(engine.lower(Model.from_bytes(data))), SECONDS)
    if problem or not lowered:
        return problem
    return ending(lambda: lowered[0].run(random_inputs(lowered[0].model, 2)), SECONDS, may_raise=Exception)


def main(seed: int, count: int, name: str = "") -> int:
    """Read ``count`` mutated files, run them on an engine if one is named; return how many ended badly."""
    warnings.simplefilter("ignore")
    chosen = portnet.engine(name) if name else None
    memory = ENGINE_MEMORY if name else MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    files = [onnx.parser.parse_model(text).SerializeToString() for text in SEEDS]
    bad = 0
    for number in range(count):
        draw = random.Random(seed * 1_000_003 + number)
        mutate = mutate_bytes if draw.random() < 0.4 else mutate_graph
        data, supports = mutate(draw.choice(files), draw), draw.choice((None, PRIMITIVES))
        problem = read(data, supports) if chosen is None else run(data, chosen)
        if problem:
            bad += 1
            print(f"file {number} of seed {seed}: {problem}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]) > 0)
