"""Operations that torch's exporter would decompose, or write with detours, in one ONNX node each.

Functions are called by torch's exporter while it builds the graph: tensors are symbolic, the rest are Python values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20 as op

__all__ = ["TABLE"]

_aten = torch.ops.aten
TABLE: dict[Any, Callable[..., Any]] = {}


def _translates(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(targets, function))
        return function

    return register


def _constant(array: Any, dtype: Any = np.float32) -> Any:
    return op.Constant(value=ir.tensor(np.asarray(array, dtype)))


def _each(numbers: int | Sequence[int], count: int) -> list[int]:
    """Return one number for each of ``count`` axes: torch lets one stand for all."""
    given = [numbers] if isinstance(numbers, int) else list(numbers)
    return given * count if len(given) == 1 else given


def _spatial(weight: Any) -> list[int]:
    return [int(size) for size in weight.shape[2:]]


# ---- convolutions: no bias where there is none


@_translates(_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default)
def _convolution(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    kernel = _spatial(weight)
    pads = _each(padding, len(kernel))
    return _conv(input, weight, bias, stride, pads + pads, dilation, groups)


@_translates(_aten.conv1d.padding, _aten.conv2d.padding, _aten.conv3d.padding)
def _padded_convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: str = "valid",
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    kernel = _spatial(weight)
    spread = [d * (k - 1) for k, d in zip(kernel, _each(dilation, len(kernel)), strict=True)]
    totals = spread if padding == "same" else [0] * len(kernel)
    pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    return _conv(input, weight, bias, stride, pads, dilation, groups)


def _conv(input: Any, weight: Any, bias: Any, stride: Any, pads: list[int], dilation: Any, groups: int) -> Any:
    kernel = _spatial(weight)
    inputs = (input, weight) if bias is None else (input, weight, bias)
    return op.Conv(
        *inputs,
        strides=_each(stride, len(kernel)),
        pads=pads,
        dilations=_each(dilation, len(kernel)),
        group=groups,
        kernel_shape=kernel,
    )


@_translates(_aten.conv_transpose1d.default, _aten.conv_transpose2d.input, _aten.conv_transpose3d.input)
def _transposed_convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    kernel = _spatial(weight)
    inputs = (input, weight) if bias is None else (input, weight, bias)
    pads = _each(padding, len(kernel))
    return op.ConvTranspose(
        *inputs,
        strides=_each(stride, len(kernel)),
        pads=pads + pads,
        output_padding=_each(output_padding, len(kernel)),
        dilations=_each(dilation, len(kernel)),
        group=groups,
        kernel_shape=kernel,
    )


# ---- casts, which only torch.export's own form has


@_translates(_aten.to.dtype)
def _cast(input: Any, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: Any = None) -> Any:
    return op.Cast(input, to=dtype)


@_translates(_aten.to.dtype_layout)
def _cast_and_moved(input: Any, dtype: int | None = None, **elsewhere: Any) -> Any:
    return op.Identity(input) if dtype is None else op.Cast(input, to=dtype)


# ---- what training needs and inference does not


@_translates(_aten.dropout.default)
def _dropout(input: Any, p: float, train: bool) -> Any:
    results = op.Dropout(input, _constant(p))
    return results[0] if isinstance(results, Sequence) else results  # the mask is not read


@_translates(_aten.batch_norm.default)
def _batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    if running_mean is None:
        return _normalized_over_batch(input, weight, bias, eps)
    shape, dtype = [int(running_mean.shape[0])], running_mean.dtype.numpy()
    weight = _constant(np.ones(shape), dtype) if weight is None else weight
    bias = _constant(np.zeros(shape), dtype) if bias is None else bias
    # torch's momentum is the batch's share, ONNX's the old statistic's
    return op.BatchNormalization(
        input, weight, bias, running_mean, running_var, epsilon=eps, momentum=round(1 - momentum, 7)
    )


def _normalized_over_batch(input: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Each channel less its mean, over its deviation: weight standardisation (Qiao et al. 2019) is written so."""
    rank = len(input.shape)
    axes, shape = _constant([0, *range(2, rank)], np.int64), _constant([-1] + [1] * (rank - 2), np.int64)
    centred = op.Sub(input, op.ReduceMean(input, axes))
    variance = op.ReduceMean(op.Mul(centred, centred), axes)
    result = op.Div(centred, op.Sqrt(op.Add(variance, _constant(eps, input.dtype.numpy()))))
    result = result if weight is None else op.Mul(result, op.Reshape(weight, shape))
    return result if bias is None else op.Add(result, op.Reshape(bias, shape))


