"""MobileNetV2, named as torchvision names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portnet.zoo.init import constant, he_normal, normal
from portnet.zoo.registry import architecture

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder

# table 2 of the paper: expansion t, channels c, blocks n, stride of the first s
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@architecture(
    "mobilenet_v2",
    depth=53,
    parameters=3_504_872,
    feature="features.18.2",
    source="Sandler et al. 2018, https://arxiv.org/abs/1801.04381; as in torchvision.models.mobilenet_v2",
)
def mobilenet_v2(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Seventeen inverted residuals between a 3×3 stem and a 1×1 convolution to 1,280 channels."""
    with net.stage("stem"):
        x = _conv_norm_relu6(net, "features.0", x, 32, 3, stride=2)
    place = 1
    for expansion, channels, count, first_stride in _BLOCKS:
        for block in range(count):
            with net.stage(f"block{place}"):
                x = _block(net, f"features.{place}", x, channels, expansion, first_stride if block == 0 else 1)
            place += 1
    with net.stage("conv_last"):
        x = _conv_norm_relu6(net, "features.18", x, 1280, 1)
    with net.stage("classifier"):
        return _classifier(net, x, classes)


def _block(net: NetworkBuilder, name: str, x: ir.Value, channels: int, expansion: int, stride: int) -> ir.Value:
    """Inverted residual: widen by 1×1, filter each channel by 3×3, narrow by 1×1 without activation."""
    incoming = int(x.shape[1])  # type: ignore[index, arg-type]
    wide, y, step = incoming * expansion, x, 0
    if expansion > 1:
        y, step = _conv_norm_relu6(net, f"{name}.conv.0", y, wide, 1), 1
    y = _conv_norm_relu6(net, f"{name}.conv.{step}", y, wide, 3, stride=stride, groups=wide)
    y = _conv(net, f"{name}.conv.{step + 1}", y, channels, 1)
    y = net.batch_norm(f"{name}.conv.{step + 2}", y)
    return net.add(f"{name}.add", x, y) if stride == 1 and incoming == channels else y


def _conv_norm_relu6(
    net: NetworkBuilder, name: str, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> ir.Value:
    x = _conv(net, f"{name}.0", x, channels, kernel, stride=stride, groups=groups)
    return net.relu6(f"{name}.2", net.batch_norm(f"{name}.1", x))


def _conv(
    net: NetworkBuilder, name: str, x: ir.Value, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> ir.Value:
    return net.conv(name, x, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, weight=he_normal())


def _classifier(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    x = net.flatten("flatten", net.global_pool("avgpool", x))
    x = net.dropout("classifier.0", x, 0.2)
    return net.dense("classifier.1", x, classes, weight=normal(0.01), bias=constant(0))
