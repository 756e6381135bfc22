"""ResNet, second version (normalisation and activation before the convolution), named as Gluon's parameters are.

Gluon begins with a batch norm of the image whose scale and shift are fixed at 1 and 0. They are parameters in
Gluon's own count, which also includes running statistics: 11,695,796 = 11,687,848 that are trained
+ 7,942 running statistics + 6 that are fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portnet.zoo.init import constant, fan_in_uniform, he_normal
from portnet.zoo.registry import architecture

if TYPE_CHECKING:
    import onnx_ir as ir

    from portnet.zoo.build import NetworkBuilder


@architecture(
    "resnet18_v2",
    depth=18,
    parameters=11_695_796,
    feature="features.10",
    source="He et al. 2016, https://arxiv.org/abs/1603.05027; as in mxnet.gluon.model_zoo.vision.resnet18_v2",
)
def resnet18_v2(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    """Four stages of two pre-activation blocks."""
    with net.stage("stem"):
        x = _norm(net, "features.0", x, learned=False)
        x = _conv(net, "features.1", x, 64, 7, stride=2)
        x = net.relu("features.3", _norm(net, "features.2", x))
        x = net.max_pool("features.4", x, 3, stride=2, padding=1)
    for number in range(1, 5):
        with net.stage(f"layer{number}"):
            x = _block(net, f"features.{number + 4}.0", x, 32 << number, 1 if number == 1 else 2)
            x = _block(net, f"features.{number + 4}.1", x, 32 << number, 1)
    with net.stage("layer4"):
        x = net.relu("features.10", _norm(net, "features.9", x))
    with net.stage("output"):
        return _classifier(net, x, classes)


def _block(net: NetworkBuilder, name: str, x: ir.Value, channels: int, stride: int) -> ir.Value:
    """The shortcut is projected from the activation where the stride is 2, else it is the input itself."""
    shortcut = x
    x = net.relu(f"{name}.relu1", _norm(net, f"{name}.bn1", x))
    if stride > 1:
        shortcut = _conv(net, f"{name}.downsample", x, channels, 1, stride=stride)
    x = _conv(net, f"{name}.conv1", x, channels, 3, stride=stride)
    x = net.relu(f"{name}.relu2", _norm(net, f"{name}.bn2", x))
    x = _conv(net, f"{name}.conv2", x, channels, 3)
    return net.add(f"{name}.add", x, shortcut)


def _norm(net: NetworkBuilder, name: str, x: ir.Value, *, learned: bool = True) -> ir.Value:
    return net.batch_norm(name, x, names=("gamma", "beta"), learned=learned)


def _conv(net: NetworkBuilder, name: str, x: ir.Value, channels: int, kernel: int, *, stride: int = 1) -> ir.Value:
    return net.conv(name, x, channels, kernel, stride=stride, padding=kernel // 2, weight=he_normal())


def _classifier(net: NetworkBuilder, x: ir.Value, classes: int) -> ir.Value:
    x = net.flatten("features.12", net.global_pool("features.11", x))
    fan_in = int(x.shape[1])  # type: ignore[index, arg-type]
    return net.dense("output", x, classes, weight=fan_in_uniform(fan_in), bias=constant(0))
