"""Which array of a file is which initializer of a network, where a framework names and lays them out otherwise.

A `KeyMap` is a plain table. Layouts: Keras keeps kernels as (H, W, in, out), depthwise ones as
(H, W, channels, multiplier) and dense ones as (in, out); the networks here as (out, in, H, W), (channels ×
multiplier, 1, H, W) and (out, in), as ONNX wants them. Keras' names of layers are those of ``keras.applications``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from portnet.graph.metadata import Preprocessing
from portnet.weights.convention import Convention

__all__ = ["KeyMap", "Target", "key_maps", "recognise"]

Layout = Callable[[np.ndarray], np.ndarray]

_REFERENCE = Convention()


@dataclass(frozen=True)
class Target:
    """An initializer's name, and how the file's array becomes it."""

    name: str
    layout: Layout


@dataclass(frozen=True)
class KeyMap:
    """How the names of one family of files become those of one network.

    Attributes:
        name: what the family is, for messages.
        network: name of the zoo's network.
        targets: name in the file → initializer. Several spellings of one array may stand in it.
        convention: how the network that they were trained in computes. Weights fit a network of their own
            convention alone, though every shape fits another too.
        preprocessing: what those weights expect, or None for the network's own.
    """

    name: str
    network: str
    targets: Mapping[str, Target] = field(repr=False)
    convention: Convention = _REFERENCE
    preprocessing: Preprocessing | None = None


def recognise(names: Collection[str], network: str) -> KeyMap | None:
    """Return the key map that knows every one of ``names``, or None."""
    fitting = (each for each in key_maps() if each.network == network and set(names) <= each.targets.keys())
    return next(fitting, None) if names else None


@cache
def key_maps() -> tuple[KeyMap, ...]:
    """Return all key maps."""
    return (
        KeyMap("Keras SqueezeNet 1.1", "squeezenet1_1", _keras(_squeezenet()), preprocessing=_CAFFE),
        KeyMap("Keras MobileNetV2", "mobilenet_v2", _keras(_mobilenet()), _KERAS_MOBILENET, _TF),
        KeyMap("Keras ResNet50", "resnet50", _keras(_resnet50()), _KERAS_RESNET, _CAFFE),
        KeyMap("Gluon ResNet-18 v2 by prefix", "resnet18_v2", dict(_gluon_resnet18_v2())),
        KeyMap("timm MobileNetV2", "mobilenet_v2", _torch(_timm_mobilenet())),
        KeyMap("Hugging Face ResNet-18", "resnet18", _torch(_hugging_face_resnet((2, 2, 2, 2), 2, False))),
        KeyMap("Hugging Face ResNet-50", "resnet50", _torch(_hugging_face_resnet((3, 4, 6, 3), 3, True))),
    )


# keras.applications.imagenet_utils' modes "caffe" and "tf"
_CAFFE = Preprocessing(color="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
_TF = Preprocessing(scale=127.5, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0))

# keras/src/applications/mobilenet_v2.py and resnet.py
_KERAS_MOBILENET = Convention("Keras", epsilon=1e-3, pads_end=True)
_KERAS_RESNET = Convention("Keras", epsilon=1.001e-5, strides_first=True)


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _convolution(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim != 4:
        return kernel
    height, width, channels, multiplier = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def _dense(kernel: np.ndarray) -> np.ndarray:
    return kernel.T


# kind of Keras layer -> its variables in order: Keras' names for it, the name here, the layout
_Variables = tuple[tuple[tuple[str, ...], str, Layout], ...]
_BIAS = (("bias",), "bias", _same)
_KINDS: dict[str, _Variables] = {
    "conv": ((("kernel",), "weight", _convolution), _BIAS),
    "depthwise": ((("depthwise_kernel", "kernel"), "weight", _depthwise), _BIAS),
    "dense": ((("kernel",), "weight", _dense), _BIAS),
    "norm": (
        (("gamma",), "weight", _same),
        (("beta",), "bias", _same),
        (("moving_mean",), "running_mean", _same),
        (("moving_variance",), "running_var", _same),
    ),
}

# layer in the file, kind, prefix of the names here
_Layer = tuple[str, str, str]


def _keras(layers: Iterator[_Layer]) -> dict[str, Target]:
    """Spell out each variable of each layer by its names and, as Keras 3 does, by its number."""
    return {
        f"{layer}/{key}": Target(f"{prefix}.{name}", layout)
        for layer, kind, prefix in layers
        for index, (keys, name, layout) in enumerate(_KINDS[kind])
        for key in (*keys, str(index))
    }


# what torch calls a layer's arrays
_TORCH = {"conv": ("weight",), "dense": ("weight", "bias"), "norm": ("weight", "bias", "running_mean", "running_var")}


def _torch(layers: Iterator[_Layer]) -> dict[str, Target]:
    """Spell out each array of each layer, which lie alike on both sides."""
    return {
        f"{layer}.{name}": Target(f"{prefix}.{name}", _same) for layer, kind, prefix in layers for name in _TORCH[kind]
    }


def _timm_mobilenet() -> Iterator[_Layer]:
    """timm/models/_efficientnet_blocks.py: DepthwiseSeparableConv and InvertedResidual."""
    yield "conv_stem", "conv", "features.0.0"
    yield "bn1", "norm", "features.0.1"
    place = 1
    for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(count):
            source, prefix = f"blocks.{stage}.{block}", f"features.{place}.conv"
            steps = ("conv_dw", "conv_pw") if stage == 0 else ("conv_pw", "conv_dw", "conv_pwl")
            for number, convolution in enumerate(steps, start=1):
                last = number == len(steps)
                yield f"{source}.{convolution}", "conv", f"{prefix}.{number - 1}" + ("" if last else ".0")
                yield f"{source}.bn{number}", "norm", f"{prefix}.{number}" if last else f"{prefix}.{number - 1}.1"
            place += 1
    yield "conv_head", "conv", "features.18.0"
    yield "bn2", "norm", "features.18.1"
    yield "classifier", "dense", "classifier.1"


def _hugging_face_resnet(counts: tuple[int, ...], convolutions: int, projects_first: bool) -> Iterator[_Layer]:
    """transformers/models/resnet/modeling_resnet.py, where a block's stride is in its 3×3 convolution."""
    yield "resnet.embedder.embedder.convolution", "conv", "conv1"
    yield "resnet.embedder.embedder.normalization", "norm", "bn1"
    for stage, count in enumerate(counts):
        for block in range(count):
            source, prefix = f"resnet.encoder.stages.{stage}.layers.{block}", f"layer{stage + 1}.{block}"
            for number in range(convolutions):
                yield f"{source}.layer.{number}.convolution", "conv", f"{prefix}.conv{number + 1}"
                yield f"{source}.layer.{number}.normalization", "norm", f"{prefix}.bn{number + 1}"
            if block == 0 and (stage or projects_first):
                yield f"{source}.shortcut.convolution", "conv", f"{prefix}.downsample.0"
                yield f"{source}.shortcut.normalization", "norm", f"{prefix}.downsample.1"
    yield "classifier.1", "dense", "fc"


