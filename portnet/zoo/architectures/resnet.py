"""ResNet, first version (normalisation and activation after the convolution), named as torchvision names it.

ResNet-50 has the stride in a block's 3×3 convolution, as torchvision and NVIDIA have it ("v1.5"); the paper and
Keras have it in the first 1×1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portnet.zoo.init import fan_in_uniform, he_normal
from portnet.zoo.registry import architecture

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder

    # (net, name, x, width, stride, whether the shortcut is projected) → y
    Block = Callable[[NetworkBuilder, str, ir.Value, int, int, bool], ir.Value]

_PAPER = "He et al. 2016, https://arxiv.org/abs/1512.03385"


@architecture(
    "resnet18",
    depth=18,
    parameters=11_689_512,
    feature="layer4.1.relu2",
    source=f"{_PAPER}; as in torchvision.models.resnet18",
)
def resnet18(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Four stages of two basic blocks."""
    return _resnet(net, x, classes, _basic, (2, 2, 2, 2), projects_first=False)


@architecture(
    "resnet50",
    depth=50,
    parameters=25_557_032,
    feature="layer4.2.relu3",
    source=f"{_PAPER}; as in torchvision.models.resnet50, with the stride in the 3×3 convolutions",
)
def resnet50(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Four stages of three, four, six and three bottleneck blocks."""
    return _resnet(net, x, classes, _bottleneck, (3, 4, 6, 3), projects_first=True)


def _resnet(
    net: NetworkBuilder, x: ir.Value, classes: int, block: Block, counts: tuple[int, ...], projects_first: bool
) -> ir.Value:
    with net.stage("stem"):
        x = _conv_norm(net, "conv1", "bn1", x, 64, 7, stride=2)
        x = net.max_pool("maxpool", net.relu("relu", x), 3, stride=2, padding=1)
    for number, count in enumerate(counts, start=1):
        with net.stage(f"layer{number}"):
            for index in range(count):
                stride = 2 if number > 1 and index == 0 else 1
                projects = index == 0 and (number > 1 or projects_first)
                x = block(net, f"layer{number}.{index}", x, 32 << number, stride, projects)
    with net.stage("fc"):
        return _classifier(net, x, classes)


def _basic(net: NetworkBuilder, name: str, x: ir.Value, width: int, stride: int, projects: bool) -> ir.Value:
    y = _conv_norm(net, f"{name}.conv1", f"{name}.bn1", x, width, 3, stride=stride)
    y = net.relu(f"{name}.relu1", y)
    y = _conv_norm(net, f"{name}.conv2", f"{name}.bn2", y, width, 3)
    shortcut = _project(net, name, x, width, stride) if projects else x
    return net.relu(f"{name}.relu2", net.add(f"{name}.add", y, shortcut))


def _bottleneck(net: NetworkBuilder, name: str, x: ir.Value, width: int, stride: int, projects: bool) -> ir.Value:
    y = _conv_norm(net, f"{name}.conv1", f"{name}.bn1", x, width, 1)
    y = net.relu(f"{name}.relu1", y)
    y = _conv_norm(net, f"{name}.conv2", f"{name}.bn2", y, width, 3, stride=stride)
    y = net.relu(f"{name}.relu2", y)
    y = _conv_norm(net, f"{name}.conv3", f"{name}.bn3", y, 4 * width, 1)
    shortcut = _project(net, name, x, 4 * width, stride) if projects else x
    return net.relu(f"{name}.relu3", net.add(f"{name}.add", y, shortcut))


def _project(net: NetworkBuilder, name: str, x: ir.Value, channels: int, stride: int) -> ir.Value:
    return _conv_norm(net, f"{name}.downsample.0", f"{name}.downsample.1", x, channels, 1, stride=stride)


def _conv_norm(
    net: NetworkBuilder, conv: str, norm: str, x: ir.Value, channels: int, kernel: int, *, stride: int = 1
) -> ir.Value:
    x = net.conv(conv, x, channels, kernel, stride=stride, padding=kernel // 2, weight=he_normal())
    return net.batch_norm(norm, x)


def _classifier(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    x = net.flatten("flatten", net.global_pool("avgpool", x))
    fan_in = int(x.shape[1])  # type: ignore[index, arg-type]
    return net.dense("fc", x, classes, weight=fan_in_uniform(fan_in), bias=fan_in_uniform(fan_in))
