"""Darknet-19 and Darknet-53, named by sections of their .cfg as `portnet.formats.darknet` names them.

Each convolution but the last has no bias, a normalisation and a leaky ReLU of slope 0.1. Darknet normalises with
ε = 1e-5 on a GPU, where the published weights were trained.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from portnet.zoo.init import Init, constant, fan_in_uniform
from portnet.zoo.registry import architecture

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder

_REPOSITORY = "https://github.com/pjreddie/darknet"
_WEIGHTS = "https://pjreddie.com/media/files"
# Darknet-19's convolutions between its poolings; every second has a 1×1 kernel
_STAGES = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))
# Darknet-53's widths, and how many residual blocks each has
_RESIDUAL = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))


@architecture(
    "darknet19",
    depth=19,
    parameters=20_842_376,
    feature="leaky_22",
    source=f"Redmon and Farhadi 2017, https://arxiv.org/abs/1612.08242; as in cfg/darknet19.cfg of {_REPOSITORY}",
    size=(256, 256),
    published=f"{_WEIGHTS}/darknet19.weights",
)
def darknet19(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Six stages of 3×3 convolutions and 1×1 ones in turn, pooled by 2; classes at each place, and their mean."""
    place = 0
    for number, widths in enumerate(_STAGES, start=1):
        with net.stage(f"stage{number}"):
            if number > 1:
                x = net.max_pool(f"pool_{place}", x, 2, stride=2)
                place += 1
            for index, width in enumerate(widths):
                x = _conv(net, place, x, width, 1 if index % 2 else 3)
                place += 1
    with net.stage("classifier"):
        x = net.conv(f"conv_{place}", x, classes, 1, weight=fan_in_uniform(1024), bias=constant(0))
        return net.flatten("flatten", net.global_pool(f"avgpool_{place + 1}", x))


@architecture(
    "darknet53",
    depth=53,
    parameters=41_609_928,
    feature="shortcut_74",
    source=f"Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767; as in cfg/darknet53.cfg of {_REPOSITORY}",
    size=(256, 256),
    published=f"{_WEIGHTS}/darknet53.weights",
)
def darknet53(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Five stages, each a 3×3 convolution of stride 2 and residual blocks of a 1×1 and a 3×3 one; mean, classes."""
    with net.stage("stem"):
        x = _conv(net, 0, x, 32, 3)
    place = 1
    for number, (width, count) in enumerate(_RESIDUAL, start=1):
        with net.stage(f"stage{number}"):
            x = _conv(net, place, x, width, 3, stride=2)
            for first in range(place + 1, place + 1 + 3 * count, 3):
                y = _conv(net, first + 1, _conv(net, first, x, width // 2, 1), width, 3)
                x = net.add(f"shortcut_{first + 2}", y, x)
        place += 1 + 3 * count
    with net.stage("classifier"):
        x = net.global_pool(f"avgpool_{place}", x)
        x = net.conv(f"conv_{place + 1}", x, classes, 1, weight=fan_in_uniform(1024), bias=constant(0))
        return net.flatten("flatten", x)


def _conv(net: NetworkBuilder, place: int, x: ir.Value, width: int, kernel: int, stride: int = 1) -> ir.Value:
    x = net.conv(f"conv_{place}", x, width, kernel, stride=stride, padding=kernel // 2, weight=_normal())
    return net.leaky_relu(f"leaky_{place}", net.batch_norm(f"bn_{place}", x), 0.1)


def _normal() -> Init:
    """Normal with variance 2 / fan_in, as convolutional_layer.c draws."""
    return Init("normal", lambda shape: math.sqrt(2 / math.prod(shape[1:])))
