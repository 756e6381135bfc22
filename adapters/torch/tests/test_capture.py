"""Networks of torch become models: values by onnxruntime, counts by torch, names by the state_dict."""

import sys

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from portnet_torch import Engine
from torch import nn

import portnet
from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.errors import (
    InputError,
    MissingDependencyError,
    ParityError,
    UnknownNameError,
    UnsupportedError,
    WeightsError,
)
from portnet.originals import Request
from portnet.runtime.session import Session


class Block(nn.Module):
    """A residual block whose one ReLU is called twice and writes in place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, momentum=0.2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        out += x
        return self.relu(out)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.layers = nn.Sequential(Block(), Block())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 5)

    def forward(self, image):
        return self.fc(self.dropout(self.pool(self.layers(self.stem(image))).flatten(1)))


class Tagger(nn.Module):
    """Token ids to a dict: a recurrent layer, a transformer layer with a mask, tied embeddings, a lone parameter."""

    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.start = nn.Parameter(torch.randn(1, 1, 8))
        self.rnn = kind(8, 4, bidirectional=True, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids, mask):
        x, _ = self.rnn(self.embedding(ids))
        x = torch.cat([self.start.expand(ids.shape[0], -1, -1), x], 1)
        mask = torch.cat([torch.zeros_like(mask[:, :1]), mask], 1)
        x = self.layer(x, src_key_padding_mask=mask > 0)
        return {"tokens": self.out(x * self.scale), "sentence": x.mean(1)}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def captured(net):
    return capture_original(net, _request(torch.randn(1, 3, 9, 9)))


def _request(*examples, **options):
    return Request(None, None, CaptureOptions(examples, **options))


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_convolutional_network_is_as_clean_as_written_by_hand(captured, net):
    model = captured.model
    assert captured.report.passed
    assert [(layer.name, layer.op) for layer in model.layers][:9] == [
        ("image", "Input"),
        ("stem", "Conv"),
        ("layers.0.conv1", "Conv"),
        ("layers.0.bn1", "BatchNormalization"),
        ("layers.0.relu", "Relu"),
        ("layers.0.conv2", "Conv"),
        ("layers.0.add", "Add"),
        ("layers.0.relu_2", "Relu"),
        ("layers.1.conv1", "Conv"),
    ]
    assert [node.op_type for node in model.ir.graph][-4:] == ["GlobalAveragePool", "Flatten", "Dropout", "Gemm"]
    assert str(model.inputs[0]) == "image: float32 N×3×9×9"
    assert str(model.outputs[0]) == "logits: float32 N×5"


def test_parameters_bear_their_names_and_are_counted_as_torch_counts(captured, net):
    model = captured.model
    named = dict(net.named_parameters())
    assert {name for name, role in model.roles.items() if role.trainable} == set(named)
    assert model.parameter_count == _count(net)
    for name, array in model.weights().items():
        if name in named:
            np.testing.assert_array_equal(array, named[name].detach().numpy())
    norm = next(node for node in model.ir.graph if node.name == "layers.0.bn1")
    assert norm.attributes.get_float("momentum") == pytest.approx(0.8)


def test_nothing_of_the_exporter_is_left(captured):
    data = captured.model.to_bytes()
    for trace in (b"pkg.torch", b"stack_trace", b"test_capture.py", b"CastLike", b"val_"):
        assert trace not in data


def test_the_module_is_as_it_was(net):
    net.train()
    net.layers[0].bn1.eval()
    net.stem.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    result = capture_original(net, _request(torch.randn(2, 3, 9, 9)))
    assert modes == [module.training for module in net.modules()]
    assert not net.stem.weight.requires_grad
    assert net.fc.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    frozen = result.model.metadata.provenance["frozen"]
    assert frozen["parameters"] == ["stem.weight"]
    assert frozen["statistics"] == ["layers.0.bn1.running_mean", "layers.0.bn1.running_var"]
    net.layers[0].bn1.train()
    net.stem.weight.requires_grad_(True)


def test_training_torch_leaves_the_capture_alone(captured, net):
    before = captured.model.digest()
    with torch.no_grad():
        net.fc.bias.add_(1)
    assert captured.model.digest() == before
    with torch.no_grad():
        net.fc.bias.sub_(1)


def test_stages_are_blocks(captured):
    assert [stage for stage in dict.fromkeys(layer.stage for layer in captured.model.layers) if stage][:3] == [
        "stem",
        "layers.0",
        "layers.1",
    ]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_sequences_keep_ties_keys_and_lone_parameters(kind):
    torch.manual_seed(0)
    tagger = Tagger(kind)
    ids, mask = torch.randint(0, 20, (1, 6)), torch.zeros(1, 6)
    result = capture_original(tagger, _request(ids, mask))
    model = result.model
    assert result.report.passed
    assert [port.name for port in model.inputs] == ["ids", "mask"]
    assert [str(port) for port in model.outputs] == ["tokens: float32 N×7×20", "sentence: float32 N×8"]
    assert model.parameter_count == _count(tagger)
    assert model.roles["embedding.weight"].trainable
    assert model.roles["scale"].trainable
    assert [node.op_type for node in model.ir.graph].count("Split") == 0
    stacked = model.weights()["rnn.weight_hh_l0"]
    gates = [0, 3, 1, 2] if kind is nn.LSTM else [1, 0, 2]
    ours = np.split(tagger.rnn.weight_hh_l0.detach().numpy(), len(gates))
    np.testing.assert_array_equal(stacked[0], np.concatenate([ours[gate] for gate in gates]))
    assert any("stacked as ONNX has them" in note for note in result.notes)
    assert not any("left out" in note for note in result.notes)
    assert portnet.check(model, "torch").passed


@pytest.mark.parametrize(("op", "layer"), [("LSTM", nn.LSTM), ("RNN", nn.RNN)])
def test_a_bias_of_states_that_does_not_train_stays_so_there_and_back(op, layer):
    """Keras's recurrent layers have one bias: torch's second is zeros that do not train."""
    gates = 4 if op == "LSTM" else 1
    graph = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[5,N,3] x, float[1,{gates * 2},3] w, float[1,{gates * 2},2] r, float[1,{gates * 2}] bias)
        => (float[5,1,N,2] y) <int64[4] ends = {{0, 0, 0, {gates * 2}}}>
        {{ b = Pad(bias, ends) y = {op}<hidden_size = 2>(x, w, r, b) }}""")
    rng = np.random.default_rng(0)
    for port in list(graph.graph.input)[1:]:
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        graph.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype("f4"), port.name))
        graph.graph.input.remove(port)
    model = portnet.Model.from_bytes(graph.SerializeToString())
    assert model.parameter_count == gates * 2 * (3 + 2 + 1)
    lowered = Engine().lower(model)
    assert portnet.check(lowered, model).passed
    assert any(type(module) is layer for module in lowered.native.modules())
    assert sum(each.numel() for each in lowered.native.parameters() if each.requires_grad) == model.parameter_count
    back = portnet.capture(lowered.native, torch.zeros(5, 1, 3))
    assert back.parameter_count == model.parameter_count
    assert [node.op_type for node in back.ir.graph].count(op) == 1
    assert portnet.check(back, lowered).passed


