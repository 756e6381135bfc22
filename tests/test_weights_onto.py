"""Weights of any file onto a network of the zoo: its answers are those of the framework that the file is from."""

import json
import struct

import numpy as np
import pytest
from caffe_files import caffemodel, conv, draw, layer, net
from zoo_references import mxnet, torchvision_models

from portnet import zoo
from portnet.errors import InputError, ParityError, WeightsError
from portnet.finetuning.backbone import Backbone
from portnet.formats.opencv import open_with_opencv
from portnet.graph.cut import cut
from portnet.graph.model import Model
from portnet.matching import match_weights
from portnet.runtime.session import Session
from portnet.zoo import registry
from portnet.zoo.init import constant, he_normal

torch = pytest.importorskip("torch")
SIZE = 32


# ---- a small network with what makes matching hard: a projection whose shape is that of the last convolution beside it


def bottleneck(net, x, classes):
    def unit(name, norm, x, width, kernel, stride=1):
        x = net.conv(name, x, width, kernel, stride=stride, padding=kernel // 2, weight=he_normal())
        return net.batch_norm(norm, x)

    x = net.relu("relu", unit("conv1", "bn1", x, 8, 3, 2))
    y = net.relu("layer1.0.relu1", unit("layer1.0.conv1", "layer1.0.bn1", x, 8, 1))
    y = net.relu("layer1.0.relu2", unit("layer1.0.conv2", "layer1.0.bn2", y, 8, 3, 2))
    y = unit("layer1.0.conv3", "layer1.0.bn3", y, 16, 1)
    shortcut = unit("layer1.0.downsample.0", "layer1.0.downsample.1", x, 16, 1, 2)
    x = net.relu("layer1.0.relu3", net.add("layer1.0.add", y, shortcut))
    x = net.flatten("flatten", net.global_pool("pool", x))
    return net.dense("fc", x, classes, weight=he_normal(), bias=constant(0))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Register the small network."""
    registry._discover()
    entry = registry.ZooEntry("small", 5, 0, "layer1.0.relu3", "linear", "these tests", (SIZE, SIZE), bottleneck)
    table = {**registry._discover(), "small": entry}
    monkeypatch.setattr(registry, "_discover", lambda: table)


class Block(torch.nn.Module):
    """The same in torch, under names of its own; ``names`` are the projection's and the order of registration."""

    def __init__(self, projection="shortcut", projects_first=False, classes=5, strides=(1, 2)):
        super().__init__()
        make = torch.nn.Conv2d
        self.stem, self.stem_norm = make(3, 8, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(8)
        units = [(8, 8, 1, strides[0]), (8, 8, 3, strides[1]), (8, 16, 1, 1)]
        body = [
            torch.nn.Sequential(make(i, o, k, s, k // 2, bias=False), torch.nn.BatchNorm2d(o)) for i, o, k, s in units
        ]
        project = torch.nn.Sequential(make(8, 16, 1, 2, bias=False), torch.nn.BatchNorm2d(16))
        parts = {"body": torch.nn.ModuleList(body), projection: project}
        for name in sorted(parts, key=lambda name: (name == "body") is projects_first):
            self.add_module(name, parts[name])
        self.out = torch.nn.Linear(16, classes) if classes else torch.nn.Identity()
        self.project = [project]

    def forward(self, x):
        x = torch.relu(self.stem_norm(self.stem(x)))
        y = x
        for place, unit in enumerate(self.body):
            y = unit(y) if place == 2 else torch.relu(unit(y))
        return self.out(torch.relu(y + self.project[0](x)).mean((2, 3)))


def stirred(network):
    """A torch network in inference whose arrays are all their own, with the statistics of two images."""
    generator = torch.Generator().manual_seed(0)
    for array in network.parameters():
        if array.ndim == 1:
            array.data.add_(torch.empty_like(array).normal_(0, 0.2, generator=generator))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(images(64)))
    return network.eval()


def images(size=SIZE):
    """Two images that have little in common."""
    noise = np.random.default_rng(0).standard_normal((2, 3, size, size), np.float32)
    noise[1] = 4 * np.abs(noise[1])
    return noise


def answers(network, size=SIZE):
    with torch.no_grad():
        return network(torch.from_numpy(images(size))).numpy()


def assert_same(model, expected, size=SIZE):
    got = Session(model, provider="cpu").run({"input": images(size)})["logits"]
    assert got.shape == expected.shape
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()  # they depend on the image
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def save(path, network):
    torch.save(network.state_dict() if isinstance(network, torch.nn.Module) else network, path)
    return path


# ---- bare arrays


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_renamed_arrays_of_torchvision_go_by_shape_and_order(name, tmp_path):
    network = stirred(getattr(torchvision_models(), name)(weights=None, num_classes=7))
    renamed = {f"net.{key.replace('layer', 'stage').replace('features', 'body')}": array
               for key, array in network.state_dict().items()}  # fmt: skip
    renamed = {key.replace("fc.", "head.").replace("conv1", "c1"): array for key, array in renamed.items()}
    model, report = zoo.load_with_report(name, save(tmp_path / "own.pth", renamed), size=64)
    assert_same(model, answers(network, 64), 64)
    assert report.rules == {"order": len(report.matches)}
    assert "strides" in report.notes[0]


@pytest.mark.parametrize("projects_first", [False, True])
def test_a_projection_is_told_by_its_name_or_by_its_place(projects_first, tmp_path):
    network = stirred(Block("shortcut", projects_first))
    assert_same(zoo.load("small", save(tmp_path / "own.pth", network)), answers(network))
    # before the convolutions it is the only one of its shape that could come next, whatever it is called
    network = stirred(Block("side", projects_first))
    path = save(tmp_path / "side.pth", network)
    if projects_first:
        assert_same(zoo.load("small", path), answers(network))
    else:
        with pytest.raises(WeightsError, match=r"'body.2.0.weight'.* may be 'layer1.0.conv3.weight' or 'layer1.0.down"):
            zoo.load("small", path)


def test_prefixes_and_wrappers_are_seen_through(tmp_path):
    source = zoo.load("small", None, num_classes=4, seed=3)
    arrays = {key: torch.from_numpy(array.copy()) for key, array in source.weights().items()}
    lightning = {
        "epoch": 3,
        "state_dict": {"loss.table": torch.zeros(2), **{f"model.{k}": a for k, a in arrays.items()}},
    }
    model, report = zoo.load_with_report("small", save(tmp_path / "lightning.ckpt", lightning))
    assert model.digest() == source.digest()
    assert [(left.name, left.why) for left in report.unused] == [("loss.table", "not under 'model.'")]
    twice = {f"{prefix}{key}": array for prefix in ("model.", "ema.") for key, array in arrays.items()}
    with pytest.raises(WeightsError, match=r"2 times, under 'model\.' and 'ema\.'"):
        zoo.load("small", save(tmp_path / "ema.pth", twice))


def test_timm_s_names_are_known_in_any_order(tmp_path):
    torchvision_models()
    timm = pytest.importorskip("timm")
    safetensors = pytest.importorskip("safetensors.torch")
    network = stirred(timm.create_model("mobilenetv2_100", num_classes=9))
    safetensors.save_file(network.state_dict(), tmp_path / "own.safetensors")
    model, report = zoo.load_with_report("mobilenet_v2", tmp_path / "own.safetensors", size=64)
    assert_same(model, answers(network, 64), 64)
    assert report.rules == {"convention": 262}


def test_order_of_the_alphabet_is_no_order(tmp_path):
    arrays = dict(sorted(stirred(Block()).state_dict().items()))
    with pytest.raises(WeightsError, match="order of the alphabet"):
        zoo.load("small", save(tmp_path / "own.pth", arrays))


def test_names_without_a_role_are_refused(tmp_path):
    np.savez(tmp_path / "own.npz", *[array.numpy() for array in Block().state_dict().values()])
    with pytest.raises(WeightsError, match=r"'arr_0'.* tells neither layer nor role"):
        zoo.load("small", tmp_path / "own.npz")


def test_a_bias_that_the_network_lacks_is_another_edition(tmp_path):
    state = Block().state_dict()
    arrays = {}
    for key, array in state.items():
        arrays[key] = array
        if key == "stem.weight":
            arrays["stem.bias"] = torch.zeros(8)
    with pytest.raises(WeightsError, match=r"'stem\.bias'.*another edition"):
        zoo.load("small", save(tmp_path / "own.pth", arrays))


def test_the_first_pair_that_differs_is_named(tmp_path):
    network = Block()
    network.body[1][0] = torch.nn.Conv2d(8, 8, 5, 2, 2, bias=False)
    path = save(tmp_path / "own.pth", network)
    with pytest.raises(WeightsError, match=r"'body\.1\.0\.weight' of shape \(8, 8, 5, 5\), expected 'layer1\.0\.conv2"):
        zoo.load("small", path)
    other = {key: torch.from_numpy(a.copy()) for key, a in zoo.load("small", None, num_classes=3).weights().items()}
    with pytest.raises(WeightsError, match=r"'fc\.weight' got shape \(3, 16\), expected \(8, 16\).*backbone_only"):
        zoo.load("small", save(tmp_path / "three.pth", other), num_classes=8)


# ---- heads


def test_a_head_may_be_another_or_missing(tmp_path):
    network = stirred(Block(classes=0))
    path = save(tmp_path / "none.pth", network)
    with pytest.raises(WeightsError, match=r"'fc.weight'.*backbone_only=True"):
        zoo.load("small", path)
    model, report = zoo.load_with_report("small", path, num_classes=6, backbone_only=True)
    assert [left.name for left in report.unfilled] == ["fc.weight", "fc.bias"]
    assert model.outputs[0].shape == ("N", 6)
    expected = answers(network)
    feature = Session(Backbone.of("small", weights=path).model, provider="cpu").run({"input": images()})
    [feature] = feature.values()
    np.testing.assert_allclose(feature.mean((2, 3)), expected, atol=1e-5)
    with_head = stirred(Block(classes=11))
    assert zoo.load("small", save(tmp_path / "eleven.pth", with_head)).outputs[0].shape == ("N", 11)
    assert Backbone.of("small", weights=tmp_path / "eleven.pth").channels == 16


# ---- files that tell their network


def onnx_file(path, network, size=SIZE):
    """Torch's own older exporter, with its names thrown away and BatchNorm kept."""
    torch.onnx.export(
        network, torch.zeros(1, 3, size, size), path, dynamo=False, opset_version=17, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE, keep_initializers_as_inputs=False, input_names=["image"],
    )  # fmt: skip
    model = Model.load(path)
    for number, value in enumerate(list(model.ir.graph.initializers.values())):
        value.name = f"w{number}"
    model.save(path)
    return path


def test_an_onnx_file_goes_by_its_graph(tmp_path):
    network = stirred(Block("side"))
    path = onnx_file(tmp_path / "own.onnx", network)
    model, report = zoo.load_with_report("small", path)
    assert_same(model, answers(network))
    assert report.rules == {"graph": 27}
    assert match_weights("small", path).difference < 1e-5
    torch.onnx.export(network, torch.zeros(1, 3, SIZE, SIZE), tmp_path / "folded.onnx", dynamo=False)
    with pytest.raises(WeightsError, match=r"expected BatchNorm 'bn1'.*folded"):
        zoo.load("small", tmp_path / "folded.onnx")


def test_strides_that_shapes_do_not_tell_are_followed_where_an_edition_is_known_and_refused_else(tmp_path):
    network = stirred(Block("side", strides=(2, 1)))
    path = onnx_file(tmp_path / "first.onnx", network)
    model, report = zoo.load_with_report("small", path)
    assert_same(model, answers(network))
    assert "first convolution" in " ".join(report.notes)
    network.stem.stride = 1
    path = onnx_file(tmp_path / "other.onnx", network)
    with pytest.raises(WeightsError, match=r"strides \(1, 1\), not \(2, 2\).*against 'conv1'"):
        zoo.load("small", path)


def test_a_torch_program_goes_by_its_graph(tmp_path):
    network = stirred(Block("side"))
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "own.pt2")
    model, report = zoo.load_with_report("small", tmp_path / "own.pt2")
    assert_same(model, answers(network))
    assert set(report.rules) == {"graph"}


def keras_block(stem=2):
    keras = pytest.importorskip("keras")
    layers = keras.layers

    def unit(x, width, kernel, stride):
        x = layers.Conv2D(width, kernel, stride, padding="same")(x)
        return layers.BatchNormalization(epsilon=1e-3)(x)

    image = keras.Input((SIZE, SIZE, 3))
    x = layers.ReLU()(unit(image, 8, 3, stem))
    y = layers.ReLU()(unit(x, 8, 1, 1))
    y = layers.ReLU()(unit(y, 8, 3, 2))
    y = unit(y, 16, 1, 1)
    x = layers.ReLU()(layers.Add()([unit(x, 16, 1, 2), y]))
    x = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(image, x)
    generator = np.random.default_rng(1)
    for variable in network.variables:
        low = 0.5 if variable.path.endswith(("gamma", "variance")) else -0.2
        if len(variable.shape) == 1:
            variable.assign(generator.uniform(low, 1.5 if low > 0 else 0.2, variable.shape))
    return network


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_files_go_by_their_graph_biases_paddings_and_epsilon_included(tmp_path, suffix):
    network = keras_block()
    network.save(tmp_path / f"own{suffix}")
    model, report = zoo.load_with_report("small", tmp_path / f"own{suffix}")
    logits = Session(model, provider="cpu").run({"input": images()})["logits"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    expected = np.asarray(network(images().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected, atol=1e-5)
    assert "epsilon, 0.001" in " ".join(report.notes)
    assert any(match.note.startswith("less") for match in report.matches)
    keras_block(stem=1).save(tmp_path / f"strided{suffix}")
    with pytest.raises(WeightsError, match=r"strides \(1, 1\), not \(2, 2\)"):
        zoo.load("small", tmp_path / f"strided{suffix}")


def gluon_network(name, size):
    mx = mxnet()
    from mxnet.gluon.model_zoo import vision

    network = getattr(vision, name)()
    network.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    network.hybridize()
    network(mx.nd.zeros((1, 3, size, size)))
    generator = np.random.default_rng(1)
    for key, parameter in network.collect_params().items():
        array = parameter.data().asnumpy()
        if array.ndim == 1:
            array = (
                generator.uniform(0.5, 1.5, array.shape)
                if "var" in key
                else array + generator.normal(0, 0.1, array.shape)
            )
            parameter.set_data(mx.nd.array(array))
    return network, network(mx.nd.array(images(size))).asnumpy()


@pytest.mark.parametrize(
    ("theirs", "ours", "size"), [("squeezenet1_1", "squeezenet1_1", 224), ("resnet18_v1", "resnet18", 64)]
)
def test_gluon_s_files_by_order_and_by_their_symbol(tmp_path, theirs, ours, size):
    network, expected = gluon_network(theirs, size)
    network.save_parameters(str(tmp_path / "bare.params"))
    network.export(str(tmp_path / "whole"))
    for file, rule in (("bare.params", "order"), ("whole-0000.params", "graph"), ("whole-symbol.json", "graph")):
        model, report = zoo.load_with_report(ours, tmp_path / file, size=size)
        assert set(report.rules) == {rule}
        assert_same(model, expected, size)


def caffe_block(project="stride: 2", first="stride: 2", second="pad: 1"):
    def unit(name, bottom, width, kernel, more):
        options = f"num_output: {width} kernel_size: {kernel} bias_term: false {more}"
        yield conv(name, bottom, options)
        yield layer(f"bn_{name}", "BatchNorm", name, batch_norm_param="eps: 1e-5")
        yield layer(f"scale_{name}", "Scale", f"bn_{name}", scale_param="bias_term: true")

    def relu(name):
        return layer(f"relu_{name}", "ReLU", name, name)

    text = net(
        (1, 3, SIZE, SIZE),
        *unit("stem", "data", 8, 3, "stride: 2 pad: 1"), relu("scale_stem"),
        *unit("a", "scale_stem", 8, 1, first), relu("scale_a"),
        *unit("b", "scale_a", 8, 3, second), relu("scale_b"),
        *unit("c", "scale_b", 16, 1, ""),
        *unit("p", "scale_stem", 16, 1, project),
        layer("sum", "Eltwise", ["scale_p", "scale_c"]), relu("sum"),
        layer("pool", "Pooling", "sum", pooling_param="pool: AVE kernel_size: 8"),
        layer("ip", "InnerProduct", "pool", inner_product_param="num_output: 5"),
    )  # fmt: skip
    shapes = {"stem": (8, 3, 3), "a": (8, 8, 1), "b": (8, 8, 3), "c": (16, 8, 1), "p": (16, 8, 1)}
    wanted = {"ip": [(5, 16), (5,)]}
    for name, (out, into, kernel) in shapes.items():
        wanted |= {
            name: [(out, into, kernel, kernel)],
            f"bn_{name}": [(out,), (out,), (1,)],
            f"scale_{name}": [(out,)] * 2,
        }
    order = [f"{kind}{name}" for name in shapes for kind in ("", "bn_", "scale_")] + ["ip"]
    return text, {name: wanted[name] for name in order}


def test_caffe_s_files_by_prototxt_and_without(tmp_path):
    text, shapes = caffe_block()
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(draw(shapes)))
    expected = open_with_opencv("caffe", tmp_path / "net.prototxt", tmp_path / "net.caffemodel", None)
    [expected] = expected.run({"data": images()}).values()
    for file in ("net.prototxt", "net.caffemodel"):
        model, report = zoo.load_with_report("small", tmp_path / file)
        assert set(report.rules) == {"graph"}
        assert_same(model, expected)
    # alone, the last convolution and the projection are told apart by nothing
    (tmp_path / "alone.caffemodel").write_bytes(caffemodel(draw(shapes)))
    with pytest.raises(WeightsError, match=r"'c/0'.* may be 'layer1.0.conv3.weight'"):
        zoo.load("small", tmp_path / "alone.caffemodel")
    # with a name they are, and the strides are this network's, which the file cannot deny
    text, shapes = caffe_block(first="", second="pad: 1 stride: 2")
    named = {name.replace("p", "projection") if name != "ip" else name: shape for name, shape in shapes.items()}
    (tmp_path / "named.caffemodel").write_bytes(
        caffemodel({new: draw(shapes)[old] for new, old in zip(named, shapes, strict=True)})
    )
    (tmp_path / "net.prototxt").write_text(text)
    [expected] = (
        open_with_opencv("caffe", tmp_path / "net.prototxt", tmp_path / "net.caffemodel", None)
        .run({"data": images()})
        .values()
    )
    model, report = zoo.load_with_report("small", tmp_path / "named.caffemodel")
    assert_same(model, expected)
    assert any("stride" in note for note in report.notes)


def test_darknet_s_files_with_and_without_their_cfg(tmp_path):
    import test_formats_darknet as files
    from test_zoo_darknet import weights_file

    source = zoo.load("darknet19", None, size=64, seed=5)
    (tmp_path / "net.cfg").write_text(files.darknet19(64))
    weights_file(tmp_path / "net.weights", source.weights())
    (tmp_path / "alone.weights").write_bytes((tmp_path / "net.weights").read_bytes())
    by_graph, report = zoo.load_with_report("darknet19", tmp_path / "net.weights")
    assert set(report.rules) == {"graph"}
    alone, report = zoo.load_with_report("darknet19", tmp_path / "alone.weights")
    assert set(report.rules) == {"order"}
    for model in (by_graph, alone):
        assert {k: a for k, a in model.weights().items() if not np.array_equal(a, source.weights()[k])} == {}
    (tmp_path / "long.weights").write_bytes((tmp_path / "net.weights").read_bytes() + struct.pack("<f", 1))
    with pytest.raises(WeightsError, match=r"expected 20,8\d\d,\d\d\d"):
        zoo.load("darknet19", tmp_path / "long.weights")
    with pytest.raises(WeightsError, match=r"Put its \.cfg beside it"):
        zoo.load("small", tmp_path / "alone.weights")


def test_what_a_file_has_behind_the_network_s_end_is_an_error(tmp_path):
    network = stirred(Block("side"))
    longer = torch.nn.Sequential(network, torch.nn.ReLU(), torch.nn.Linear(5, 2))
    path = onnx_file(tmp_path / "own.onnx", longer.eval())
    with pytest.raises(WeightsError, match=r"expected none.*backbone"):
        zoo.load("small", path, num_classes=5)
    assert zoo.load("small", path, backbone_only=True).outputs[0].shape == ("N", 1000)


def test_branches_that_are_alike_may_be_exchanged(monkeypatch, tmp_path):
    def twins(net, x, classes):
        a, b = (net.conv(name, x, 8, 3, weight=he_normal()) for name in ("a", "b"))
        x = net.flatten("flatten", net.global_pool("pool", net.relu("relu", net.add("add", a, b))))
        return net.dense("fc", x, classes, weight=he_normal(), bias=constant(0))

    class Twins(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.out = *(torch.nn.Conv2d(3, 8, 3, bias=False) for _ in "ab"), torch.nn.Linear(8, 4)

        def forward(self, x):
            return self.out(torch.relu(self.two(x) + self.one(x)).mean((2, 3)))

    entry = registry.ZooEntry("twins", 2, 0, "relu", "linear", "these tests", (SIZE, SIZE), twins)
    monkeypatch.setattr(registry, "_discover", lambda: {"twins": entry})
    network = stirred(Twins())
    assert_same(zoo.load("twins", onnx_file(tmp_path / "own.onnx", network)), answers(network))
    with pytest.raises(WeightsError, match=r"may be 'a.weight' or 'b.weight'"):
        zoo.load("twins", save(tmp_path / "own.pth", network))


# ---- the report


def test_the_report_says_what_went_where(tmp_path):
    network = stirred(Block("side"))
    path = onnx_file(tmp_path / "own.onnx", network)
    model, report = zoo.load_with_report("small", path)
    told = json.loads(json.dumps(report.to_dict()))
    assert {entry["initializer"] for entry in told["matches"]} == model.weights().keys()
    theirs = Model.load(path).weights()
    for entry in told["matches"]:
        assert np.array_equal(theirs[entry["array"]], model.weights()[entry["initializer"]])
    model.save(tmp_path / "saved.onnx")
    kept = Model.load(tmp_path / "saved.onnx").metadata.provenance
    assert kept["match"]["rules"] == {"graph": 27}
    assert kept["match"]["arrays"]["fc.weight"] == next(
        e["array"] for e in told["matches"] if e["initializer"] == "fc.weight"
    )
    assert "27 by graph" in str(report)


def test_the_comparison_can_fail(tmp_path, monkeypatch):
    from portnet.zoo import fitting

    path = onnx_file(tmp_path / "own.onnx", stirred(Block("side")))
    honest = fitting.fit_graph

    def swapped(*arguments, **keywords):
        fit = honest(*arguments, **keywords)
        arrays = dict(fit.arrays)
        arrays["layer1.0.conv3.weight"] = arrays["layer1.0.downsample.0.weight"]
        return fitting.replace(fit, arrays=arrays)

    monkeypatch.setattr(fitting, "fit_graph", swapped)
    with pytest.raises(ParityError, match="differ by"):
        match_weights("small", path)


def test_command_line(tmp_path, capsys):
    from portnet.cli.weights import weights

    path = save(tmp_path / "own.pth", stirred(Block("shortcut")))
    weights("small", str(path))
    shown = capsys.readouterr().out
    assert "layer1.0.downsample.0.weight" in shown
    assert "27 by order" in shown
    assert "not compared" in shown
    weights("small", str(path), backbone_only=True, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [left["name"] for left in told["unfilled"]] == ["fc.weight", "fc.bias"]
    assert [left["name"] for left in told["unused"]] == ["out.weight", "out.bias"]


def test_what_is_no_network_is_an_input_error(tmp_path):
    for name in ("own.onnx", "own.keras", "own.caffemodel", "own.weights", "own.pth"):
        (tmp_path / name).write_bytes(b"no network, and no weights")
        with pytest.raises(InputError):
            zoo.load("small", tmp_path / name)
    (tmp_path / "own.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(200)))
    with pytest.raises(WeightsError, match=r"own\.h5"):
        zoo.load("small", tmp_path / "own.h5")
    with pytest.raises(WeightsError, match="got the folder"):
        zoo.load("small", tmp_path)
    multiple = cut(zoo.load("small", None), outputs=["conv1"])
    multiple.save(tmp_path / "part.onnx")
    with pytest.raises(WeightsError, match="ends before"):
        zoo.load("small", tmp_path / "part.onnx")
