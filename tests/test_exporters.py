"""Networks as torch's exporters write them: recurrent, attention, detection, audio; free batch, width and time."""

import logging
import warnings

import numpy as np
import pytest

import portnet
from portnet.errors import UnsupportedError
from portnet.runtime.session import Session

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


class Recogniser(nn.Module):
    """Text in a line of an image: convolutions, then a bidirectional LSTM over the free width."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.MaxPool2d((4, 2))
        )
        self.lstm = nn.LSTM(32, 12, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, 11)

    def forward(self, x):
        x = self.features(x)
        n, c, h, w = x.shape
        return F.log_softmax(self.head(self.lstm(x.permute(0, 3, 1, 2).reshape(n, w, c * h))[0]), -1)


class Encoder(nn.Module):
    """Token ids and a mask to a class: embedding, learned positions, a transformer layer, a masked mean."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.positions = nn.Parameter(torch.randn(1, 32, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", dropout=0.0)
        self.head = nn.Linear(16, 5)

    def forward(self, ids, mask):
        x = self.layer(self.tokens(ids) + self.positions[:, : ids.shape[1]], src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).float()
        return self.head((x * weights).sum(1) / weights.sum(1).clamp(min=1e-6))


class Detector(nn.Module):
    """Boxes on a grid: upsampling, decoding against a folded grid, the ten best by score."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.deep = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Conv2d(24, 6, 1)

    def forward(self, x):
        a = F.silu(self.down(x))
        y = self.head(torch.cat([a, F.interpolate(F.silu(self.deep(a)), scale_factor=2, mode="nearest")], 1))
        n, _, h, w = y.shape
        y = y.permute(0, 2, 3, 1)
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centre = (y[..., :2].sigmoid() * 2 - 0.5 + torch.stack([columns, rows], -1).float()) * 2
        boxes = torch.cat([centre, (y[..., 2:4].sigmoid() * 2) ** 2, y[..., 4:].sigmoid()], -1).reshape(n, -1, 6)
        score, _ = boxes[..., 4].topk(10, 1)
        return boxes, score


class Voice(nn.Module):
    """Sound to a class: reflected edges, a strided 1-D convolution, group norm, a GRU over the free length."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 8, 7, stride=3), nn.GroupNorm(2, 8)
        self.gru, self.head = nn.GRU(8, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x):
        x = F.gelu(self.norm(self.conv(F.pad(x, (3, 3), mode="reflect"))))
        y, last = self.gru(x.transpose(1, 2))
        return self.head(y[:, -1]).softmax(-1), last


class Rate(nn.Module):
    """A branch that the input decides: one convolution for each sampling rate, then an LSTM with its state."""

    def __init__(self):
        super().__init__()
        self.slow, self.fast = nn.Conv1d(1, 4, 4, 2), nn.Conv1d(1, 4, 8, 4)
        self.lstm, self.head = nn.LSTM(4, 6), nn.Linear(6, 1)

    def forward(self, x, h, c, rate):
        y = self.fast(x.unsqueeze(1)) if int(rate) == 16000 else self.slow(x.unsqueeze(1))
        y, (h, c) = self.lstm(F.relu(y).permute(2, 0, 1), (h, c))
        return torch.sigmoid(self.head(y[-1])), h, c


def _ids(n, steps):
    mask = (torch.arange(steps)[None] < torch.arange(steps, steps - n, -1)[:, None]).long()
    return torch.randint(0, 50, (n, steps)), mask


def _lines(n, width):
    return (torch.randn(n, 1, 16, width),)


def _photos(n):
    return (torch.randn(n, 3, 32, 48),)


def _sound(n, length):
    return (torch.randn(n, 1, length),)


# name -> network, inputs of one size, inputs of another, free axes
NETWORKS = {
    "recogniser": (Recogniser, lambda: _lines(2, 32), lambda: _lines(3, 20), {0: "N", 3: "W"}),
    "encoder": (Encoder, lambda: _ids(2, 9), lambda: _ids(3, 6), {0: "N", 1: "T"}),
    "detector": (Detector, lambda: _photos(2), lambda: _photos(1), {0: "N"}),
    "voice": (Voice, lambda: _sound(2, 100), lambda: _sound(3, 76), {0: "N", 2: "T"}),
}
REFUSED = {("rate", "gluon")}


def _export(path, network, inputs, free, *, dynamo):
    names = [f"in{i}" for i in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if dynamo:
                shapes = tuple(dict.fromkeys(free, torch.export.Dim.DYNAMIC) for _ in inputs)
                options = {"dynamic_shapes": shapes, "external_data": False, "verbose": False}
            else:
                options = {"dynamic_axes": dict.fromkeys(names, free), "opset_version": 14}
            torch.onnx.export(network, inputs, str(path), input_names=names, dynamo=dynamo, **options)
        finally:
            logging.disable(logging.NOTSET)
    return names


@pytest.fixture(scope="module", params=[*NETWORKS, "rate"])
def exported(request, tmp_path_factory):
    """Name, model, and inputs of two sizes."""
    torch.manual_seed(0)
    name = request.param
    path = tmp_path_factory.mktemp("exported") / f"{name}.onnx"
    if name == "rate":
        network = Rate().eval()
        feeds = [
            (torch.randn(2, 64), torch.zeros(1, 2, 6), torch.zeros(1, 2, 6), torch.tensor(r)) for r in (16000, 8000)
        ]
        names = ["x", "h", "c", "rate"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(torch.jit.script(network), feeds[0], str(path), input_names=names, dynamo=False)
    else:
        kind, first, second, free = NETWORKS[name]
        network, feeds = kind().eval(), [first(), second()]
        names = _export(path, network, feeds[0], free, dynamo=name == "encoder")
    arrays = [{n: t.numpy() for n, t in zip(names, feed, strict=True)} for feed in feeds]
    return name, portnet.Model.load(path), arrays


@pytest.mark.parametrize("engine", ["torch", "keras", "gluon"])
def test_an_exported_network_computes_as_in_onnxruntime(exported, engine):
    name, model, feeds = exported
    pytest.importorskip(f"portnet_{engine}")
    if (name, engine) in REFUSED:
        with pytest.raises(UnsupportedError, match=engine):
            portnet.engine(engine).lower(model)
        return
    lowered = portnet.engine(engine).lower(model)
    session = Session(model)
    for feed in feeds:
        expected, got = session.run(feed), lowered.run(feed)
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert got[key].shape == value.shape
            assert got[key].dtype == value.dtype
            np.testing.assert_allclose(got[key], value, rtol=1e-4, atol=1e-5)


def test_the_grid_of_a_detector_is_no_parameter(tmp_path):
    network = Detector().eval()
    _export(tmp_path / "detector.onnx", network, _photos(2), {0: "N"}, dynamo=True)
    model = portnet.Model.load(tmp_path / "detector.onnx")
    assert model.parameter_count == sum(p.numel() for p in network.parameters())