def test_the_first_layer_that_differs_is_named_by_its_module(net):
    adapter = Engine()
    captured, source = adapter.capture(net, CaptureOptions((torch.randn(1, 3, 9, 9),)))
    x = np.random.default_rng(0).standard_normal((3, 3, 9, 9), np.float32)
    reference = {}
    hook = net.layers[1].conv2.register_forward_hook(
        lambda module, given, result: reference.update(value=result.clone())
    )
    net.eval()(torch.from_numpy(x))
    hook.remove()
    part = source.at("layers.1.conv2").run({"image": x})
    np.testing.assert_array_equal(part["layers.1.conv2"], reference["value"].detach().numpy())
    assert source.at("layers.0.add").run({"image": x})["layers.0.add"].shape == (3, 4, 4, 4)
    with pytest.raises(UnsupportedError, match="cannot be cut at 'nowhere'"):
        source.at("nowhere")
    broken = captured.model.with_weights({"layers.1.conv2.bias": np.ones(4, np.float32)})
    from portnet.parity.check import check
    from portnet.parity.sides import OnnxruntimeSide, SourceSide

    report = check(OnnxruntimeSide(broken), SourceSide(source, captured.model))
    assert not report.passed
    assert report.first_divergence.startswith("layers.1.conv2 (Conv)")


def test_a_batch_that_the_code_fixes_is_said():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1) if x.shape[0] == 2 else x.reshape(1, -1)

    result = capture_original(Fixed(), _request(torch.randn(2, 3, 4)))
    assert result.model.inputs[0].shape == (2, 3, 4)
    assert any("the batch is fixed at 2" in note for note in result.notes)


def test_standardised_weights_stay_trainable():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = nn.functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
            return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)

    model = capture_original(Standardised(3, 4, 3), _request(torch.randn(2, 3, 8, 8))).model
    assert model.parameter_count == 4 * 3 * 9 + 4
    assert [node.op_type for node in model.ir.graph][-1] == "Conv"
    assert "BatchNormalization" not in {node.op_type for node in model.ir.graph}


def test_dropout_that_is_live_in_inference_is_refused():
    class Live(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)

    with pytest.raises(UnsupportedError, match="Dropout that drops in inference too"):
        Engine().capture(Live(), CaptureOptions((torch.randn(2, 3),)))


def test_all_operations_without_a_translation_are_named():
    class Exotic(nn.Module):
        def forward(self, x):
            return torch.linalg.matrix_exp(x) + torch.special.airy_ai(x).swapaxes(0, 1)

    with pytest.raises(UnsupportedError, match=r"2 layers .*linalg_matrix_exp.*airy_ai"):
        Engine().capture(Exotic(), CaptureOptions((torch.randn(3, 3),), dynamic_batch=False))


