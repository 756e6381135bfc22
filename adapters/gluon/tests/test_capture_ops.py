"""Every operator that the translator of symbols knows, against MXNet itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from portnet_gluon.compat import mx, npi
from portnet_gluon.source import SymbolSource

from portnet.errors import UnsupportedError
from portnet.formats.mxnet import parse_symbol, translate
from portnet.formats.mxnet.layer import TABLE
from portnet.weights.read import read_weights

S = mx.sym
RNG = np.random.default_rng(0)


def op(name, *inputs, **attributes):
    """A node by its registered name, which Python's own name for it may hide."""
    from mxnet.symbol import _internal

    function = getattr(S, name, None) or getattr(_internal, name, None)
    if function is None:
        _, family, own = name.split("_", 2)
        function = getattr(getattr(S, family), own)
    return function(*inputs, name="y", **attributes)


def x(name="x"):
    return S.var(name)


def case(symbol, *shapes, low=-2.0, high=2.0, integers=0, tolerance=1e-5, dtype="float32", **params):
    return (
        symbol,
        shapes,
        {"low": low, "high": high, "integers": integers, "tolerance": tolerance, "dtype": dtype},
        params,
    )


IMAGE = (2, 6, 9, 8)


def cases():
    def add(label, *args, **keywords):
        found.append(pytest.param(*case(*args, **keywords), id=label))

    found = []
    a, b = x(), x("x2")
    for bias in (True, False):
        add(
            f"Convolution bias={bias}",
            op("Convolution", a, kernel=(3, 2), stride=(2, 1), pad=(1, 0), num_filter=4, no_bias=not bias, num_group=2),
            IMAGE,
        )
    add("Convolution dilated", op("Convolution", a, kernel=(3, 3), dilate=(2, 1), num_filter=3), IMAGE)
    add("Convolution 1D", op("Convolution", a, kernel=(3,), num_filter=3, pad=(1,)), (2, 4, 7))
    add("Convolution 3D", op("Convolution", a, kernel=(3, 2, 2), num_filter=3), (2, 2, 5, 5, 4))
    add(
        "Deconvolution",
        op("Deconvolution", a, kernel=(4, 3), stride=(2, 2), pad=(1, 1), adj=(0, 1), num_filter=4, num_group=2),
        IMAGE,
    )
    add("Deconvolution bias", op("Deconvolution", a, kernel=(3, 3), num_filter=4, no_bias=False), IMAGE)
    add("FullyConnected", op("FullyConnected", a, num_hidden=5), IMAGE)
    add("FullyConnected rows", op("FullyConnected", a, num_hidden=5, flatten=False), (2, 3, 4))
    add("FullyConnected no bias", op("FullyConnected", a, num_hidden=5, flatten=False, no_bias=True), (2, 3, 4))
    add("FullyConnected 2D", op("FullyConnected", a, num_hidden=5, no_bias=True), (3, 4))
    add("BatchNorm", op("BatchNorm", a, fix_gamma=False, eps=1e-4), IMAGE)
    add("BatchNorm defaults", op("BatchNorm", a), IMAGE)
    add("BatchNorm axis=3", op("BatchNorm", a, fix_gamma=False, axis=3), (2, 4, 5, 6))
    add("BatchNorm axis=-1", op("BatchNorm", a, fix_gamma=False, axis=-1), (2, 4, 6))
    add("BatchNorm 2D", op("BatchNorm", a, fix_gamma=False), (3, 6))
    add("BatchNorm_v1", op("BatchNorm_v1", a, fix_gamma=False), IMAGE)
    for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign"):
        add(f"Activation {kind}", op("Activation", a, act_type=kind), IMAGE)
    for kind in ("leaky", "elu", "selu", "gelu", "rrelu"):
        add(f"LeakyReLU {kind}", op("LeakyReLU", a, act_type=kind, slope=0.3)[0], IMAGE)
    add("PReLU", op("LeakyReLU", a, act_type="prelu"), IMAGE)
    add("PReLU of one", op("LeakyReLU", a, act_type="prelu"), IMAGE, y_gamma=(1,))
    add("PReLU of rows", op("LeakyReLU", a, act_type="prelu"), (3, 5))
    for kind in ("max", "avg", "sum", "lp"):
        for convention in ("valid", "full"):
            options = {"p_value": 2} if kind == "lp" else {}
            for kernel, stride, pad in (
                ((3, 3), (2, 2), (1, 1)),
                ((3, 2), (2, 2), (0, 0)),
                ((2, 2), (3, 3), (1, 1)),
                ((4, 4), (3, 3), (1, 1)),
            ):
                if (convention, kernel[0]) == ("full", 2):
                    continue  # a window outside of its input, see below
                add(
                    f"Pooling {kind} {convention} {kernel[0]}/{stride[0]}/{pad[0]}",
                    op(
                        "Pooling",
                        a,
                        kernel=kernel,
                        stride=stride,
                        pad=pad,
                        pool_type=kind,
                        pooling_convention=convention,
                        **options,
                    ),
                    (2, 3, 10, 9),
                    low=0.1,
                )
        options = {"p_value": 2} if kind == "lp" else {}
        add(
            f"Pooling {kind} global",
            op("Pooling", a, pool_type=kind, global_pool=True, kernel=(1, 1), **options),
            IMAGE,
            low=0.1,
        )
    for convention in ("valid", "full"):
        for pad in (0, 1):
            add(
                f"Pooling avg {convention} without padding {pad}",
                op(
                    "Pooling",
                    a,
                    kernel=(3, 3),
                    stride=(2, 2),
                    pad=(pad, pad),
                    pool_type="avg",
                    count_include_pad=False,
                    pooling_convention=convention,
                ),
                (2, 3, 10, 9),
            )
            for kind in ("max", "avg", "sum"):
                add(
                    f"Pooling_v1 {kind} {convention} {pad}",
                    op(
                        "Pooling_v1",
                        a,
                        kernel=(3, 3),
                        stride=(2, 2),
                        pad=(pad, pad),
                        pool_type=kind,
                        pooling_convention=convention,
                    ),
                    (2, 3, 10, 9),
                    low=0.1,
                )
    add("Pooling 1D", op("Pooling", a, kernel=(3,), stride=(2,), pad=(1,), pool_type="avg"), (2, 3, 9))
    add("Pooling 3D", op("Pooling", a, kernel=(2, 2, 2), stride=(2, 2, 2), pool_type="max"), (2, 3, 6, 5, 4))
    add("LRN", op("LRN", a, nsize=5, alpha=0.01, knorm=1.5), IMAGE)
    add("InstanceNorm", op("InstanceNorm", a), IMAGE)
    add("LayerNorm", op("LayerNorm", a), (2, 5, 6))
    add("LayerNorm axis=1", op("LayerNorm", a, axis=1), (2, 5, 6))
    add("GroupNorm", op("GroupNorm", a, num_groups=3), IMAGE)
    for mode in ("instance", "channel", "spatial"):
        add(f"L2Normalization {mode}", op("L2Normalization", a, mode=mode), IMAGE)
    add("Dropout", op("Dropout", a, p=0.4), IMAGE)
    for name in ("softmax", "log_softmax", "softmin"):
        add(name, op(name, a, axis=1), (2, 5, 3))
    add("softmax temperature", op("softmax", a, temperature=2.5), (2, 5, 3))
    add("SoftmaxActivation", op("SoftmaxActivation", a), (2, 5))
    add("SoftmaxActivation channel", op("SoftmaxActivation", a, mode="channel"), IMAGE)
    add("SoftmaxOutput", op("SoftmaxOutput", a, b), (3, 5))
    add("SoftmaxOutput channels", op("SoftmaxOutput", a, b, multi_output=True), IMAGE)
    add("SoftmaxOutput kept", op("SoftmaxOutput", a, b, preserve_shape=True), (2, 3, 4))
    for name in ("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput"):
        add(name, op(name, a * 2, b), (3, 5))
    add("MakeLoss", op("MakeLoss", a * 3), (3, 5))
    add("hard_sigmoid", op("hard_sigmoid", a, alpha=0.3, beta=0.4), (3, 5))
    for name, low, high in (
        ("relu", -2, 2),
        ("sigmoid", -2, 2),
        ("tanh", -2, 2),
        ("exp", -2, 2),
        ("log", 0.1, 2),
        ("sqrt", 0.1, 2),
        ("abs", -2, 2),
        ("negative", -2, 2),
        ("sign", -2, 2),
        ("floor", -2, 2),
        ("ceil", -2, 2),
        ("sin", -2, 2),
        ("cos", -2, 2),
        ("tan", -1, 1),
        ("arcsin", -0.9, 0.9),
        ("arccos", -0.9, 0.9),
        ("arctan", -2, 2),
        ("sinh", -2, 2),
        ("cosh", -2, 2),
        ("arcsinh", -2, 2),
        ("arccosh", 1.1, 3),
        ("arctanh", -0.9, 0.9),
        ("erf", -2, 2),
        ("reciprocal", 0.3, 2),
        ("softsign", -2, 2),
        ("square", -2, 2),
        ("rsqrt", 0.2, 2),
        ("expm1", -1, 1),
        ("log1p", -0.5, 2),
        ("log2", 0.1, 2),
        ("log10", 0.1, 2),
        ("round", -3, 3),
        ("rint", -3, 3),
        ("fix", -3, 3),
        ("trunc", -3, 3),
        ("logical_not", -2, 2),
        ("zeros_like", -2, 2),
        ("ones_like", -2, 2),
    ):
        add(name, op(name, a), (3, 5), low=low, high=high)
    halves = S.var("x") * 0.5
    for name in ("round", "rint", "fix"):
        add(f"{name} of halves", op(name, halves), (40,), integers=9, low=-9)
    for name in (
        "elemwise_add",
        "elemwise_sub",
        "elemwise_mul",
        "elemwise_div",
        "_power",
        "_maximum",
        "_minimum",
        "_equal",
        "_greater",
        "_greater_equal",
        "_lesser",
        "_lesser_equal",
        "_not_equal",
        "_grad_add",
    ):
        add(name, op(name, a, b), (3, 5), (3, 5), low=0.2)
    for name in (
        "add",
        "sub",
        "mul",
        "div",
        "power",
        "maximum",
        "minimum",
        "equal",
        "greater",
        "greater_equal",
        "lesser",
        "lesser_equal",
        "not_equal",
        "plus",
        "minus",
    ):
        add(f"broadcast_{name}", op(f"broadcast_{name}", a, b), (3, 1, 4), (3, 5, 1), low=0.2)
    add("broadcast_equal of integers", op("broadcast_equal", a, b), (3, 5), (3, 5), integers=3)
    for name in (
        "plus",
        "minus",
        "rminus",
        "mul",
        "div",
        "rdiv",
        "maximum",
        "minimum",
        "power",
        "rpower",
        "mod",
        "equal",
        "greater",
        "greater_equal",
        "lesser",
        "lesser_equal",
        "not_equal",
    ):
        add(f"_{name}_scalar", op(f"_{name}_scalar", a, scalar=1.5), (3, 5), low=0.2)
    add("_mod_scalar negative", op("_mod_scalar", a, scalar=0.7), (3, 5))
    add("_PlusScalar", op("_PlusScalar", a, scalar=1.5), (3, 5))
    add("_RDivScalar", op("_RDivScalar", a, scalar=1.5), (3, 5), low=0.2)
    add("add_n", op("add_n", a, b, a), (3, 5), (3, 5))
    add("clip", op("clip", a, a_min=-0.5, a_max=6), (3, 5))
    add("where", op("where", S.var("c") > 0, a, b), (3, 5), (3, 5), (3, 5))
    add("where of rows", op("where", S.var("c") > 0, a, b), (3,), (3, 5), (3, 5))
    add("Cast", op("Cast", S.Cast(a, dtype="int32"), dtype="float32"), (3, 5))
    add("BlockGrad", op("BlockGrad", a * 2), (3, 5))
    for name in ("sum", "mean", "max", "min", "prod", "norm"):
        add(name, op(name, a), (3, 4, 5), tolerance=1e-4)
        add(f"{name} axis", op(name, a, axis=1), (3, 4, 5))
        add(f"{name} axes kept", op(name, a, axis=(1, -1), keepdims=True), (3, 4, 5))
        if name != "norm":
            add(f"{name} excluded", op(name, a, axis=(0,), exclude=True), (3, 4, 5))
    add("norm of order 1", op("norm", a, ord=1, axis=1), (3, 4, 5))
    for name in ("argmax", "argmin"):
        add(name, op(name, a, axis=1), (3, 4, 5))
        add(f"{name} kept", op(name, a, axis=-1, keepdims=True), (3, 4, 5))
        add(f"{name} of all", op(name, a), (3, 4, 5))
    add("argmax_channel", op("argmax_channel", a), (3, 4))
    add("Flatten", op("Flatten", a), IMAGE)
    for shape, given in (
        ((0, -1), IMAGE),
        ((-1, 6), IMAGE),
        ((0, 0, -3), IMAGE),
        ((-2,), IMAGE),
        ((0, -2), IMAGE),
        ((0, -4, 2, 3, -2), IMAGE),
        ((0, -4, -1, 3, -2), IMAGE),
        ((-3, -2), IMAGE),
        ((-3, -3), IMAGE),
        ((-4, 1, -1, -2), IMAGE),
        ((-1, 0, 0, 0), IMAGE),
        ((0, 2, -1), IMAGE),
    ):
        add(f"Reshape {shape}", op("Reshape", a, shape=shape), given)
    add("Reshape reverse", op("Reshape", a, shape=(-1, 0), reverse=True), (8, 3, 4))
    add("Reshape reverse of the batch", op("Reshape", a, shape=(0, 0, -1), reverse=True), (2, 3, 4, 5))
    add("Reshape target", op("Reshape", a, target_shape=(0, 12)), (8, 3, 4))
    add("Reshape keep", op("Reshape", a, target_shape=(7, 0), keep_highest=True), (8, 3, 4))
    add("reshape_like", op("reshape_like", a, b), (2, 6), (2, 3, 2))
    add("transpose", op("transpose", a), (2, 3, 4))
    add("transpose axes", op("transpose", a, axes=(0, 2, 3, 1)), IMAGE)
    add("SwapAxis", op("SwapAxis", a, dim1=1, dim2=3), IMAGE)
    add("expand_dims", op("expand_dims", a, axis=-1), (2, 3))
    add("squeeze", op("squeeze", a, axis=(1,)), (2, 1, 3))
    add("squeeze all", op("squeeze", a), (2, 1, 3, 1))
    add("Concat", op("Concat", a, b, dim=-1), (2, 3, 4), (2, 3, 1))
    add("stack", op("stack", a, b, axis=1), (2, 3), (2, 3))
    add("tile", op("tile", a, reps=(2, 1, 3)), (2, 3, 4))
    add("tile of more axes", op("tile", a, reps=(2, 3, 1, 1)), (2, 4))
    add("reverse", op("reverse", a, axis=(1, 2)), (2, 3, 4))
    add("depth_to_space", op("depth_to_space", a, block_size=2), (2, 8, 3, 4))
    add("space_to_depth", op("space_to_depth", a, block_size=2), (2, 3, 4, 6))
    add("broadcast_to", op("broadcast_to", a, shape=(0, 5, 4)), (2, 1, 4))
    add("broadcast_axis", op("broadcast_axis", a, axis=(1, 2), size=(3, 4)), (2, 1, 1))
    add("broadcast_like", op("broadcast_like", a, b), (2, 1, 4), (2, 3, 4))
    for parts, squeezed in ((3, False), (6, True), (1, False)):
        add(
            f"SliceChannel {parts}",
            S.Group(list(op("SliceChannel", a, num_outputs=parts, squeeze_axis=squeezed))),
            (2, 6, 3),
        )
    add("split_v2", S.Group(list(S.split_v2(a, (1, 3), axis=1))), (2, 6, 3))
    add("split_v2 sections", S.Group(list(S.split_v2(a, 3, axis=1))), (2, 6, 3))
    add("slice_axis", op("slice_axis", a, axis=-1, begin=-3, end=None), (2, 3, 7))
    add("slice_axis negative end", op("slice_axis", a, axis=1, begin=1, end=-1), (2, 5, 7))
    add("slice", op("slice", a, begin=(None, 1), end=(None, 5), step=(1, 2)), (2, 7, 3))
    add("slice backwards", op("slice", a, begin=(None, None), end=(None, None), step=(1, -2)), (2, 7, 3))
    add("slice_like", op("slice_like", a, b, axes=(1, 2)), (2, 5, 6), (3, 4, 2))
    add("slice_like all", op("slice_like", a, b), (2, 5, 6), (2, 4, 2))
    add("Crop", op("Crop", a, offset=(2, 1), h_w=(4, 5)), IMAGE)
    add("Crop like", op("Crop", a, b, center_crop=True, num_args=2), IMAGE, (2, 1, 4, 3))
    widths = ((0, 0), (0, 0), (1, 2), (3, 0))
    padded = npi.pad(a.as_np_ndarray(), pad_width=widths, mode="constant", constant_value=1.5, name="y")
    add("numpy's pad", padded.as_nd_ndarray(), IMAGE)
    n, m = a.as_np_ndarray(), b.as_np_ndarray()
    most = npi.argmax(m, axis=1) + 1  # of whole numbers
    for label, made, *sizes in (
        ("matmul", npi.matmul(n, m, name="y"), (2, 3, 4, 5), (2, 3, 5, 6)),
        ("einsum", npi.einsum(n, m, subscripts="abc,acd->adb", name="y"), (2, 4, 5), (2, 5, 3)),
        ("broadcast_to", npi.broadcast_to(n, shape=(2, 3, 4), name="y"), (2, 1, 4)),
        ("where", npi.where(npi.subtract_scalar(n, scalar=0.5), n, m, name="y"), (2, 3), (2, 3)),
        ("equal", npi.equal(n, n, name="y"), (2, 3)),
        ("logical_not", npi.logical_not(npi.equal(n, m), name="y"), (2, 3), (2, 3)),
        ("isinf", npi.isinf(n, name="y"), (2, 3)),
        ("reshape", npi.reshape(n, newshape=(-2, 2, -1), name="y"), (2, 3, 4)),
        ("argmax", npi.argmax(n, axis=1, name="y"), (2, 5, 3)),
        ("true_divide", npi.true_divide(npi.argmax(n, axis=1), most, name="y"), (2, 5, 3), (2, 5, 3)),
        ("true_divide_scalar", npi.true_divide_scalar(npi.argmax(n, axis=1), scalar=2.0, name="y"), (2, 5, 3)),
        ("zeros", npi.add(n, npi.zeros(shape=(2, 3), dtype="float32"), name="y"), (2, 3)),
    ):
        add(f"numpy's {label}", made.as_nd_ndarray(), *sizes)
    for mode in ("constant", "edge", "reflect"):
        add(f"Pad {mode}", op("Pad", a, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=1.5), IMAGE)
    add("UpSampling", op("UpSampling", a, scale=3, sample_type="nearest"), (2, 3, 4, 5))
    add(
        "UpSampling of two",
        op("UpSampling", a, b, scale=2, sample_type="nearest", num_args=2),
        (2, 3, 4, 4),
        (2, 1, 2, 2),
    )
    for scale in (2, 3):
        add(
            f"UpSampling bilinear {scale}",
            op("UpSampling", a, S.var("w"), scale=scale, sample_type="bilinear", num_filter=3),
            (2, 3, 4, 5),
        )
    for corners in (True, False):
        add(
            f"BilinearResize2D {corners}",
            op("_contrib_BilinearResize2D", a, height=7, width=12, align_corners=corners),
            (2, 3, 4, 5),
        )
    add("BilinearResize2D scale", op("_contrib_BilinearResize2D", a, scale_height=1.5, scale_width=2.0), (2, 3, 4, 5))
    for size in ((1, 1), (3, 2), (4, 3), (2,)):
        add(f"AdaptiveAvgPooling2D {size}", op("_contrib_AdaptiveAvgPooling2D", a, output_size=size), (2, 3, 6, 8))
    add("div_sqrt_dim", op("_contrib_div_sqrt_dim", a), (2, 3, 6))
    add("Embedding", op("Embedding", a, input_dim=7, output_dim=4), (3, 5), integers=7, low=0)
    add("take", op("take", b, a, axis=1), (4,), (3, 5), integers=8, low=-2)
    add("take wrapped", op("take", b, a, axis=0, mode="wrap"), (4,), (3, 5), integers=8, low=-4)
    add("pick", op("pick", a, b, axis=1), (3, 5), (3,), integers=6, low=0)
    add("pick kept", op("pick", a, b, axis=-1, keepdims=True), (3, 5), (3,), integers=6, low=0)
    add("one_hot", op("one_hot", a, depth=6, on_value=2, off_value=-1), (3, 2), integers=6, low=0)
    add("dot", op("dot", a, b), (3, 4), (4, 5))
    add("dot turned", op("dot", a, b, transpose_a=True, transpose_b=True), (4, 3), (5, 4))
    add("dot of three axes", op("dot", a, b), (2, 3, 4), (4, 5))
    add("batch_dot", op("batch_dot", a, b, transpose_b=True), (2, 3, 4), (2, 5, 4))
    add("linalg_gemm2", op("_linalg_gemm2", a, b, transpose_a=True, alpha=0.5), (2, 4, 3), (2, 4, 5))
    add("zeros, ones, full", a + S.zeros((2, 4)) * 3 + S.ones((2, 4)) + S.full((2, 4), 2.5), (2, 4))
    add("arange", S.broadcast_add(a, S.arange(1, 5, 0.5).reshape((1, -1))), (2, 8))
    for mode, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
        for both in (False, True):
            d, h, i = 1 + both, 3, 4
            size = d * gates * h * (i + h + 2) + d * gates * h * (d * h + h + 2)
            states = [S.zeros((2 * d, 2, h))] * (2 if mode == "lstm" else 1)
            add(
                f"RNN {mode} {'both ways' if both else 'forward'}",
                S.RNN(a, S.var("p"), *states, state_size=h, num_layers=2, bidirectional=both, mode=mode, name="y"),
                (5, 2, i),
                p=(size,),
            )
    return found


