"""Sections of Darknet that OpenCV does not read, or reads otherwise: each against Darknet's loops written in numpy."""

import struct

import numpy as np
import pytest
from test_formats_darknet import YOLO, conv, net, write

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.capturing import capture_original
from portnet.engines import engine
from portnet.errors import UnsupportedError
from portnet.formats import darknet
from portnet.formats.opencv import open_with_opencv
from portnet.graph.cut import cut
from portnet.runtime.session import Session

CROP = "[crop]\ncrop_height=5\ncrop_width=4\nflip=1\nangle=0\nsaturation=1\nexposure=1\n"
LOCAL = "[local]\nfilters=5\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
EXCITED = [
    conv(6, 3),
    "[avgpool]\n",
    conv(4, 1, activation="swish", norm=0),
    conv(6, 1, activation="logistic", norm=0),
    "[scale_channels]\nfrom=-4\n",
    conv(6, 1, activation="logistic", norm=0),
    "[sam]\nfrom=-2\n",
    "[shortcut]\nfrom=-3\nactivation=ramp\n",
]


def read(folder, cfg, arrays=None):
    (folder / "net.cfg").write_text(cfg)
    if arrays is None:
        return darknet.read(folder / "net.cfg")
    body = b"".join(np.asarray(array, "<f4").tobytes() for array in arrays)
    (folder / "net.weights").write_bytes(struct.pack("<iiiQ", 0, 2, 5, 0) + body)
    return darknet.read(folder / "net.cfg", folder / "net.weights")


def run(model, x, *tensors):
    model = cut(model, outputs=list(tensors)) if tensors else model
    results = Session(model).run({model.inputs[0].name: x})
    return [results[port.name] for port in model.outputs]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("noadjust", "factor", "shift"), [(0, 2, -1), (1, 1, 0)])
def test_crop_takes_the_centre_and_doubles_it(noadjust, factor, shift, tmp_path):
    x = noise(2, 3, 8, 8)
    [got] = run(read(tmp_path, net(8, f"{CROP}noadjust={noadjust}\n")).model, x)
    np.testing.assert_allclose(got, x[:, :, 1:6, 2:6] * factor + shift, rtol=1e-6)


@pytest.mark.parametrize(("options", "count"), [("size=3\nstride=2\npad=1\n", 4), ("size=2\nstride=1\n", 6)])
def test_local_has_a_kernel_for_each_place(options, count, tmp_path):
    size = int(options[5])
    bias, kernels = noise(5, count, count), noise(count * count, 5, 3 * size * size, seed=1)
    cfg = net(7, f"[local]\nfilters=5\nactivation=leaky\n{options}")
    x = noise(2, 3, 7, 7, seed=2)
    [got] = run(read(tmp_path, cfg, [bias, kernels]).model, x)
    pad, stride = int("pad=1" in options), int(options[14])
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    expected = np.empty((2, 5, count, count), np.float32)
    for row in range(count):
        for column in range(count):
            seen = padded[:, :, row * stride : row * stride + size, column * stride : column * stride + size]
            expected[:, :, row, column] = seen.reshape(2, -1) @ kernels[row * count + column].T + bias[:, row, column]
    np.testing.assert_allclose(got, np.where(expected > 0, expected, 0.1 * expected), rtol=1e-4, atol=1e-5)


def gates(count, width, inputs):
    """What a file holds of a recurrent section with batch_normalize: for the state, then for the input."""
    arrays = []
    for number in range(2 * count):
        sources = width if number < count else inputs
        arrays.append(
            [noise(width, seed=number), noise(width, sources, seed=number + 50) * 0.5, 1 + 0.1 * noise(width, seed=9),
             0.1 * noise(width, seed=number + 70), np.full(width, 1.5 + number, np.float32)]
        )  # fmt: skip
    return arrays


def dense(arrays, x):
    bias, weight, scale, mean, variance = arrays
    return scale * (weight @ x - mean) / np.sqrt(variance + 1e-6) + bias


def lstm(parts, xs):
    """lstm_layer.c: wi, wf, wo, wg, ui, uf, uo, ug."""
    h, c, out = np.zeros(4), np.zeros(4), []
    for x in xs:
        i, f, o, g = (dense(w, h) + dense(u, x) for w, u in zip(parts[:4], parts[4:], strict=True))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def gru(parts, xs, candidate=sigmoid):
    """gru_layer.c: wz, wr, wh, uz, ur, uh."""
    wz, wr, wh, uz, ur, uh = parts
    h, out = np.zeros(4), []
    for x in xs:
        z, r = sigmoid(dense(uz, x) + dense(wz, h)), sigmoid(dense(ur, x) + dense(wr, h))
        h = z * h + (1 - z) * candidate(dense(uh, x) + dense(wh, r * h))
        out.append(h)
    return np.array(out)


