"""SqueezeNet 1.0 and 1.1, named as torchvision names them.

Convolutions have no padding but for the expand 3×3, and pooling is 3×3 with stride 2 whose last window may reach
over the edge (Caffe's ceil). At 224 pixels the ceil of version 1.1 changes nothing, at 227 it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portnet.zoo.init import constant, he_uniform, normal
from portnet.zoo.registry import architecture

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder

_PAPER = "Iandola et al. 2016, https://arxiv.org/abs/1602.07360"
# (squeeze, expand) channels of fire2 to fire9; half of the expansion is 1×1, half is 3×3
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


@architecture(
    "squeezenet1_0",
    depth=18,
    parameters=1_248_424,
    feature="features.12.concat",
    head="conv",
    source=f"{_PAPER}; version 1.0 as in torchvision.models.squeezenet1_0",
)
def squeezenet1_0(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """A 7×7 stem of 96 channels; pooling after conv1, fire4 and fire8."""
    return _squeezenet(net, x, classes, stem=(96, 7), pooled=(4, 8))


@architecture(
    "squeezenet1_1",
    depth=18,
    parameters=1_235_496,
    feature="features.12.concat",
    head="conv",
    source=f"{_PAPER}; version 1.1 of https://github.com/forresti/SqueezeNet as in torchvision.models.squeezenet1_1",
)
def squeezenet1_1(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """A 3×3 stem of 64 channels; pooling after conv1, fire3 and fire5: 2.4 times less to compute than 1.0."""
    return _squeezenet(net, x, classes, stem=(64, 3), pooled=(3, 5))


def _squeezenet(
    net: NetworkBuilder, x: ir.Value, classes: int, stem: tuple[int, int], pooled: tuple[int, ...]
) -> ir.Value:
    with net.stage("conv1"):
        x = _conv(net, "features.0", x, *stem, stride=2)
        x = net.relu("features.1", x)
        x = net.max_pool("features.2", x, 3, stride=2, ceil=True)
    place = 3
    for fire, channels in enumerate(_FIRES, start=2):
        with net.stage(f"fire{fire}"):
            x = _fire(net, f"features.{place}", x, *channels)
            place += 1
            if fire in pooled:
                x = net.max_pool(f"features.{place}", x, 3, stride=2, ceil=True)
                place += 1
    with net.stage("conv10"):
        return _classifier(net, x, classes)


def _fire(net: NetworkBuilder, name: str, x: ir.Value, squeeze: int, expand: int) -> ir.Value:
    x = _conv(net, f"{name}.squeeze", x, squeeze, 1)
    x = net.relu(f"{name}.squeeze_activation", x)
    narrow = _conv(net, f"{name}.expand1x1", x, expand, 1)
    narrow = net.relu(f"{name}.expand1x1_activation", narrow)
    wide = _conv(net, f"{name}.expand3x3", x, expand, 3, padding=1)
    wide = net.relu(f"{name}.expand3x3_activation", wide)
    return net.concat(f"{name}.concat", [narrow, wide])


def _classifier(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    x = net.dropout("classifier.0", x, 0.5)
    x = net.conv("classifier.1", x, classes, 1, weight=normal(0.01), bias=constant(0))
    x = net.relu("classifier.2", x)
    return net.flatten("flatten", net.global_pool("classifier.3", x))


def _conv(
    net: NetworkBuilder, name: str, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, padding: int = 0
) -> ir.Value:
    return net.conv(name, x, channels, kernel, stride=stride, padding=padding, weight=he_uniform(), bias=constant(0))
