"""Functions of single numbers: unary, binary, with a number. Comparisons yield floats in MXNet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, op

_UNARY = {
    **{"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softsign": "Softsign", "exp": "Exp", "log": "Log"},
    **{"sqrt": "Sqrt", "abs": "Abs", "negative": "Neg", "sign": "Sign", "floor": "Floor", "ceil": "Ceil"},
    **{"sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan"},
    **{"sinh": "Sinh", "cosh": "Cosh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh", "erf": "Erf"},
    "reciprocal": "Reciprocal",
}
# name of the two-operand operators -> ONNX's op
_BINARY = {
    **dict.fromkeys(("elemwise_add", "_plus", "_Plus", "_add", "_grad_add", "broadcast_add", "broadcast_plus"), "Add"),
    **dict.fromkeys(("elemwise_sub", "_minus", "_Minus", "_sub", "broadcast_sub", "broadcast_minus"), "Sub"),
    **dict.fromkeys(("elemwise_mul", "_mul", "_Mul", "broadcast_mul"), "Mul"),
    **dict.fromkeys(("elemwise_div", "_div", "_Div", "broadcast_div"), "Div"),
    **dict.fromkeys(("_power", "_Power", "broadcast_power"), "Pow"),
    **dict.fromkeys(("_maximum", "_Maximum", "broadcast_maximum"), "Max"),
    **dict.fromkeys(("_minimum", "_Minimum", "broadcast_minimum"), "Min"),
}
_COMPARED = {
    **{"equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual"},
    **{"lesser": "Less", "lesser_equal": "LessOrEqual"},
}
# the part of a name that stands for an operation with a number -> ONNX's op, whether the number stands on the left
_WITH_NUMBER = {
    **{"plus": ("Add", False), "minus": ("Sub", False), "rminus": ("Sub", True), "mul": ("Mul", False)},
    **{"div": ("Div", False), "rdiv": ("Div", True), "maximum": ("Max", False), "minimum": ("Min", False)},
    **{"power": ("Pow", False), "rpower": ("Pow", True)},
}
_CAMEL = {"rminus": "RMinus", "rdiv": "RDiv", "rpower": "RPower"}


@cache
def _unary(target: str) -> Callable[[Layer], ir.Value]:
    return lambda layer: layer.final(target, [layer.value(0)])


@cache
def _binary(target: str) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        return layer.final(target, [layer.value(0), layer.value(1)])

    return build


@cache
def _compared(target: str, negated: bool = False) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        left, right = layer.value(0), layer.value(1)
        return _as_number(layer, layer.step(target, [left, right], "truth"), left, negated)

    return build


@cache
def _compared_number(target: str, negated: bool = False) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        x = layer.value(0)
        truth = layer.step(target, [x, layer.scalar(layer.attributes.number("scalar"), x)], "truth")
        return _as_number(layer, truth, x, negated)

    return build


def _as_number(layer: Layer, truth: ir.Value, like: ir.Value, negated: bool) -> ir.Value:
    if negated:
        truth = layer.step("Not", [truth], "not")
    dtype = like.dtype or ir.DataType.FLOAT
    return layer.final("Cast", [truth], to=dtype.value)


@cache
def _with_number(target: str, left: bool) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        x = layer.value(0)
        number = layer.scalar(layer.attributes.number("scalar", 1.0), x)
        return layer.final(target, [number, x] if left else [x, number])

    return build


for _name, _target in _UNARY.items():
    op(_name)(_unary(_target))
for _name, _target in _BINARY.items():
    op(_name)(_binary(_target))
for _name, (_target, _left) in _WITH_NUMBER.items():
    _camel = _CAMEL.get(_name, _name.capitalize())
    op(f"_{_name}_scalar", f"_{_camel}Scalar")(_with_number(_target, _left))
for _name, _target in _COMPARED.items():
    op(f"broadcast_{_name}", f"_{_name}")(_compared(_target))
    op(f"_{_name}_scalar")(_compared_number(_target))
op("broadcast_not_equal", "_not_equal")(_compared("Equal", negated=True))
op("_not_equal_scalar")(_compared_number("Equal", negated=True))


@op("add_n", "ElementWiseSum")
def add_n(layer: Layer) -> ir.Value:
    values = layer.values()
    if not values:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got no inputs")
    return layer.final("Add" if len(values) == 2 else "Sum", values)


@op("square")
def square(layer: Layer) -> ir.Value:
    x = layer.value(0)
    return layer.final("Mul", [x, x])


@op("rsqrt")
def rsqrt(layer: Layer) -> ir.Value:
    return layer.final("Reciprocal", [layer.step("Sqrt", [layer.value(0)], "sqrt")])


@op("expm1")
def expm1(layer: Layer) -> ir.Value:
    raised = layer.step("Exp", [layer.value(0)], "exp")
    return layer.final("Sub", [raised, layer.scalar(1, raised)])


@op("log1p")
def log1p(layer: Layer) -> ir.Value:
    x = layer.value(0)
    return layer.final("Log", [layer.step("Add", [x, layer.scalar(1, x)], "sum")])


@cache
def _log_to(base: float) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        logarithm = layer.step("Log", [layer.value(0)], "log")
        return layer.final("Div", [logarithm, layer.scalar(base, logarithm)])

    return build


op("log2")(_log_to(0.6931471805599453))
op("log10")(_log_to(2.302585092994046))


@op("round")
def round_away(layer: Layer) -> ir.Value:
    """Halves go away from zero; ONNX's Round sends them to the even number."""
    x = layer.value(0)
    raised = layer.step("Add", [layer.step("Abs", [x], "abs"), layer.scalar(0.5, x)], "raised")
    return layer.final("Mul", [layer.step("Sign", [x], "sign"), layer.step("Floor", [raised], "floor")])


