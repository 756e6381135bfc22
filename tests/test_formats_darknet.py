"""Darknet's files: what is read computes what OpenCV computes from the same files, and trains."""

import struct

import numpy as np
import pytest

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.engines import engine
from portnet.errors import MissingDependencyError, PortNetError
from portnet.formats import darknet
from portnet.formats.opencv import open_with_opencv
from portnet.graph.cut import cut
from portnet.runtime.session import Session


def net(size, *sections, channels=3):
    return "\n".join([f"[net]\nwidth={size}\nheight={size}\nchannels={channels}\n# a comment", *sections]) + "\n"


def conv(filters, size, stride=1, activation="leaky", norm=1, **more):
    extra = "".join(f"{key}={value}\n" for key, value in more.items())
    head = "[convolutional]\nbatch_normalize=1\n" if norm else "[convolutional]\n"
    return f"{head}filters={filters}\nsize={size}\nstride={stride}\npad=1\nactivation={activation}\n{extra}"


POOL = "[maxpool]\nsize=2\nstride=2\n"
CLASSIFIER = "[avgpool]\n[softmax]\ngroups=1\n"
SHORTCUT = "[shortcut]\nfrom=-3\nactivation=linear\n"
YOLO = "[yolo]\nmask=0\nanchors=10,14\nclasses=2\nnum=1\n"


