"""Networks that go from images to tokens and back, as exporters write them: every engine, several batch sizes.

On Keras an image lies channels last and tokens as ONNX has them; where they meet, what moves must move once and right.
"""

import io
import logging
import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import portnet
from portnet.runtime.session import Session

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

HEIGHT, WIDTH = 6, 10
TOKENS = (HEIGHT // 2) * (WIDTH // 2)


class Network(nn.Module):
    """Layers by name, and the function of them and the images that is the network."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def windows(net, x):
    """Shifted windows, then patches merged: Swin's two habits."""
    x = net.patch(x).permute(0, 2, 3, 1)
    _, h, w, c = x.shape
    y = torch.roll(F.pad(net.norm(x), (0, 0, 0, w % 2, 0, h % 2)), (-1, -1), (1, 2))
    _, high, wide, _ = y.shape
    y = y.view(-1, high // 2, 2, wide // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
    q, k, v = net.qkv(y).reshape(-1, 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    y = (torch.softmax(q @ k.transpose(-2, -1) + net.bias, -1) @ v).transpose(1, 2).reshape(-1, 4, c)
    y = y.view(-1, high // 2, wide // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, high, wide, c)
    x = F.pad(x + torch.roll(y, (1, 1), (1, 2))[:, :h, :w], (0, 0, 0, w % 2, 0, h % 2))
    corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    return net.merge(torch.cat(corners, -1)).permute(0, 3, 1, 2)


def mixer(net, x):
    x = net.patch(x).flatten(2).transpose(1, 2)
    x = x + net.along_tokens(net.norm(x).transpose(1, 2)).transpose(1, 2)
    return net.head((x + net.along_channels(x)).mean(1))


def excited(net, x):
    x = F.relu(net.patch(x))
    gates = torch.sigmoid(net.gate(x.mean((2, 3))))[:, :, None, None]
    return F.adaptive_avg_pool2d(x * gates, 1).flatten(1) @ net.weight


def shuffled(net, x):
    x = net.patch(x)
    n, c, h, w = x.shape
    a, b = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).chunk(2, 1)
    return F.pixel_shuffle(torch.cat([a, net.deep(b)], 1), 2)


def pyramid(net, x):
    """Maps brought to each other's sizes, which the file computes from both shapes."""
    fine = F.relu(net.patch(x))
    coarse = F.relu(net.down(fine))
    up = F.interpolate(coarse, size=fine.shape[2:], mode="nearest")
    smooth = F.interpolate(up, size=x.shape[2:], mode="bilinear", align_corners=False)
    boxes = [net.head(m).permute(0, 2, 3, 1).reshape(m.shape[0], -1, 3) for m in (coarse, up + fine, smooth)]
    return torch.cat(boxes, 1)


def encoder(net, x):
    """A class token before the image's, positions, torch's own encoder layer, and back to an image."""
    x = net.patch(x)
    n, c, h, w = x.shape
    x = torch.cat([net.token.expand(n, -1, -1), x.flatten(2).transpose(1, 2)], 1) + net.positions
    x = net.layer(x)
    return net.head(x[:, 0]), net.up(x[:, 1:].transpose(1, 2).reshape(n, c, h, w))


def flattened(net, x):
    """One map flattened in four ways, each before a dense layer."""
    x = F.relu(net.patch(x))
    rows = x.permute(0, 2, 3, 1).reshape(-1, 8)
    return net.all(x.flatten(1)), net.spots(x.flatten(2)), net.rows(rows), net.spots(x.reshape(x.shape[0] * 8, -1))


def _parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def _networks():
    patch = nn.Conv2d(3, 8, 2, 2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    return {
        "windows": Network(
            windows,
            **{"patch": patch, "norm": nn.LayerNorm(8), "qkv": nn.Linear(8, 24)},
            **{"bias": _parameter(1, 2, 4, 4), "merge": nn.Linear(32, 6, bias=False)},
        ),
        "mixer": Network(
            mixer,
            **{"patch": patch, "norm": nn.LayerNorm(8), "head": nn.Linear(8, 3)},
            along_tokens=nn.Sequential(nn.Linear(TOKENS, 6), nn.GELU(), nn.Linear(6, TOKENS)),
            along_channels=nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)),
        ),
        "excited": Network(excited, patch=patch, gate=nn.Linear(8, 8), weight=_parameter(8, 5)),
        "shuffled": Network(shuffled, patch=patch, deep=nn.Conv2d(4, 4, 3, padding=1, groups=4)),
        "pyramid": Network(pyramid, patch=patch, down=nn.Conv2d(8, 8, 3, 2, 1), head=nn.Conv2d(8, 6, 1)),
        "encoder": Network(
            encoder,
            **{"patch": patch, "token": _parameter(1, 1, 8), "positions": _parameter(1, 1 + TOKENS, 8)},
            **{"layer": layer, "head": nn.Linear(8, 3), "up": nn.ConvTranspose2d(8, 3, 2, 2)},
        ),
        "flattened": Network(
            flattened,
            **{"patch": patch, "all": nn.Linear(8 * TOKENS, 4), "spots": nn.Linear(TOKENS, 3), "rows": nn.Linear(8, 5)},
        ),
    }


def _of_torch(network):
    file, example = io.BytesIO(), torch.randn(2, 3, HEIGHT, WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}, "opset_version": 17}
        torch.onnx.export(network.eval(), (example,), file, dynamo=False, **options)
    return portnet.Model.from_bytes(file.getvalue())


def _assert_every_engine_agrees(model):
    session = Session(model)
    generator = np.random.default_rng(0)
    shapes = [[2, *model.inputs[0].shape[1:]], [1, *model.inputs[0].shape[1:]], [5, *model.inputs[0].shape[1:]]]
    batches = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    for engine in portnet.engines.installed():
        lowered = portnet.engine(engine).lower(model)
        for x in batches:
            feeds = {model.inputs[0].name: x}
            expected, found = session.run(feeds), lowered.run(feeds)
            for name, array in expected.items():
                assert found[name].shape == array.shape
                np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=2e-5, err_msg=f"{engine}, {name}")


