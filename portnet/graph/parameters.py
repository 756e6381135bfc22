"""What each initializer is for: a weight, a bias, a running statistic or a constant.

Engines, policies and counts all ask here, so that "trainable" has one meaning. An initializer is trainable when
it is floating point and feeds a place in `PLACES`, or the elementwise Add/Mul/Sub/Div of a weight-like array,
directly or through ops that only move it about (`LAYOUT_OPS`); values that came from ``Constant`` nodes (unless all of
a file's weights do, `portnet.graph.adoption`) or from folding are constants wherever they are used.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection

import onnx_ir as ir

__all__ = [
    "CONSTANT_MARK",
    "FLOATS",
    "LAYOUT_OPS",
    "PLACES",
    "ROLE_MARK",
    "Role",
    "mark_constant",
    "mark_learned",
    "roles",
]

# metadata key on a Value that says: not a parameter, whatever it feeds
CONSTANT_MARK = "portnet.constant"

# metadata key on a Value that holds its role by name, settled before ops were rewritten
ROLE_MARK = "portnet.role"


class Role(enum.Enum):
    """What an initializer is for."""

    WEIGHT = "weight"
    BIAS = "bias"
    NORM_SCALE = "norm scale"
    NORM_BIAS = "norm bias"
    STATISTIC = "statistic"
    CONSTANT = "constant"

    @property
    def trainable(self) -> bool:
        """Whether an optimizer may move it."""
        return self not in (Role.STATISTIC, Role.CONSTANT)

    @property
    def decays(self) -> bool:
        """Whether weight decay applies by default: to weights, not to biases and norms."""
        return self is Role.WEIGHT


_ROLES = Role.__members__

_NORM = {1: Role.NORM_SCALE, 2: Role.NORM_BIAS}
_RECURRENT = {1: Role.WEIGHT, 2: Role.WEIGHT, 3: Role.BIAS, 7: Role.WEIGHT}

# op type -> {input index: role}
PLACES: dict[str, dict[int, Role]] = {
    "Conv": {1: Role.WEIGHT, 2: Role.BIAS},
    "ConvTranspose": {1: Role.WEIGHT, 2: Role.BIAS},
    "DeformConv": {1: Role.WEIGHT, 3: Role.BIAS},
    "Gemm": {0: Role.WEIGHT, 1: Role.WEIGHT, 2: Role.BIAS},
    "MatMul": {0: Role.WEIGHT, 1: Role.WEIGHT},
    "Einsum": {0: Role.WEIGHT, 1: Role.WEIGHT},
    "Gather": {0: Role.WEIGHT},
    "PRelu": {1: Role.WEIGHT},
    "BatchNormalization": {**_NORM, 3: Role.STATISTIC, 4: Role.STATISTIC},
    "InstanceNormalization": _NORM,
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "RMSNormalization": {1: Role.NORM_SCALE},
    "RNN": {1: Role.WEIGHT, 2: Role.WEIGHT, 3: Role.BIAS},
    "GRU": {1: Role.WEIGHT, 2: Role.WEIGHT, 3: Role.BIAS},
    "LSTM": _RECURRENT,
    # onnxruntime's own
    "FusedConv": {1: Role.WEIGHT, 2: Role.BIAS},
    "FusedGemm": {0: Role.WEIGHT, 1: Role.WEIGHT, 2: Role.BIAS},
    "FusedMatMul": {0: Role.WEIGHT, 1: Role.WEIGHT},
    "BiasGelu": {1: Role.BIAS},
    "FastGelu": {1: Role.BIAS},
    "SkipLayerNormalization": {2: Role.NORM_SCALE, 3: Role.NORM_BIAS, 4: Role.BIAS},
    "SimplifiedLayerNormalization": {1: Role.NORM_SCALE},
    "SkipSimplifiedLayerNormalization": {2: Role.NORM_SCALE, 3: Role.BIAS},
    "EmbedLayerNormalization": {
        **dict.fromkeys((2, 3, 4), Role.WEIGHT),
        5: Role.NORM_SCALE,
        6: Role.NORM_BIAS,
    },
    "MultiHeadAttention": {3: Role.BIAS},
    "com.microsoft.Attention": {1: Role.WEIGHT, 2: Role.BIAS},
}
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})

# ops whose output holds the same numbers in another place, shape or float type, or others beside them
LAYOUT_OPS = frozenset(
    {
        "Cast",
        "CastLike",
        "Concat",
        "Expand",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_MAX_LAYOUT_VALUES = 64
# names that exporters give to what they computed: torch's two exporters, tf2onnx, onnxruntime's and onnx's tools
_MADE_UP = re.compile(r"^_|^val_\d|^onnx::|^/|^\d+$|_output_\d+$|const|lifted|scalar", re.IGNORECASE)
_ELEMENTWISE = {"Add": Role.BIAS, "Sub": Role.BIAS, "Mul": Role.WEIGHT, "Div": Role.WEIGHT}
# element types of what may train
FLOATS = {
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
    ir.DataType.DOUBLE,
}


def mark_constant(value: ir.Value) -> None:
    """Say that an initializer is no parameter (it came from a Constant node or from folding)."""
    value.metadata_props[CONSTANT_MARK] = "1"


def mark_learned(model: ir.Model, names: Collection[str]) -> None:
    """Say of initializers that they train where their use does not tell: one number is else taken for a constant.

    Whole numbers, places in an axis or the like, never do.
    """
    for name, role in roles(model).items():
        value = model.graph.initializers[name]
        if role is Role.CONSTANT and name in names and value.dtype in FLOATS:
            value.metadata_props[ROLE_MARK] = Role.BIAS.name


def roles(model: ir.Model) -> dict[str, Role]:
    """Return the role of every initializer of the main graph by name, in graph order."""
    return {name: _role(value) for name, value in model.graph.initializers.data.items()}


def _role(value: ir.Value) -> Role:
    marks = value.metadata_props
    pinned = _ROLES.get(marks.get(ROLE_MARK, ""))
    if pinned is not None:
        return pinned
    if value.dtype not in FLOATS and (value.const_value is None or value.const_value.dtype not in FLOATS):
        return Role.CONSTANT
    if CONSTANT_MARK in marks:
        return Role.CONSTANT
    return _role_of_uses(value, value, set())


def _is_learned_elementwise(value: ir.Value) -> bool:
    """Whether an operand of Add, Sub, Mul or Div is a parameter: a bias, a scale, a position embedding.

    No number is one. A vector is. An array of more axes is one unless an exporter made its name up: then it is a grid
    of anchors or the like, which the exporter folded, and training must not move it.
    """
    tensor = value.const_value
    long_axes = 0 if tensor is None else sum(n > 1 for n in tensor.shape.numpy())
    return long_axes == 1 or (long_axes > 1 and _MADE_UP.search(value.name or "") is None)


def _role_of_uses(value: ir.Value, initializer: ir.Value, seen: set[ir.Value]) -> Role:
    """Return the first role that a use of ``value`` gives, in which ``initializer`` is moved about."""
    seen.add(value)
    for node, index in value.uses():
        role = _place(node, index, initializer, seen)
        if role is not Role.CONSTANT:
            return role
    return Role.CONSTANT


def _place(node: ir.Node, index: int, initializer: ir.Value, seen: set[ir.Value]) -> Role:
    if node.domain not in _DOMAINS:
        return Role.CONSTANT
    places = PLACES.get(f"{node.domain}.{node.op_type}" if node.domain else "", PLACES.get(node.op_type))
    if places is not None and index in places:
        return places[index]
    if node.op_type in _ELEMENTWISE and _is_learned_elementwise(initializer):
        return _ELEMENTWISE[node.op_type]
    if _moves_floats(node, index) and len(seen) < _MAX_LAYOUT_VALUES:
        found = (_role_of_uses(output, initializer, seen) for output in node.outputs if output not in seen)
        return next((role for role in found if role is not Role.CONSTANT), Role.CONSTANT)
    return Role.CONSTANT


def _moves_floats(node: ir.Node, index: int) -> bool:
    if node.op_type not in LAYOUT_OPS or (index > 0 and node.op_type != "Concat"):
        return False
    return node.op_type != "Cast" or node.attributes.get_int("to", 0) in {dtype.value for dtype in FLOATS}