# ---- pooling and shapes


@_translates(_aten.reshape_as.default, _aten.view_as.default)
def _shaped_as(self: Any, other: Any) -> Any:
    return op.Reshape(self, op.Shape(other))


@_translates(_aten.adaptive_avg_pool1d.default, _aten.adaptive_avg_pool2d.default, _aten.adaptive_avg_pool3d.default)
def _adaptive_average_pool(self: Any, output_size: Sequence[int | None]) -> Any:
    """Windows are equal where sizes divide; else each output is its own mean, as one product with a constant."""
    sizes = _each(output_size, len(self.shape) - 2)  # type: ignore[arg-type]
    if all(size == 1 for size in sizes):
        return op.GlobalAveragePool(self)
    before = [int(size) for size in self.shape[2:]]
    after = [old if new is None else int(new) for old, new in zip(before, sizes, strict=True)]
    if before == after:
        return op.Identity(self)
    if all(old % new == 0 for old, new in zip(before, after, strict=True)):
        windows = [old // new for old, new in zip(before, after, strict=True)]
        return op.AveragePool(self, kernel_shape=windows, strides=windows)
    result, rank = self, len(self.shape)
    for axis, (old, new) in enumerate(zip(before, after, strict=True), start=2):
        order = [*(a for a in range(rank) if a != axis), axis]
        back = [order.index(a) for a in range(rank)]
        moved = op.Transpose(result, perm=order) if axis != rank - 1 else result
        product = op.MatMul(moved, _constant(_means(old, new)))
        result = op.Transpose(product, perm=back) if axis != rank - 1 else product
    return result


@_translates(_aten.adaptive_max_pool1d.default)
def _adaptive_max_pool1d(self: Any, output_size: Sequence[int | None]) -> tuple[Any, Any]:
    return _adaptive_max_pool(self, output_size, 1)


@_translates(_aten.adaptive_max_pool2d.default)
def _adaptive_max_pool2d(self: Any, output_size: Sequence[int | None]) -> tuple[Any, Any]:
    return _adaptive_max_pool(self, output_size, 2)


@_translates(_aten.adaptive_max_pool3d.default)
def _adaptive_max_pool3d(self: Any, output_size: Sequence[int | None]) -> tuple[Any, Any]:
    return _adaptive_max_pool(self, output_size, 3)


def _adaptive_max_pool(self: Any, output_size: Sequence[int | None], rank: int) -> tuple[Any, Any]:
    """Windows are equal where sizes divide, and tell places too; else the maxima of each axis in turn, places −1."""
    if len(self.shape) == rank + 1:  # no batch
        first = _constant([0], np.int64)
        results = _adaptive_max_pool(op.Unsqueeze(self, first), output_size, rank)
        return op.Squeeze(results[0], first), op.Squeeze(results[1], first)
    sizes = _each(output_size, rank)  # type: ignore[arg-type]
    if all(size == 1 for size in sizes) and not all(isinstance(size, int) for size in self.shape[2:]):
        return _placeless(op.GlobalMaxPool(self))
    before = [int(size) for size in self.shape[2:]]
    after = [old if new is None else int(new) for old, new in zip(before, sizes, strict=True)]
    if all(old % new == 0 for old, new in zip(before, after, strict=True)):
        windows = [old // new for old, new in zip(before, after, strict=True)]
        values, places = op.MaxPool(self, kernel_shape=windows, strides=windows)
        # ONNX counts through the whole tensor, torch through each channel
        return values, op.Mod(places, _constant(math.prod(before), np.int64))
    result = self
    for axis, (old, new) in enumerate(zip(before, after, strict=True), start=2):
        if old == new:
            continue
        along = _constant([axis], np.int64)
        bounds = [(_constant([b], np.int64), _constant([e], np.int64)) for b, e in _windows(old, new)]
        parts = [op.ReduceMax(op.Slice(result, begin, end, along), along) for begin, end in bounds]
        result = op.Concat(*parts, axis=axis)
    return _placeless(result)


def _placeless(values: Any) -> tuple[Any, Any]:
    return values, op.ConstantOfShape(op.Shape(values), value=ir.tensor(np.array([-1], np.int64)))


def _windows(old: int, new: int) -> list[tuple[int, int]]:
    """Return the bounds of adaptive pooling: window i is entries ⌊i·old/new⌋ to ⌈(i+1)·old/new⌉ − 1."""
    return [(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]


def _means(old: int, new: int) -> np.ndarray:
    """Return the (old, new) matrix whose column i averages window i."""
    matrix = np.zeros((old, new), np.float64)
    for column, (begin, end) in enumerate(_windows(old, new)):
        matrix[begin:end, column] = 1 / (end - begin)
    return matrix


@_translates(_aten.flatten.using_ints)
def _flatten(self: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    rank = len(self.shape)
    start, end = start_dim % max(rank, 1), end_dim % max(rank, 1)
    if start == 1 and end == rank - 1 and rank > 1:
        return op.Flatten(self, axis=1)
    if rank == 0 or (start == 0 and end == rank - 1):
        return op.Reshape(self, _constant([-1], np.int64))
    kept = [0] * start + [-1]
    if end == rank - 1:
        return op.Reshape(self, _constant(kept, np.int64))
    tail = op.Shape(self, start=end + 1)
    return op.Reshape(self, op.Concat(_constant(kept, np.int64), tail, axis=0))


@_translates(_aten.swapaxes.default, _aten.swapdims.default)
def _swapaxes(self: Any, axis0: int, axis1: int) -> Any:
    order = list(range(len(self.shape)))
    order[axis0], order[axis1] = order[axis1], order[axis0]
    return op.Transpose(self, perm=order)


@_translates(_aten.sort.stable)
def _stable_sort(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """TopK takes the first of equal numbers first, so that its order is a stable one."""
    axis = dim % max(len(self.shape), 1)
    size = op.Shape(self, start=axis, end=axis + 1)
    return op.TopK(self, size, axis=axis, largest=int(descending), sorted=1)


# ---- activations


@_translates(_aten.relu6.default)
def _relu6(self: Any) -> Any:
    return _clip(self, 0.0, 6.0)


@_translates(_aten.hardtanh.default)
def _hardtanh(self: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    return _clip(self, min_val, max_val)


def _clip(value: Any, low: float, high: float) -> Any:
    dtype = value.dtype.numpy()
    return op.Clip(value, _constant(low, dtype), _constant(high, dtype))


@_translates(_aten.hardsigmoid.default)
def _hardsigmoid(self: Any) -> Any:
    return op.HardSigmoid(self, alpha=1 / 6, beta=0.5)


@_translates(_aten.rsub.Scalar)
def _rsub(self: Any, other: float, alpha: float = 1) -> Any:
    return op.Sub(_constant(other, self.dtype.numpy()), self if alpha == 1 else op.Mul(self, alpha))


@_translates(_aten.square.default)
def _square(self: Any) -> Any:
    return op.Mul(self, self)


# ---- attention


@_translates(_aten.scaled_dot_product_attention.default)
def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(q·kᵀ·scale + mask)·v, scale 1/√d by default (Vaswani et al. 2017); 0 where all is masked, as in torch."""
    dtype, rank = query.dtype.numpy(), len(query.shape)
    if enable_gqa:
        key, value = _repeated(key, query), _repeated(value, query)
    factor = float(scale) if scale is not None else 1 / float(query.shape[-1]) ** 0.5
    turned = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(query, _constant(factor, dtype)), turned)
    if is_causal:
        lengths = op.Concat(op.Shape(query, start=-2, end=-1), op.Shape(key, start=-2, end=-1), axis=0)
        later = op.Trilu(op.Expand(_constant(-np.inf, dtype), lengths), _constant(1, np.int64), upper=1)
        scores = op.Add(scores, later)
    elif attn_mask is not None and attn_mask.dtype == ir.DataType.BOOL:
        lowest = _constant(np.finfo(dtype).min, dtype)
        weights = op.Softmax(op.Where(attn_mask, scores, lowest), axis=-1)
        return op.MatMul(op.Where(attn_mask, weights, _constant(0, dtype)), value)
    elif attn_mask is not None:
        scores = op.Add(scores, attn_mask)
        largest = op.ReduceMax(scores, _constant([-1], np.int64), keepdims=1)
        nowhere = op.Equal(largest, _constant(-np.inf, dtype))
        return op.MatMul(op.Where(nowhere, _constant(0, dtype), op.Softmax(scores, axis=-1)), value)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _repeated(tensor: Any, query: Any) -> Any:
    """Repeat the heads of a key or value until there are as many as the query has (grouped-query attention)."""
    heads, wanted = int(tensor.shape[-3]), int(query.shape[-3])
    if heads == wanted:
        return tensor
    return op.Gather(tensor, _constant(np.repeat(np.arange(heads), wanted // heads), np.int64), axis=-3)