@pytest.mark.parametrize(
    ("section", "count", "oracle"),
    [
        ("[lstm]\n", 4, lstm),
        ("[gru]\n", 3, gru),
        ("[gru]\ntanh=1\n", 3, lambda parts, xs: gru(parts, xs, np.tanh)),
    ],
)
def test_recurrent_sections_run_a_sequence(section, count, oracle, tmp_path):
    parts, xs = gates(count, 4, 6), noise(5, 6, seed=3)
    cfg = f"[net]\ninputs=6\nbatch=1\n{section}batch_normalize=1\noutput=4\n"
    captured = read(tmp_path, cfg, [array for part in parts for array in part])
    [got] = run(captured.model, xs)
    np.testing.assert_allclose(got, oracle(parts, xs), rtol=1e-4, atol=1e-5)
    assert captured.model.inputs[0].shape == ("T", 6)
    assert "Axis 0 is time" in " ".join(captured.notes)


def test_what_is_excited_is_scaled(tmp_path):
    captured = read(tmp_path, net(8, *EXCITED))
    x = noise(3, 3, 8, 8)
    scaled, first, gate, second, total, ramp = run(
        captured.model, x, "scale_channels_4", "leaky_0", "logistic_3", "sam_6", "shortcut_7", "ramp_7"
    )
    np.testing.assert_allclose(scaled, first * gate, rtol=1e-5)
    np.testing.assert_allclose(total, second + scaled, rtol=1e-5)
    np.testing.assert_allclose(ramp, np.maximum(total, 0) + 0.1 * total, rtol=1e-4, atol=1e-5)


def test_reorg_with_extra_appends_zeros(tmp_path):
    x = noise(2, 3, 4, 4)
    [got] = run(read(tmp_path, net(4, "[reorg]\nextra=2\nstride=1\n")).model, x)
    np.testing.assert_array_equal(got, np.pad(x.reshape(2, -1), ((0, 0), (0, 2))))


def test_a_comment_may_follow_a_number(tmp_path):
    captured = read(tmp_path, net(8, conv("4#32", 3), "[route]\nlayers=-1###P6\n"))
    assert captured.model.outputs[0].shape == ("N", 4, 8, 8)


def test_a_shortcut_of_fewer_channels_keeps_the_batch_free(tmp_path):
    captured = read(tmp_path, net(8, conv(4, 3), conv(8, 3), "[shortcut]\nfrom=-2\nactivation=linear\n"))
    assert captured.model.outputs[0].shape == ("N", 8, 8, 8)


def test_a_head_that_was_left_out_says_what_it_would_have_made(tmp_path):
    captured = read(tmp_path, net(16, conv(7, 1, norm=0), YOLO))
    assert "(classes=2, mask=0, anchors=10,14)" in captured.notes[0]


TRAINED = {"local": (CROP, LOCAL), "excited": EXCITED, "lstm": ["[lstm]\noutput=3\n"], "gru": ["[gru]\noutput=3\n"]}


# Gluon's GRU wants to know how long a sequence is
@pytest.mark.parametrize(
    ("backend", "name"), [(b, n) for b in ("torch", "keras", "gluon") for n in TRAINED if (b, n) != ("gluon", "gru")]
)
def test_engines_run_and_train_them(backend, name, tmp_path):
    sections = TRAINED[name]
    is_recurrent = "output" in sections[0]
    cfg = f"[net]\ninputs=6\n{sections[0]}" if is_recurrent else net(8, *sections, "[connected]\noutput=3\n")
    model = read(tmp_path, cfg).model
    x = noise(4, *model.inputs[0].shape[1:])
    lowered = engine(backend).lower(model)
    np.testing.assert_allclose(lowered.run({"data": x})[model.outputs[0].name], run(model, x)[0], rtol=1e-3, atol=1e-4)
    assert lowered.trainable_count == model.parameter_count
    names = [key for key, role in lowered.model.roles.items() if role.trainable]
    trainer = lowered.trainer(TrainPlan(OptimizerSpec(lr=0.5), {key: ParameterPlan() for key in names}))
    old = lowered.weights()
    trainer.step(x, np.array([0, 1, 2, 0]))
    assert all(not np.array_equal(old[key], new) for key, new in lowered.weights().items() if key in names)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (net(8, conv(4, 3), "[connected]\noutput=3\nactivation=linear\n", "[softmax]\ntemperature=3\n"), "softmax"),
        (net(8, conv(4, 3), conv(4, 3, 2), "[shortcut]\nfrom=-2\nactivation=linear\n"), "OpenCV cannot run"),
    ],
)
def test_what_opencv_cannot_judge_is_not_compared_with_it(cfg, message, tmp_path, capfd):
    paths = write(tmp_path, cfg)
    with pytest.raises(UnsupportedError, match=message):
        open_with_opencv("darknet", *paths)
    found = capture_original(str(paths[0]))
    assert found.report is None
    assert message in found.unproved
    assert "ERROR" not in capfd.readouterr().err