def darknet19(size=256, width=1, classes=1000):
    """https://pjreddie.com/media/files/papers/YOLO9000.pdf, table 6; widths divided by ``width``."""
    stages = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512) * 2 + (1024,))
    sections = []
    for place, filters in enumerate(stages):
        sections += [POOL] if place else []
        sections += [conv(n // width, 1 if index % 2 else 3) for index, n in enumerate(filters)]
    return net(size, *sections, conv(classes, 1, activation="linear", norm=0), CLASSIFIER)


def darknet53(size=256, width=1, classes=1000):
    """https://pjreddie.com/media/files/papers/YOLOv3.pdf, table 1."""
    sections = [conv(32 // width, 3)]
    for filters, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        sections.append(conv(filters // width, 3, 2))
        sections += [conv(filters // 2 // width, 1), conv(filters // width, 3), SHORTCUT] * count
    last = conv(classes, 1, activation="linear", norm=0)
    return net(size, *sections, "[avgpool]\n", last, "[softmax]\ngroups=1\n")


def tiny(**options):
    return net(
        17,
        conv(6, 3, activation="mish"),
        "[maxpool]\nsize=2\nstride=1\n",
        conv(8, 3, 2, activation="swish"),
        conv(8, 1, activation="logistic", norm=0),
        "[shortcut]\nfrom=-2\nactivation=leaky\n",
        "[upsample]\nstride=2\n",
        "[route]\nlayers=-1\n",
        "[maxpool]\nsize=3\nstride=2\n",
        "[route]\nlayers=-1,4\n",
        "[dropout]\nprobability=.3\n",
        conv(6, 3, groups=2),
        "[avgpool]\n",
        "[softmax]\n",
        "[cost]\ntype=sse\n",
    )


CONNECTED = net(
    8, conv(4, 3), POOL, "[connected]\noutput=7\nactivation=leaky\n", "[connected]\noutput=3\nactivation=linear\n"
)
REORG = net(8, conv(8, 3), "[reorg]\nstride=2\n", conv(4, 1))
YOLOS = net(16, conv(4, 3, 2), conv(7, 1, activation="linear", norm=0), YOLO, "[route]\nlayers=-3\n",
            conv(4, 3, 2), conv(7, 1, activation="linear", norm=0), YOLO)  # fmt: skip
NETWORKS = {
    **{"darknet19": darknet19(64, 16, 10), "darknet53": darknet53(64, 16, 10), "tiny": tiny()},
    **{"connected": CONNECTED, "reorg": REORG, "yolo": YOLOS},
}


def write(folder, cfg, version=(0, 2, 5), extra=0):
    """Write both files; the arrays' shapes come from walking the .cfg here, in the file's order."""
    path = folder / "net.cfg"
    path.write_text(cfg)
    arrays = file_arrays(cfg)
    seen = struct.pack("<Q" if version[0] * 10 + version[1] >= 2 else "<I", 32)
    body = b"".join(array.astype("<f4").tobytes() for array in arrays) + b"\0" * 4 * extra
    weights = folder / "net.weights"
    weights.write_bytes(struct.pack("<iii", *version) + seen + body)
    return path, weights


def file_arrays(cfg):
    model_free = [dict(line.split("=") for line in part.splitlines() if "=" in line) | {"kind": part.split("]")[0]}
                  for part in cfg.split("[")[1:]]  # fmt: skip
    size, generator = int(model_free[0]["width"]), np.random.default_rng(3)
    shapes, out = [(3, size)], []

    def vectors(n, count):
        made = [generator.normal(0, 0.1, n), generator.uniform(0.5, 1.5, n), generator.normal(0, 0.1, n)]
        return [*made, generator.uniform(0.5, 2, n)][:count]

    for section in model_free[1:]:
        channels, size = shapes[-1]
        get = lambda key, default=0, section=section: int(section.get(key, default))  # noqa: E731
        if section["kind"] == "convolutional":
            n, k = get("filters"), get("size")
            each = (channels // get("groups", 1), k, k)
            out += [*vectors(n, 4 if get("batch_normalize") else 1),
                    generator.normal(0, np.prod(each) ** -0.5, (n, *each))]  # fmt: skip
            shapes.append((n, (size + 2 * (k // 2) - k) // get("stride", 1) + 1))
        elif section["kind"] == "connected":
            n = get("output")
            out += [*vectors(n, 1), generator.normal(0, 0.2, (n, channels * size * size))]
            shapes.append((n, 1))
        elif section["kind"] == "maxpool":
            shapes.append((channels, (size - 1) // get("stride") + 1))
        elif section["kind"] == "route":
            found = [shapes[len(shapes) + int(n) if int(n) < 0 else int(n) + 1] for n in section["layers"].split(",")]
            shapes.append((sum(n for n, _ in found), found[0][1]))
        elif section["kind"] == "upsample":
            shapes.append((channels, size * get("stride")))
        elif section["kind"] == "reorg":
            shapes.append((channels * 4, size // 2))
        else:
            shapes.append((channels, 1 if section["kind"] == "avgpool" else size))
    return out


def images(model, batch):
    return np.random.default_rng(0).uniform(0, 1, (batch, *model.inputs[0].shape[1:])).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_opencv_computes(name, batch, tmp_path):
    paths = write(tmp_path, NETWORKS[name])
    captured = darknet.read(*paths)
    x = {"data": images(captured.model, batch)}
    expected = open_with_opencv("darknet", *paths).run(x)
    got = Session(captured.model).run(x)
    assert list(got) == list(expected)
    for key in got:
        assert got[key].shape == expected[key].shape
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("cfg", "count"), [(darknet19(), 20_842_376), (darknet53(), 41_609_928)])
def test_published_networks_have_their_published_count_of_parameters(cfg, count, tmp_path, monkeypatch):
    monkeypatch.setattr("portnet.formats.darknet.arrays.Drawn.take", lambda self, n, shape, *a, **k:
                        np.broadcast_to(np.float32(1), shape))  # fmt: skip
    (tmp_path / "net.cfg").write_text(cfg)
    model = darknet.read(tmp_path / "net.cfg").model
    assert model.parameter_count == count
    assert model.outputs[0].shape == ("N", 1000)


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0)])
def test_both_headers(version, tmp_path):
    paths = write(tmp_path, CONNECTED, version)
    np.testing.assert_array_equal(
        darknet.read(*paths).model.weights()["bn_0.bias"], file_arrays(CONNECTED)[0].astype(np.float32)
    )


@pytest.mark.parametrize(
    ("cfg", "extra", "message"),
    [
        (CONNECTED, 3, r"got 606 numbers, expected 603"),
        (net(8, conv(4, 3), "[crnn]\n", "[rnn]\n"), None, r"2 layers.*crnn \(section 1\); rnn \(section 2\)"),
        (net(8, conv(4, 3, activation="stair")), None, "activation=stair"),
        (net(8, conv(4, 3, antialiasing=1)), None, "antialiasing"),
        (net(8, "[route]\nlayers=-4\n"), None, "got layer -4, expected one of the 0 before it"),
        ("[convolutional]\n", None, r"begins with \[net\]"),
        (net(10**6, conv(4, 3)), None, "channels, height and width"),
        (net(8, conv("four", 3)), None, "filters got 'four', expected an integer"),
    ],
)
def test_refusals_say_what_is_wrong(cfg, extra, message, tmp_path):
    if extra is None:
        (tmp_path / "net.cfg").write_text(cfg)
        paths = (tmp_path / "net.cfg",)
    else:
        paths = write(tmp_path, cfg, extra=extra)
    with pytest.raises(PortNetError, match=message):
        darknet.read(*paths)


def test_truncated_weights_are_refused_with_counts(tmp_path):
    cfg, weights = write(tmp_path, CONNECTED)
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(PortNetError, match=r"got 593 numbers, expected 603 up to 'fc_3.weight'"):
        darknet.read(cfg, weights)


@pytest.mark.parametrize("name", ["connected", "tiny"])
@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_captured_networks_train(name, backend, tmp_path):
    model = darknet.read(*write(tmp_path, NETWORKS[name])).model
    lowered = engine(backend).lower(model)
    assert lowered.trainable_count == model.parameter_count
    names = [key for key, role in lowered.model.roles.items() if role.trainable]
    trainer = lowered.trainer(TrainPlan(OptimizerSpec(lr=0.5), {key: ParameterPlan() for key in names}))
    old = lowered.weights()
    trainer.step(images(model, 4), np.array([0, 1, 2, 0]))
    assert all(not np.array_equal(old[key], new) for key, new in lowered.weights().items() if key in names)


def test_opencv_stops_at_any_layer_and_wants_weights(tmp_path):
    cfg, weights = write(tmp_path, NETWORKS["darknet19"])
    source = open_with_opencv("darknet", cfg, weights)
    model = darknet.read(cfg, weights).model
    x = {"data": images(model, 2)}
    for tensor in ("conv_0", "bn_0", "leaky_2", "pool_1"):
        expected = source.at(tensor).run(x)[tensor]
        got = Session(cut(model, outputs=[tensor])).run(x)
        np.testing.assert_allclose(got[tensor], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(MissingDependencyError, match="no trained weights"):
        open_with_opencv("darknet", cfg, None)


@pytest.mark.parametrize(("filters", "stride"), [(8, 2), (4, 1), (12, 1), (6, 2)])
def test_a_shortcut_takes_every_so_many_pixels_and_the_channels_there_are(filters, stride, tmp_path):
    cfg = net(8, conv(8, 3), conv(filters, 3, stride), "[shortcut]\nfrom=-2\nactivation=linear\n")
    model = darknet.read(*write(tmp_path, cfg)).model
    x = {"data": images(model, 2)}
    one, other, total = (Session(cut(model, outputs=[n])).run(x)[n] for n in ("leaky_0", "leaky_1", "shortcut_2"))
    shared = min(8, filters)
    other[:, :shared] += one[:, :shared, ::stride, ::stride]
    np.testing.assert_allclose(total, other, rtol=1e-5, atol=1e-6)