@op("rint")
def rint(layer: Layer) -> ir.Value:
    """Halves go down."""
    x = layer.value(0)
    return layer.final("Ceil", [layer.step("Sub", [x, layer.scalar(0.5, x)], "lowered")])


@op("fix", "trunc")
def fix(layer: Layer) -> ir.Value:
    x = layer.value(0)
    floor = layer.step("Floor", [layer.step("Abs", [x], "abs")], "floor")
    return layer.final("Mul", [layer.step("Sign", [x], "sign"), floor])


@op("logical_not")
def logical_not(layer: Layer) -> ir.Value:
    x = layer.value(0)
    return _as_number(layer, layer.step("Equal", [x, layer.scalar(0, x)], "truth"), x, negated=False)


@op("clip")
def clip(layer: Layer) -> ir.Value:
    x = layer.value(0)
    low, high = layer.attributes.number("a_min"), layer.attributes.number("a_max")
    return layer.final("Clip", [x, layer.scalar(low, x, "min"), layer.scalar(high, x, "max")])


@op("_mod_scalar", "_ModScalar")
def mod_scalar(layer: Layer) -> ir.Value:
    """The remainder bears the divisor's sign: x − number · ⌊x / number⌋."""
    x = layer.value(0)
    number = layer.scalar(layer.attributes.number("scalar"), x)
    floor = layer.step("Floor", [layer.step("Div", [x, number], "quotient")], "floor")
    return layer.final("Sub", [x, layer.step("Mul", [number, floor], "product")])


@op("where")
def where(layer: Layer) -> ir.Value:
    condition, x, y = layer.value(0), layer.value(1), layer.value(2)
    if condition.dtype != ir.DataType.BOOL:
        condition = layer.step("Cast", [condition], "condition", to=ir.DataType.BOOL.value)
    if layer.rank(condition) == 1 and layer.rank(x) > 1:
        # a truth for each row
        condition = layer.step("Unsqueeze", [condition, layer.ints(range(1, layer.rank(x)), "axes")], "rows")
    return layer.final("Where", [condition, x, y])


@op("Cast", "cast", "amp_cast")
def cast(layer: Layer) -> ir.Value:
    x, dtype = layer.value(0), layer.dtype(layer.attributes.text("dtype"))
    target = ir.DataType.from_numpy(dtype)
    if x.dtype == target:
        return x
    return layer.final("Cast", [x], to=target.value)


@op("identity", "_copy", "BlockGrad", "stop_gradient", "MakeLoss", "make_loss", "IdentityAttachKLSparseReg")
@op("_identity_with_attr_like_rhs")
def passed_on(layer: Layer) -> ir.Value:
    layer.attributes.ignore("grad_scale", "valid_thresh", "normalization", "sparseness_target", "penalty", "momentum")
    return layer.value(0)