def arrays_for(symbol, shapes, params):
    """Random parameters, by the shapes that MXNet infers; variances are positive."""
    known = dict(zip([n for n in symbol.list_inputs() if n in ("x", "x2", "c")], [None] * 3, strict=False))
    feeds = dict(zip(ordered(symbol), shapes, strict=False))
    arguments, _, states = symbol.infer_shape(**feeds, **params)
    names = [
        *zip(symbol.list_arguments(), arguments, strict=True),
        *zip(symbol.list_auxiliary_states(), states, strict=True),
    ]
    return {
        name: RNG.uniform(0.3 if "var" in name else -1, 1.5, shape).astype(np.float32)
        for name, shape in names
        if name not in feeds and name not in ("x2", "y_label") and name not in known
    }


def ordered(symbol):
    order = {"c": 0, "x": 1, "x2": 2}
    return sorted((name for name in symbol.list_inputs() if name in order), key=order.get)


def compare(symbol, feeds, arrays, tolerance, batch_free=True):
    parsed = parse_symbol(symbol.tojson(), "test")
    # labels keep the shape that MXNet gives them
    translation = translate(
        parsed,
        arrays,
        source="test",
        shapes={name: array.shape for name, array in feeds.items()},
        dynamic_batch=batch_free,
    )
    model = translation.captured.model
    source = SymbolSource(symbol, arrays, parsed, translation)
    feeds = {name: array for name, array in feeds.items() if name in translation.inputs.values()}
    expected = source.run(feeds)
    got = run(model, feeds)
    assert [port.name for port in model.outputs] == list(expected)
    for value, (name, wanted) in zip(got, expected.items(), strict=True):
        assert value.shape == wanted.shape, name
        assert value.dtype == wanted.dtype, name
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance)
    return model


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def feeds_for(symbol, shapes, options):
    def draw(shape):
        if options["integers"]:
            return RNG.integers(int(options["low"]), options["integers"], shape).astype(options["dtype"])
        return RNG.uniform(options["low"], options["high"], shape).astype(options["dtype"])

    return {name: draw(shape) for name, shape in zip(ordered(symbol), shapes, strict=False)}


