"""`NetworkBuilder`: write an architecture layer by layer, get an ONNX graph.

A node is named after its layer, its output tensor likewise, its initializers ``<layer>.<parameter>``. Spatial
sizes are computed as layers are added, so a network that an image is too small for is refused while it is built.

Running variances start at what the random weights of the layers before are expected to yield. The references start
them at 1, with which an untrained MobileNetV2 yields logits of 1e-9 in inference and a ResNet-50 of 100 and more.
Training normalises by the batch and is not affected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import InputError
from portnet.graph.layers import STAGE_MARK
from portnet.graph.parameters import mark_constant
from portnet.zoo.expected import Expected
from portnet.zoo.init import Init, constant

__all__ = ["NetworkBuilder", "ParameterSource"]

OPSET = 17
IR_VERSION = 10

# (name, shape, rule to draw it by) -> float32 array of that shape
ParameterSource = Callable[[str, tuple[int, ...], Init], np.ndarray]


class NetworkBuilder:
    """Appends layers to an ONNX graph. Tensors are (N, C, H, W) float32 with the batch size free.

    Args:
        name: the graph's name.
        size: height and width of the image, in pixels.
        source: gives each parameter its values.

    Attributes:
        image: the graph's input, ``input`` (N, 3, height, width) float32.
        parameters: shape of every weight, bias and statistic by name, in graph order.
        fixed: names of those that no training moves and whose value is part of the architecture.
    """

    def __init__(self, name: str, size: tuple[int, int], source: ParameterSource) -> None:
        self.image = _value("input", ("N", 3, *size))
        self.parameters: dict[str, tuple[int, ...]] = {}
        self.fixed: set[str] = set()
        self._graph = ir.Graph([self.image], [], nodes=(), opset_imports={"": OPSET}, name=name)
        self._source = source
        self._stage = ""
        self._expected = {self.image: Expected(symmetric=1)}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Mark the layers added inside the ``with`` as belonging to a stage."""
        self._stage = name
        yield
        self._stage = ""

    def finish(self, logits: ir.Value) -> ir.Model:
        """Name the result ``logits``, make it the graph's output, and return the model."""
        logits.name = "logits"
        self._graph.outputs.append(logits)
        return ir.Model(self._graph, ir_version=IR_VERSION, producer_name="portnet")

    # ---- layers with parameters

    def conv(
        self,
        name: str,
        x: ir.Value,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        weight: Init,
        bias: Init | None = None,
    ) -> ir.Value:
        """Square convolution to ``channels``; without a bias when ``bias`` is None."""
        incoming, *spatial = _shape(x)
        shape = (channels, incoming // groups, kernel, kernel)
        inputs = [x, self._parameter(f"{name}.weight", shape, weight)]
        if bias is not None:
            inputs.append(self._parameter(f"{name}.bias", (channels,), bias))
        sizes = [self._window(name, n, kernel, stride, padding) for n in spatial]
        return self._node(
            "Conv",
            name,
            inputs,
            (channels, *sizes),
            self._expected[x].convolved(math.prod(shape[1:]) * weight.variance(shape)),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )

    def batch_norm(
        self,
        name: str,
        x: ir.Value,
        *,
        names: tuple[str, str] = ("weight", "bias"),
        learned: bool = True,
    ) -> ir.Value:
        """Batch normalisation, ε = 1e-5, running ← 0.9 · running + 0.1 · batch.

        Args:
            name: the layer.
            x: what is normalised.
            names: what the reference calls scale and shift.
            learned: whether scale and shift are trained, or stay 1 and 0.
        """
        width = _shape(x)[:1]
        affine = [
            self._parameter(f"{name}.{key}", width, constant(fill)) for key, fill in zip(names, (1, 0), strict=True)
        ]
        if not learned:
            self._fix(affine)
        statistics = [
            self._parameter(f"{name}.running_mean", width, constant(0)),
            self._parameter(f"{name}.running_var", width, constant(self._expected[x].mean_square)),
        ]
        return self._node(
            "BatchNormalization",
            name,
            [x, *affine, *statistics],
            _shape(x),
            Expected(symmetric=1),
            epsilon=1e-5,
            momentum=0.9,
        )

    def dense(self, name: str, x: ir.Value, width: int, *, weight: Init, bias: Init) -> ir.Value:
        """Dense layer on (N, C) to (N, width)."""
        parameters = [
            self._parameter(f"{name}.weight", (width, *_shape(x)), weight),
            self._parameter(f"{name}.bias", (width,), bias),
        ]
        return self._node("Gemm", name, [x, *parameters], (width,), transB=1)

    # ---- layers without

    def relu(self, name: str, x: ir.Value) -> ir.Value:
        """max(x, 0)."""
        return self._node("Relu", name, [x], _shape(x), self._expected[x].rectified())

    def leaky_relu(self, name: str, x: ir.Value, slope: float) -> ir.Value:
        """Where x is negative slope · x, else x."""
        expected = self._expected[x]
        passed = Expected(positive=expected.positive + expected.symmetric * (1 + slope**2) / 2)
        return self._node("LeakyRelu", name, [x], _shape(x), passed, alpha=slope)

    def relu6(self, name: str, x: ir.Value) -> ir.Value:
        """min(max(x, 0), 6)."""
        bounds = [self._constant("relu6.min", 0), self._constant("relu6.max", 6)]
        return self._node("Clip", name, [x, *bounds], _shape(x), self._expected[x].rectified())

    def dropout(self, name: str, x: ir.Value, ratio: float) -> ir.Value:
        """Drop with probability ``ratio`` when training; nothing otherwise."""
        return self._node("Dropout", name, [x, self._constant(f"{name}.ratio", ratio)], _shape(x))

    def max_pool(
        self,
        name: str,
        x: ir.Value,
        kernel: int,
        *,
        stride: int,
        padding: int = 0,
        ceil: bool = False,
    ) -> ir.Value:
        """Square max-pooling; with ``ceil``, a last window that reaches over the edge counts."""
        channels, *spatial = _shape(x)
        sizes = [self._window(name, n, kernel, stride, padding, ceil) for n in spatial]
        return self._node(
            "MaxPool",
            name,
            [x],
            (channels, *sizes),
            self._expected[x].max_pooled(),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            ceil_mode=int(ceil),
        )

    def global_pool(self, name: str, x: ir.Value) -> ir.Value:
        """Mean over height and width, kept as axes of size 1."""
        return self._node("GlobalAveragePool", name, [x], (_shape(x)[0], 1, 1))

    def flatten(self, name: str, x: ir.Value) -> ir.Value:
        """(N, C, H, W) to (N, C · H · W)."""
        return self._node("Flatten", name, [x], (math.prod(_shape(x)),), axis=1)

    def concat(self, name: str, tensors: Sequence[ir.Value]) -> ir.Value:
        """Join along the channels."""
        channels = sum(_shape(x)[0] for x in tensors)
        return self._node("Concat", name, tensors, (channels, *_shape(tensors[0])[1:]), axis=1)

    def add(self, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        """x + y."""
        return self._node("Add", name, [x, y], _shape(x), self._expected[x] + self._expected[y])

    # ---- how

    def _node(
        self,
        op: str,
        name: str,
        inputs: Sequence[ir.Value],
        shape: tuple[int, ...],
        expected: Expected | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Append a node; what is ``expected`` of its output is by default what is of its first input."""
        output = _value(name, ("N", *shape))
        self._expected[output] = expected or self._expected[inputs[0]]
        self._graph.append(
            ir.node(op, inputs, attributes, outputs=[output], name=name, metadata_props={STAGE_MARK: self._stage})
        )
        return output

    def _parameter(self, name: str, shape: tuple[int, ...], init: Init) -> ir.Value:
        self.parameters[name] = shape
        return self._initializer(name, self._source(name, shape, init))

    def _fix(self, values: Sequence[ir.Value]) -> None:
        for value in values:
            mark_constant(value)
            self.fixed.add(value.name or "")

    def _constant(self, name: str, number: float) -> ir.Value:
        known = self._graph.initializers.get(name)
        return known if known is not None else self._initializer(name, np.array(number, np.float32))

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        value = _value(name, array.shape)
        value.const_value = ir.Tensor(array, name=name)
        self._graph.register_initializer(value)
        return value

    def _window(self, name: str, size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
        """Count the windows along an axis, as ONNX's Conv and MaxPool do."""
        room = size + 2 * padding - kernel
        count = room // stride + 1
        if ceil and room % stride and count * stride < size + padding:
            count += 1
        if count < 1:
            _, height, width = _shape(self.image)
            raise InputError(
                f"size: {self._graph.name} got {height}×{width} pixels, too small: {size} reach layer {name!r}, whose "
                f"window has {kernel}. Use larger images."
            )
        return count


def _value(name: str, shape: Sequence[int | str]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def _shape(x: ir.Value) -> tuple[int, ...]:
    """The sizes of a tensor but for its batch."""
    assert x.shape is not None
    return tuple(int(n) for n in x.shape[1:])  # type: ignore[arg-type]
