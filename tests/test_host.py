"""Shape arithmetic with symbols gives the numbers that the reference gives, whatever the free sizes are."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from portnet.errors import UnsupportedError
from portnet.graph.lowering import Lowering
from portnet.graph.model import Model
from portnet.graph.sizes import evaluate_size


class Shapes(Lowering[Any]):
    """An engine that computes nothing: what it cannot know on the host it refuses."""

    engine: ClassVar[str] = "shapes"
    table: ClassVar = {}

    def make_input(self, value):
        return value

    def make_parameter(self, value, array):
        return array

    def make_constant(self, value, array):
        return array

    def make_symbolic(self, value, host):
        return host.array

    def numbers(self, sizes: dict[str, int]) -> list[int]:
        """Return the entries of the graph's output for some sizes."""
        (entries,) = self.walk()
        return [evaluate_size(entry, lambda symbol: sizes[symbol.name], max) for entry in np.ravel(entries)]


# bodies that compute the int64 tensor y from the shape of x, which is (N, C, 6)
CASES = {
    "gather": "s = Shape(x) y = Gather(s, i0)",
    "part": "y = Shape<start = -2>(x)",
    "size": "y = Size(x)",
    "slice": "s = Shape(x) y = Slice(s, i1, big, i0)",
    "slice backwards": "s = Shape(x) y = Slice(s, m1, low, i0, m1)",
    "half": "s = Shape(x) y = Div(s, i2)",
    "half rounded up": "s = Shape(x) n = Neg(s) h = Div(n, i2) y = Neg(h)",
    "of a convolution": "s = Shape(x) a = Add(s, i2) h = Div(a, i2) y = Add(h, i1)",
    "remainder": "s = Shape(x) y = Mod(s, i4)",
    "product": "s = Shape(x) y = ReduceProd<keepdims = 1>(s)",
    "concat and multiply": "s = Shape(x) n = Gather(s, i0) p = Mul(n, i4) y = Concat<axis = 0>(p, m1, i2)",
    "split": "s = Shape(x) a, b, c = Split<num_outputs = 3, axis = 0>(s) y = Concat<axis = 0>(c, a)",
    "through floats": "s = Shape(x) f = Cast<to = 1>(s) h = Mul(f, half) g = Floor(h) y = Cast<to = 7>(g)",
    "squeeze": "s = Shape(x) n = Gather(s, i0) z = Squeeze(n, i0) u = Unsqueeze(z, i0) y = Sub(u, i1)",
    "scaled": "s = Shape(x) f = Cast<to = 1>(s) h = Mul(f, two) g = Floor(h) y = Cast<to = 7>(g)",
    "ratio": "s = Shape(x) f = Cast<to = 1>(s) h = Div(f, two) g = Ceil(h) y = Cast<to = 7>(g)",
    "never negative": "s = Shape(x) e = Equal(s, m1) y = Where(e, i1, s)",
    "at least one": "s = Shape(x) y = Max(s, i1)",
    "at most four": "s = Shape(x) y = Min(s, i4)",
    "at least six": "s = Shape(x) m = Max(s, six) h = Sub(m, i1) y = Div(h, i2)",
}
TEXT = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,C,6] x) => (int64[K] y)
    <int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}, int64[1] i4 = {{4}}, int64[1] m1 = {{-1}},
     int64[1] big = {{9223372036854775807}}, int64[1] low = {{-9223372036854775808}}, int64[1] six = {{6}},
     float half = {{0.5}}, float two = {{2}}, float tenth = {{0.1}}> {{ {body} }}"""


def proto(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT.format(body=body))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sizes", [{"N": 5, "C": 4}, {"N": 1, "C": 7}], ids=["5x4", "1x7"])
def test_symbols_give_the_reference_s_numbers(name, sizes):
    model = proto(CASES[name])
    x = np.zeros((sizes["N"], sizes["C"], 6), np.float32)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    walk = Shapes(Model.from_bytes(model.SerializeToString()).canonical())
    assert walk.numbers(sizes) == np.ravel(expected).tolist()


@pytest.mark.parametrize(
    "body",
    [
        "s = Shape(x) e = Equal(s, six) y = Where(e, m1, s)",
        "s = Shape(x) f = Cast<to = 1>(s) h = Mul(f, tenth) g = Floor(h) y = Cast<to = 7>(g)",
    ],
)
def test_what_a_symbol_does_not_decide_is_left_to_the_engine(body):
    walk = Shapes(Model.from_bytes(proto(body).SerializeToString()).canonical())
    with pytest.raises(UnsupportedError, match=r"shapes: (Equal|Mul) \(opset 21\)"):
        walk.walk()


def test_what_depends_on_data_is_no_shape_arithmetic():
    model = Model.from_bytes(proto("e = Exp(x) y = Cast<to = 7>(e)").SerializeToString()).canonical()
    with pytest.raises(UnsupportedError, match="shapes: Exp"):
        Shapes(model).walk()
