"""`Head`: the new last layers of a network, a piece of ONNX graph that the core initialises.

Weights come from a seeded generator here and not from a framework, so every engine starts from the same numbers:
Xavier uniform for kernels (Glorot & Bengio 2010: ±√(6 / (fan_in + fan_out))), zeros for biases, identity for
batch normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from portnet.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.finetuning.backbone import Backbone
    from portnet.graph.model import Model

__all__ = ["Head"]

STAGE = "head"
LARGEST_CLASS_COUNT = 1_000_000
LARGEST_WIDTH = 65_536


@dataclass(frozen=True)
class Head:
    """What comes after the backbone's feature tensor. Make one with `linear`, `mlp`, `conv` or `natural`.

    Attributes:
        kind: which of them.
        hidden: widths of an mlp's hidden layers.
        dropout: probability to drop, before each layer with weights (mlp) or the last (linear, conv); 0 for none.
        batch_norm: whether an mlp normalises before each layer with weights.
        relu: whether a conv head clips its class maps at 0, as SqueezeNet's does.
    """

    kind: Literal["linear", "mlp", "conv", "natural"] = "natural"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    batch_norm: bool = False
    relu: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"head: dropout got {self.dropout}, expected 0 ≤ dropout < 1")
        if not all(isinstance(width, Integral) and 1 <= width <= LARGEST_WIDTH for width in self.hidden):
            raise InputError(f"head: hidden got {self.hidden}, expected widths of 1 to {LARGEST_WIDTH:,}")

    @classmethod
    def linear(cls, *, dropout: float = 0.0) -> Head:
        """Global average pooling (of a feature map), then one dense layer."""
        return cls("linear", dropout=dropout)

    @classmethod
    def mlp(cls, hidden: Sequence[int] | int = (512,), *, dropout: float = 0.5, batch_norm: bool = True) -> Head:
        """Global average pooling, then for each width: batch norm, dropout, dense, ReLU; at last batch norm, dropout,
        dense.
        """
        widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        return cls("mlp", widths, dropout, batch_norm)

    @classmethod
    def conv(cls, *, dropout: float = 0.5, relu: bool = True) -> Head:
        """Dropout, 1×1 convolution to the classes, ReLU, global average pooling: SqueezeNet's head."""
        return cls("conv", dropout=dropout, relu=relu)

    @classmethod
    def natural(cls) -> Head:
        """The kind that the architecture has by nature: `conv` for SqueezeNet, `linear` for the others."""
        return cls("natural")

    @classmethod
    def parse(cls, text: str | Head | None) -> Head:
        """Read the command line's form: ``natural``, ``linear``, ``conv``, ``mlp`` or ``mlp:512,256``.

        Raises:
            UnknownNameError: another word.
            InputError: widths that are no numbers.
        """
        if text is None:
            return cls.natural()
        if isinstance(text, Head):
            return text
        if not isinstance(text, str):
            raise InputError(f"head: got a {type(text).__name__}, expected a Head, or text as in 'linear' or 'mlp:512'")
        kind, _, argument = text.partition(":")
        if kind == "mlp":
            widths = argument.split(",") if argument else ["512"]
            if not all(width.strip().isdigit() for width in widths):
                raise InputError(f"head: mlp got {argument!r}, expected widths, e.g. mlp:512 or mlp:512,256")
            return cls.mlp([int(width) for width in widths])
        if kind not in ("natural", "linear", "conv") or argument:
            raise UnknownNameError("head", text, ["natural", "linear", "conv", "mlp:512"])
        return {"natural": cls.natural, "linear": cls.linear, "conv": cls.conv}[kind]()

    def describe(self) -> str:
        """Return the head in one line: the form that `parse` reads, then dropout and batch norm where it has them."""
        name = f"mlp:{','.join(map(str, self.hidden))}" if self.kind == "mlp" else self.kind
        options = [f"dropout {self.dropout:g}"] if self.dropout else []
        return ", ".join([name, *options, *(["batch norm"] if self.batch_norm else [])])

    def attach(self, backbone: Backbone, classes: Sequence[str], seed: int = 0) -> Model:
        """Return the whole network: backbone, this head, and one logit for each class.

        Args:
            backbone: cut at its feature tensor.
            classes: class names, in the order of the logits.
            seed: seed of the head's weights.

        Raises:
            InputError: fewer than two classes, or a head that the feature tensor cannot take.
        """
        if not 2 <= len(classes) <= LARGEST_CLASS_COUNT:
            raise InputError(f"head: got {len(classes)} classes, expected 2 to {LARGEST_CLASS_COUNT:,}")
        model = backbone.model.copy()
        kind = backbone.natural_head if self.kind == "natural" else self.kind
        if kind == "conv" and backbone.feature_rank != 4:
            raise InputError(
                f"head: conv needs a feature map (N, C, H, W), got a tensor of rank {backbone.feature_rank}. "
                "Use linear or mlp."
            )
        writer = _Writer(model, np.random.default_rng([seed, 0x4EAD]))
        feature = model.ir.graph.outputs[0]
        build = {"conv": self._conv, "linear": self._dense, "mlp": self._dense}[kind]
        logits = build(writer, feature, backbone, len(classes))
        _set_output(model, logits, len(classes))
        model.labels = tuple(classes)
        return model

    def _conv(self, writer: _Writer, x: ir.Value, backbone: Backbone, classes: int) -> ir.Value:
        x = writer.dropout("head.dropout", x, 0.5 if self.kind == "natural" else self.dropout)
        x = writer.conv1x1("head.conv", x, backbone.channels, classes)
        if self.relu:
            x = writer.node("Relu", "head.relu", [x])
        return writer.pool(x)

    def _dense(self, writer: _Writer, x: ir.Value, backbone: Backbone, classes: int) -> ir.Value:
        if backbone.feature_rank == 4:
            x = writer.pool(x)
        width = backbone.channels
        for number, hidden in enumerate(self.hidden, 1):
            x = self._regularised(writer, f"{number}", x, width)
            x = writer.dense(f"head.dense{number}", x, width, hidden)
            x = writer.node("Relu", f"head.relu{number}", [x])
            width = hidden
        x = self._regularised(writer, "", x, width)
        return writer.dense("head.dense", x, width, classes)

    def _regularised(self, writer: _Writer, number: str, x: ir.Value, width: int) -> ir.Value:
        if self.batch_norm:
            x = writer.batch_norm(f"head.bn{number}", x, width)
        return writer.dropout(f"head.dropout{number}", x, self.dropout)