@pytest.mark.parametrize(("symbol", "shapes", "options", "params"), cases())
def test_computes_what_mxnet_computes(symbol, shapes, options, params):
    feeds = feeds_for(symbol, shapes, options)
    arrays = arrays_for(symbol, shapes, params)
    # where inputs differ in axis 0, or the axis is not the batch, it is fixed
    free = len({shape[0] for shape in shapes}) == 1 and "zeros" not in symbol.tojson()
    compare(symbol, feeds, arrays, options["tolerance"], free)


def test_a_window_outside_of_its_input_is_refused():
    symbol = op("Pooling", x(), kernel=(2, 2), stride=(3, 3), pad=(1, 1), pooling_convention="full")
    with pytest.raises(UnsupportedError, match=r"Pooling: pooling_convention=full with a window outside.*\(y\)"):
        translate(parse_symbol(symbol.tojson(), "test"), {}, source="test", input_shape=(2, 3, 10, 9))


# MXNet's oneDNN does not run these, its own kernels do
TARGETS = """
import sys, numpy as np
from portnet_gluon.compat import mx, npi
x, w = np.random.default_rng(0).normal(size=(2, 6, 9, 8)), np.random.default_rng(1).normal(size=(6, 3, 4, 4))
arrays = {"x": mx.nd.array(x), "w": mx.nd.array(w)}
for target in ((18, 16), (19, 17)):
    y = mx.sym.Deconvolution(mx.sym.var("x"), mx.sym.var("w"), kernel=(4, 4), stride=(2, 2), target_shape=target,
                             num_filter=3, name="y")
    y.save(f"{sys.argv[1]}/{target[0]}-symbol.json")
    np.save(f"{sys.argv[1]}/{target[0]}.npy", y.bind(mx.cpu(), arrays).forward()[0].asnumpy())
mx.nd.save(f"{sys.argv[1]}/w.params", {"arg:w": arrays["w"], "arg:x": arrays["x"]})
"""


def test_deconvolution_to_a_target(tmp_path):
    environment = {**os.environ, "MXNET_MKLDNN_ENABLED": "0"}
    subprocess.run([sys.executable, "-c", TARGETS, tmp_path], check=True, env=environment)
    arrays = read_weights(tmp_path / "w.params")
    for target in (18, 19):
        symbol = parse_symbol((tmp_path / f"{target}-symbol.json").read_text(), "test")
        weights = {"w": arrays["w"]}
        model = translate(symbol, weights, source="test", input_shape=arrays["x"].shape).captured.model
        (got,) = run(model, {"x": np.array(arrays["x"])})
        np.testing.assert_allclose(got, np.load(tmp_path / f"{target}.npy"), atol=1e-4)


# operators that MXNet 1.9 itself does not have
UNREACHED = {"WarpCTC", "log_sigmoid"}


def test_every_operator_has_a_case():
    reached = {node["op"] for each in cases() for node in json.loads(each.values[0].tojson())["nodes"]}
    builders = {TABLE[name] for name in reached if name in TABLE}
    assert {name for name, builder in TABLE.items() if builder not in builders} == UNREACHED
