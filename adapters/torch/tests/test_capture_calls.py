"""Networks as people call them: keywords, objects as results, packed sequences, states, sizes that stay free."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from portnet_torch.capturing.packed import recurrent_operations
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from portnet.adapter import CaptureOptions
from portnet.capturing import capture_original
from portnet.errors import ParityError
from portnet.originals import Request, open_original
from portnet.parity.sides import side_of
from portnet.parity.source import compare_with_source


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


def _captured(network, *examples, **options):
    return capture_original(network.eval(), Request(None, None, CaptureOptions(examples, **options)))


def test_keywords_go_in_and_an_object_comes_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, *, x, scale=None, **rest):
            return Result(self.linear(x))

    network = Net()
    result = _captured(network, {"x": torch.randn(2, 4)})
    assert result.report.passed
    assert [port.name for port in result.model.outputs] == ["logits"]
    assert "forward" not in vars(network)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_packed_sequences_are_lengths(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(3, 4, batch_first=True, bidirectional=True)

        def forward(self, x, lengths):
            _, last = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            last = last[0] if isinstance(last, tuple) else last
            return torch.cat((last[0], last[1]), 1)

    network = Net()
    result = _captured(network, torch.randn(3, 5, 3), torch.tensor([2, 5, 3]))
    assert result.report.passed
    assert result.model.parameter_count == sum(weight.numel() for weight in network.parameters())
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 1])
    got = side_of(result.model, result.model).run({"x": x.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(next(iter(got.values())), network(x, lengths).numpy(), atol=1e-5)


def test_lengths_are_free_where_asked_for():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.rnn = nn.Conv1d(3, 4, 3), nn.GRU(4, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(self.conv(x).transpose(1, 2))[0]

    network = Net()
    model = _captured(network, torch.randn(2, 3, 9), dynamic_sizes=True).model
    assert model.inputs[0].shape == ("N", 3, "x_2")
    x = torch.randn(3, 3, 21)
    got = side_of(model, model).run({"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(next(iter(got.values())), network(x).numpy(), atol=1e-5)


def test_a_length_that_is_free_in_name_alone_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3)

        def forward(self, x):
            missing = -x.shape[-1] % 16
            return self.conv(nn.functional.pad(x, (0, missing)) if missing else x)

    with pytest.raises(ParityError, match="sizes are free in name alone: with x 3×3×21"):
        _captured(Net(), torch.randn(2, 3, 16), dynamic_sizes=True)
    assert _captured(Net(), torch.randn(2, 3, 16)).report.passed


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_another_thread_trains_meanwhile(kind):
    layer, x, lengths = kind(3, 4, batch_first=True), torch.randn(2, 5, 3), torch.tensor([5, 2])

    def total():
        layer.zero_grad()
        sequence, _ = pad_packed_sequence(
            layer(pack_padded_sequence(x, lengths, batch_first=True))[0], batch_first=True
        )
        (sequence.sum() + layer(x)[0].sum()).backward()
        return sequence.detach(), layer.weight_ih_l0.grad.clone()

    expected = total()
    with recurrent_operations(), ThreadPoolExecutor(1) as pool:
        found = pool.submit(total).result()
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("whole", [5, None])
def test_packed_sequences_are_padded_again(whole):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.linear = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x, lengths):
            packed, _ = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            sequence, _ = pad_packed_sequence(packed, batch_first=True, padding_value=0.5, total_length=whole)
            return self.linear(sequence)

    network = Net()
    model = _captured(network, torch.randn(3, 5, 3), torch.tensor([2, 5, 3])).model
    x, lengths = torch.randn(2, 5, 3), torch.tensor([1, 4])
    got = next(iter(side_of(model, model).run({"x": x.numpy(), "lengths": lengths.numpy()}).values()))
    with torch.no_grad():
        np.testing.assert_allclose(got, network(x, lengths).numpy(), atol=1e-5)
    assert got.shape[1] == (whole or 4)


def test_masks_of_a_transformer_are_used_as_they_are():
    """torch asks of a mask whether it is the causal one, which nobody knows while a network is traced."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

        def forward(self, source, target):
            mask = self.transformer.generate_square_subsequent_mask(target.shape[1])
            return self.transformer(source, target, tgt_mask=mask)

    assert _captured(Net(), torch.randn(2, 7, 8), torch.randn(2, 5, 8)).report.passed


class _Several(nn.Module):
    def forward(self, x):
        return {"y": x * 2, "rest": [x + 1, 7], "name": "net", "none": None}


def test_results_that_are_no_tensors_are_told():
    result = _captured(_Several(), torch.randn(2, 3))
    assert len(result.model.outputs) == 2
    assert "results that are no tensors are left out: rest.1 (7), name ('net')" in result.notes


class _Convolved(nn.Module):
    """A kernel for each image: as many groups as the batch has images (Yang et al. 2019)."""

    def __init__(self):
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(4, 6 * 3 * 9) * 0.2)
        self.route = nn.Linear(3, 4)

    def forward(self, x):
        batch, channels, height, width = x.shape
        kernels = (self.route(x.mean((2, 3))).softmax(1) @ self.kernels).view(batch * 6, channels, 3, 3)
        y = nn.functional.conv2d(x.reshape(1, batch * channels, height, width), kernels, padding=1, groups=batch)
        return y.view(batch, 6, height, width)


def test_what_the_exporter_cannot_write_for_a_free_batch_has_that_of_the_example():
    result = _captured(_Convolved(), torch.randn(1, 3, 8, 8))
    assert result.report.passed
    assert result.model.inputs[0].shape == (1, 3, 8, 8)
    assert "all sizes are those of the example" in " ".join(result.notes)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: nn.functional.adaptive_max_pool2d(x, (3, 2)),
        lambda x: nn.functional.adaptive_max_pool1d(x[0], 5),
        lambda x: nn.functional.rrelu(x),
        lambda x: torch.hypot(x, x + 1),
        lambda x: torch.sort(x.round(), dim=2, stable=True),
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 3, -128, 127),
        lambda x: torch.fake_quantize_per_tensor_affine(x, torch.tensor(0.04), torch.tensor(0), 0, 255),
        lambda x: torch.fake_quantize_per_channel_affine(
            x, torch.tensor([0.1, 0.2]), torch.tensor([0.0, 5.0]), 1, -99, 99
        ),
    ],
    ids=["max pool", "max pool of series", "rrelu", "hypot", "sort", "fake quantized", "by tensors", "by channel"],
)
def test_functions_without_a_translation_are_what_they_compute(function):
    class Net(nn.Module):
        def forward(self, x):
            return function(x)

    assert _captured(Net(), torch.randn(3, 2, 7, 7)).report.passed


def test_half_precision_is_proved_as_far_as_it_goes():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).half()
    result = _captured(network, torch.randn(2, 3, 8, 8).half())
    assert result.report.passed
    source = open_original(network, Request(None, None, CaptureOptions((torch.randn(2, 3, 8, 8).half(),)))).source
    wrong = result.model.with_weights({"0.weight": result.model.weights()["0.weight"] * np.float16(1.1)})
    assert not compare_with_source(wrong, source, result.model, find_layer=False).passed