class _Writer:
    """Appends a head's nodes and seeded weights to a graph."""

    def __init__(self, model: Model, generator: np.random.Generator) -> None:
        self.graph = model.ir.graph
        self.generator = generator

    def node(self, op: str, name: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        import onnx_ir as ir

        from portnet.graph.layers import STAGE_MARK

        made = ir.node(op, inputs, attributes, name=name, metadata_props={STAGE_MARK: STAGE})
        made.outputs[0].name = name
        made.outputs[0].dtype = ir.DataType.FLOAT
        self.graph.append(made)
        return made.outputs[0]

    def weight(self, name: str, array: np.ndarray) -> ir.Value:
        import onnx_ir as ir

        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.dtype = ir.Shape(array.shape), ir.DataType(value.const_value.dtype)  # type: ignore[union-attr]
        self.graph.register_initializer(value)
        return value

    def xavier(self, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
        bound = math.sqrt(6 / (fan_in + fan_out))
        return self.generator.uniform(-bound, bound, shape).astype(np.float32)

    def dense(self, name: str, x: ir.Value, width: int, out: int) -> ir.Value:
        weight = self.weight(f"{name}.weight", self.xavier((out, width), width, out))
        bias = self.weight(f"{name}.bias", np.zeros(out, np.float32))
        return self.node("Gemm", name, [x, weight, bias], transB=1)

    def conv1x1(self, name: str, x: ir.Value, width: int, out: int) -> ir.Value:
        weight = self.weight(f"{name}.weight", self.xavier((out, width, 1, 1), width, out))
        bias = self.weight(f"{name}.bias", np.zeros(out, np.float32))
        return self.node("Conv", name, [x, weight, bias], kernel_shape=[1, 1])

    def batch_norm(self, name: str, x: ir.Value, width: int) -> ir.Value:
        fills = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        arrays = [self.weight(f"{name}.{key}", np.full(width, fill, np.float32)) for key, fill in fills.items()]
        return self.node("BatchNormalization", name, [x, *arrays], epsilon=1e-5, momentum=0.9)

    def dropout(self, name: str, x: ir.Value, ratio: float) -> ir.Value:
        if not ratio:
            return x
        constant = self.weight(f"{name}.ratio", np.array(ratio, np.float32))
        return self.node("Dropout", name, [x, constant])

    def pool(self, x: ir.Value) -> ir.Value:
        return self.node("Flatten", "head.flatten", [self.node("GlobalAveragePool", "head.pool", [x])], axis=1)


def _set_output(model: Model, logits: ir.Value, classes: int) -> None:
    import onnx_ir as ir

    batch = model.ir.graph.inputs[0].shape[0] if model.ir.graph.inputs[0].shape else "N"
    logits.name = "logits"
    logits.shape = ir.Shape([batch, classes])
    model.ir.graph.outputs[:] = [logits]