def test_examples_that_do_not_fit_are_named(net):
    with pytest.raises(InputError, match="does not run on example inputs float32 1×4×9×9"):
        Engine().capture(net, CaptureOptions((torch.randn(1, 4, 9, 9),)))
    with pytest.raises(InputError, match="does not say what it takes"):
        Engine().capture(nn.LSTM(3, 4), CaptureOptions())


def test_an_exported_program_keeps_its_sizes(net):
    example = torch.randn(2, 3, 9, 9)
    program = torch.export.export(net.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("N")},))
    assert Engine().owns(program)
    assert Engine().owns(net)
    assert not Engine().owns(example)
    result = capture_original(program)
    assert result.report.passed
    assert str(result.model.inputs[0]) == "image: float32 N×3×9×9"
    assert result.model.parameter_count == _count(net)


def test_a_network_of_torchvision_brings_its_preprocessing(tmp_path):
    network = Engine().open("torchvision:squeezenet1_1")
    assert not network.training
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    result = capture_original(f"torchvision:squeezenet1_1?weights={tmp_path / 'mine.pth'}")
    assert result.report.passed
    assert result.model.preprocessing == portnet.zoo.load("squeezenet1_1", None).preprocessing
    assert result.model.parameter_count == 1_235_496
    np.testing.assert_array_equal(
        result.model.weights()["features.0.weight"], network.features[0].weight.detach().numpy()
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        Engine().open("torchvision:resnet5")
    with pytest.raises(UnknownNameError, match="IMAGENET1K_V1"):
        Engine().open("torchvision:resnet18?weights=best")
    with pytest.raises(WeightsError, match="does not fit squeezenet1_0"):
        Engine().open(f"torchvision:squeezenet1_0?weights={tmp_path / 'mine.pth'}")


def test_a_network_of_timm_brings_its_preprocessing():
    result = capture_original("timm:test_vit")
    assert result.report.passed
    network = Engine().open("timm:test_vit")
    assert result.model.parameter_count == _count(network)
    config = network.pretrained_cfg
    assert result.model.preprocessing.mean == tuple(config["mean"])
    assert result.model.preprocessing.size == config["input_size"][1:]
    assert "cls_token" in result.model.roles
    with pytest.raises(UnknownNameError, match="unknown network of timm"):
        Engine().open("timm:vit_nowhere")


def test_a_collection_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        Engine().open("timm:resnet18")


def test_frozen_batch_norms_are_fixed_and_unread_parameters_are_named():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            self.norm = FrozenBatchNorm2d(4)
            self.unread = nn.Linear(2, 3)

        def forward(self, x):
            return self.norm(self.conv(x)).flatten(1)

    Engine().open("torchvision:squeezenet1_1")  # imports torchvision, also beside a torch that lacks its operators
    from torchvision.ops import FrozenBatchNorm2d

    network = Frozen()
    network.norm.running_mean.normal_()
    network.norm.running_var.uniform_(0.5, 2)
    result = capture_original(network, _request(torch.randn(1, 3, 5, 5)))
    assert result.report.passed
    assert result.model.parameter_count == network.conv.weight.numel()
    assert [node.op_type for node in result.model.ir.graph] == ["Conv", "Mul", "Add", "Flatten"]
    assert "1 frozen batch norms are fixed scales and shifts, which no engine trains" in result.notes
    assert "9 parameters that inference does not read are left out: unread.weight, unread.bias" in result.notes


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 3, 9, 12), 1),
        ((2, 3, 9, 12), (3, 4)),
        ((2, 3, 9, 12), (5, None)),
        ((2, 3, 11), 7),
        ((2, 3, 4, 6, 5), (2, 4, 5)),
    ],
)
def test_adaptive_max_pooling_of_any_size(shape, size):
    kind = getattr(nn, f"AdaptiveMaxPool{len(shape) - 2}d")
    network, x = nn.Sequential(kind(size)), torch.randn(shape)
    model = portnet.capture(network, x)
    (got,) = Session(model).run({model.inputs[0].name: x.numpy()}).values()
    np.testing.assert_array_equal(got, network(x).numpy())


def test_places_of_adaptive_maxima_are_told_where_windows_are_equal():
    network, x = nn.AdaptiveMaxPool2d((3, 4), return_indices=True), torch.randn(2, 3, 9, 12)
    model = portnet.capture(network, x)
    got = Session(model).run({model.inputs[0].name: x.numpy()}).values()
    for array, expected in zip(got, network(x), strict=True):
        np.testing.assert_array_equal(array, expected.numpy())
    with pytest.raises(ParityError):  # not told elsewhere, and not guessed
        portnet.capture(nn.AdaptiveMaxPool2d((4, 5), return_indices=True), x)