@pytest.mark.parametrize("name", list(_networks()))
def test_between_images_and_tokens(name):
    torch.manual_seed(0)
    _assert_every_engine_agrees(_of_torch(_networks()[name]))


@pytest.mark.parametrize("d", [6, 8])
def test_rows_of_a_map_before_a_dense_layer_are_no_flattened_images(d):
    """As tf2onnx writes Dense over tokens: to (batch · tokens, channels) and back."""
    generator = np.random.default_rng(1)
    arrays = {
        **{"k": generator.normal(size=(d, 3, 2, 2)).astype(np.float32), "w": generator.normal(size=(d, d))},
        **{"tokens": np.array([-1, 4, d]), "rows": np.array([-1, d])},
    }
    arrays["w"] = arrays["w"].astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], strides=[2, 2]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "tokens"], ["u"]),
        helper.make_node("Transpose", ["u"], ["v"], perm=[0, 2, 1]),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Transpose", ["r"], ["s"], perm=[0, 2, 1]),
        helper.make_node("Add", ["s", "u"], ["a"]),
        helper.make_node("Reshape", ["a", "rows"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["p"]),
        helper.make_node("Reshape", ["p", "tokens"], ["y"]),
    ]
    ports = [("x", ["N", 3, 4, 4]), ("y", ["N", 4, d])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "rows", ports[:1], ports[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _assert_every_engine_agrees(portnet.Model.from_bytes(proto.SerializeToString()))


@pytest.mark.parametrize("attends", [False, True], ids=["dense", "attention"])
def test_a_vision_transformer_of_keras_as_tf2onnx_writes_it(attends):
    keras = pytest.importorskip("keras")
    tf, tf2onnx = pytest.importorskip("tensorflow"), pytest.importorskip("tf2onnx")
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    layers = keras.layers
    images = keras.Input((8, 8, 3))
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 4, strides=4)(images))
    y = layers.LayerNormalization()(x)
    x = x + (layers.MultiHeadAttention(2, 4)(y, y) if attends else layers.Dense(8)(y))
    y = layers.Dense(8)(layers.Dense(16, activation="silu")(layers.LayerNormalization()(x)))
    network = keras.Model(images, layers.Dense(4)(layers.GlobalAveragePooling1D()(x + y)))
    signature = [tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")]
    function = tf.function(lambda x: network(x), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=15)
    _assert_every_engine_agrees(portnet.Model.from_bytes(proto.SerializeToString()))