def _squeezenet() -> Iterator[_Layer]:
    yield "conv1", "conv", "features.0"
    for fire, place in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):
        for layer, name in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            yield f"fire{fire}/{layer}", "conv", f"features.{place}.{name}"
    yield "conv10", "conv", "classifier.1"


def _mobilenet() -> Iterator[_Layer]:
    yield "Conv1", "conv", "features.0.0"
    yield "bn_Conv1", "norm", "features.0.1"
    yield from _bottleneck("expanded_conv", "features.1.conv", (("depthwise", "0"), ("project", "1")))
    steps = (("expand", "0"), ("depthwise", "1"), ("project", "2"))
    for block in range(1, 17):
        yield from _bottleneck(f"block_{block}", f"features.{block + 1}.conv", steps)
    yield "Conv_1", "conv", "features.18.0"
    yield "Conv_1_bn", "norm", "features.18.1"
    yield "predictions", "dense", "classifier.1"


def _bottleneck(block: str, prefix: str, steps: tuple[tuple[str, str], ...]) -> Iterator[_Layer]:
    """The last convolution and its norm stand side by side, those before it are pairs of their own."""
    for step, place in steps:
        last = step == "project"
        kind = "depthwise" if step == "depthwise" else "conv"
        yield f"{block}_{step}", kind, f"{prefix}.{place}" if last else f"{prefix}.{place}.0"
        yield f"{block}_{step}_BN", "norm", f"{prefix}.{int(place) + 1}" if last else f"{prefix}.{place}.1"


def _resnet50() -> Iterator[_Layer]:
    yield "conv1_conv", "conv", "conv1"
    yield "conv1_bn", "norm", "bn1"
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            source, prefix = f"conv{stage + 1}_block{block + 1}", f"layer{stage}.{block}"
            if block == 0:
                yield f"{source}_0_conv", "conv", f"{prefix}.downsample.0"
                yield f"{source}_0_bn", "norm", f"{prefix}.downsample.1"
            for number in (1, 2, 3):
                yield f"{source}_{number}_conv", "conv", f"{prefix}.conv{number}"
                yield f"{source}_{number}_bn", "norm", f"{prefix}.bn{number}"
    yield "predictions", "dense", "fc"


def _gluon_resnet18_v2() -> Iterator[tuple[str, Target]]:
    """Names from before MXNet 1.3 (``stage1_conv0_weight``), with and without the network's prefix."""
    norm, kernel = ("gamma", "beta", "running_mean", "running_var"), ("weight",)
    for layer, place, variables in _gluon_layers():
        for variable in variables or (norm if "batchnorm" in layer else kernel):
            for prefix in ("", "resnetv20_"):
                yield f"{prefix}{layer}_{variable}", Target(f"{place}.{variable}", _same)


def _gluon_layers() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    yield "batchnorm0", "features.0", ()
    yield "conv0", "features.1", ()
    yield "batchnorm1", "features.2", ()
    for stage in (1, 2, 3, 4):
        convolutions = iter(range(5))
        for block in (0, 1):
            place = f"features.{stage + 4}.{block}"
            for number in (1, 2):
                yield f"stage{stage}_batchnorm{2 * block + number - 1}", f"{place}.bn{number}", ()
                yield f"stage{stage}_conv{next(convolutions)}", f"{place}.conv{number}", ()
            if stage > 1 and block == 0:
                yield f"stage{stage}_conv{next(convolutions)}", f"{place}.downsample", ()
    yield "batchnorm2", "features.9", ()
    yield "dense0", "output", ("weight", "bias")
