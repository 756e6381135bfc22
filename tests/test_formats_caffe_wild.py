"""What Caffe's forks and files to train from hold: detectors, unpooling, sequences, means; against OpenCV or numpy."""

import caffe_files
import h5py
import numpy as np
import pytest
from caffe_files import conv, layer, net
from test_formats_caffe import SMALL, images, read_text, run

from portnet.engines import engine
from portnet.errors import PortNetError
from portnet.formats import caffe
from portnet.formats.opencv import open_with_opencv
from portnet.runtime.session import Session

PRIORS = "min_size: 8 max_size: 15 aspect_ratio: 2 flip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
SSD = (
    net(
        (1, 3, 24, 32),
        conv("c1", "data", "num_output: 6 kernel_size: 3 pad: 1 stride: 4"),
        layer("norm", "Normalize", "c1", norm_param="across_spatial: false channel_shared: false"),
        conv("loc1", "norm", "num_output: 16 kernel_size: 1"),
        layer("loc1_p", "Permute", "loc1", permute_param="order: 0 order: 2 order: 3 order: 1"),
        layer("loc1_f", "Flatten", "loc1_p", flatten_param="axis: 1"),
        layer("box1", "PriorBox", ["c1", "data"], prior_box_param=f"{PRIORS} clip: true step: 4 offset: 0.5"),
        conv("c2", "c1", "num_output: 4 kernel_size: 3 stride: 2"),
        conv("loc2", "c2", "num_output: 12 kernel_size: 1"),
        layer("loc2_p", "Permute", "loc2", permute_param="order: 0 order: 2 order: 3 order: 1"),
        layer("loc2_f", "Flatten", "loc2_p", flatten_param="axis: 1"),
        layer("box2", "PriorBox", ["c2", "data"], prior_box_param="min_size: 9 aspect_ratio: 3 variance: 0.1"),
        layer("loc", "Concat", ["loc1_f", "loc2_f"], concat_param="axis: 1"),
        layer("boxes", "Concat", ["box1", "box2"], concat_param="axis: 2"),
        layer("out", "DetectionOutput", ["loc", "loc", "boxes"], detection_output_param="num_classes: 4"),
    ),
    {"c1": [(6, 3, 3, 3), (6,)], "norm": [(6,)], "loc1": [(16, 6, 1, 1), (16,)], "c2": [(4, 6, 3, 3), (4,)],
     "loc2": [(12, 4, 1, 1), (12,)]},
)  # fmt: skip
EXCITED = (
    net(
        (1, 4, 6, 7),
        layer("deal", "ShuffleChannel", "data", shuffle_channel_param="group: 2"),
        conv("c", "deal", "num_output: 4 kernel_size: 3 pad: 1"),
        layer("bn", "BatchNorm", "c", batch_norm_param="use_global_stats: false"),
        layer("scale", "Scale", "bn", scale_param="bias_term: true"),
        layer("gap", "Pooling", "scale", pooling_param="pool: AVE global_pooling: true"),
        layer("gate", "Sigmoid", "gap"),
        layer("sum", "Axpy", ["gate", "scale", "data"]),
        layer("up", "Deconvolution", "sum",
              convolution_param="num_output: 6 group: 2 kernel_size: 4 stride: 2 pad: 1"),
        layer("small", "Interp", "up", interp_param="height: 7 width: 9"),
    ),
    {"c": [(4, 4, 3, 3), (4,)], "bn": [(4,), (4,), (1,)], "scale": [(4,), (4,)], "up": [(4, 3, 4, 4), (6,)]},
)  # fmt: skip


@pytest.mark.parametrize("name", ["ssd", "excited"])
def test_forks_compute_what_opencv_computes(name, tmp_path):
    paths = caffe_files.write(tmp_path, *{"ssd": SSD, "excited": EXCITED}[name])
    captured = caffe.read(*paths)
    x = {"data": images(captured.model, 1)}
    got, expected = Session(captured.model).run(x), open_with_opencv("caffe", *paths).run(x)
    assert list(got) == (["loc", "boxes"] if name == "ssd" else ["small"])
    for key in got:
        assert got[key].shape == expected[key].shape
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-4, atol=2e-5)
    if name == "ssd":
        assert "DetectionOutput 'out' decodes boxes and was left out" in captured.notes[0]


@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_engines_run_a_detector(backend, tmp_path):
    model = caffe.read(*caffe_files.write(tmp_path, *SSD)).model
    x = {"data": images(model, 2)}
    lowered = engine(backend).lower(model)
    assert lowered.trainable_count == model.parameter_count
    for key, expected in Session(model).run(x).items():
        np.testing.assert_allclose(lowered.run(x)[key], expected, rtol=1e-3, atol=1e-5)


def draw(name, *shapes):
    return caffe_files.draw({name: list(shapes)})[name]


def test_batch_norm_of_forks_has_four_arrays_or_two(tmp_path):
    text = net(SMALL, layer("bn", "BN", "data", bn_param="frozen: true eps: 0.5"))
    scale, shift, mean, variance = draw("bn", *[(1, 6, 1, 1)] * 4)
    four = read_text(tmp_path, text, {"bn": [(1, 6, 1, 1)] * 4})
    x = images(four.model, 2)
    # variances that a file happens to have below 0 are NaN on both sides
    with np.errstate(invalid="ignore"):
        expected = scale * (x - mean) / np.sqrt(variance + 0.5) + shift
    np.testing.assert_allclose(run(four, x)[0], expected, rtol=1e-4, atol=1e-5)
    roles = {name: role.name for name, role in four.model.roles.items()}
    assert (roles["bn.weight"], roles["bn.running_var"]) == ("NORM_SCALE", "STATISTIC")
    two = read_text(tmp_path, text.replace("frozen: true eps: 0.5", "bn_mode: INFERENCE"), {"bn": [(1, 6, 1, 1)] * 2})
    scale, shift = draw("bn", *[(1, 6, 1, 1)] * 2)
    np.testing.assert_allclose(run(two, x)[0], scale * x + shift, rtol=1e-5, atol=1e-6)
    drawn = read_text(tmp_path, text)
    np.testing.assert_allclose(run(drawn, x)[0], x / np.sqrt(1.5), rtol=1e-5)


@pytest.mark.parametrize(("height", "options"), [(6, "scale: 2"), (5, "scale: 2 pad_out_h: true"),
                                                 (5, "scale: 2 upsample_h: 5 upsample_w: 8")])  # fmt: skip
def test_unpooling_puts_the_largest_back(height, options, tmp_path):
    text = net(
        (1, 2, height, 8),
        layer("pool", "Pooling", "data", ["pool", "mask"], pooling_param="pool: MAX kernel_size: 2 stride: 2"),
        layer("up", "Upsample", ["pool", "mask"], upsample_param=options),
        layer("half", "Power", "up", power_param="scale: 0.5"),
    )
    captured = read_text(tmp_path, text)
    x = images(captured.model, 2)
    expected = np.zeros_like(x)
    for row in range(0, height, 2):
        for column in range(0, 8, 2):
            window = x[:, :, row : row + 2, column : column + 2]
            largest = window == window.max((2, 3), keepdims=True)
            expected[:, :, row : row + 2, column : column + 2] = window * largest
    np.testing.assert_allclose(run(captured, x)[0], expected / 2, rtol=1e-6)
    assert captured.model.outputs[0].shape == ("N", 2, height, 8)


SEQUENCE = """input: "data" input_shape {{ dim: 5 dim: 2 dim: 3 }} input: "cont" input_shape {{ dim: 5 dim: 2 }}
layer {{ name: "r" type: "{kind}" bottom: "data" bottom: "cont" top: "r"
  recurrent_param {{ num_output: 4 weight_filler {{ type: "uniform" min: -0.5 max: 0.5 }} }} }}"""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(arrays, xs):
    weight, bias, recurrent = arrays
    h, c, out = np.zeros((2, 4)), np.zeros((2, 4)), []
    for x in xs:
        i, f, o, g = np.split(x @ weight.T + bias + h @ recurrent.T, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def rnn(arrays, xs):
    weight, bias, recurrent, kernel, shift = arrays
    h, out = np.zeros((2, 4)), []
    for x in xs:
        h = np.tanh(x @ weight.T + bias + h @ recurrent.T)
        out.append(np.tanh(h @ kernel.T + shift))
    return np.array(out)


@pytest.mark.parametrize(
    ("kind", "shapes", "oracle"),
    [("LSTM", [(16, 3), (16,), (16, 4)], lstm), ("RNN", [(4, 3), (4,), (4, 4), (4, 4), (4,)], rnn)],
)
def test_recurrent_layers_run_whole_sequences(kind, shapes, oracle, tmp_path, monkeypatch):
    # three arrays stand for a BatchNorm's in the writer: these are written as they are
    arrays = [np.random.default_rng(n).normal(0, 0.5, shape).astype(np.float32) for n, shape in enumerate(shapes)]
    paths = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    paths[0].write_text(SEQUENCE.format(kind=kind))
    paths[1].write_bytes(caffe_files.caffemodel({"r": arrays}))
    captured = caffe.read(*paths)
    xs = np.random.default_rng(7).normal(0, 1, (6, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(run(captured, xs)[0], oracle(arrays, xs), rtol=1e-4, atol=1e-5)
    assert [port.name for port in captured.model.inputs] == ["data"]
    assert "axis 0 is time" in " ".join(captured.notes)


def test_embed_takes_rows(tmp_path):
    text = net((1, 5), layer("e", "Embed", "data", embed_param="input_dim: 7 num_output: 3"))
    captured = read_text(tmp_path, text, {"e": [(7, 3), (3,)]})
    table, bias = draw("e", (7, 3), (3,))
    x = np.array([[0, 6, 2, 2, 1], [5, 4, 3, 0, 6]], np.float32)
    np.testing.assert_allclose(run(captured, x)[0], table[x.astype(int)] + bias, rtol=1e-6)


TRAINED = """
layer { name: "in" type: "Python" top: "data" top: "label" python_param { module: "m" layer: "L" param_str: "{}" } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "margin" type: "MarginInnerProduct" bottom: "fc" bottom: "label" top: "margin" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "margin" bottom: "label" top: "loss" }
layer { name: "acc" type: "Python" bottom: "fc" bottom: "label" top: "acc" }
layer { name: "own" type: "OwnLoss" bottom: "fc" top: "own" loss_weight: 2 }
"""


def test_what_is_for_training_is_left_out_whoever_wrote_it(tmp_path):
    captured = read_text(tmp_path, TRAINED, input_shape=(1, 1, 2, 2))
    assert [port.name for port in captured.model.outputs] == ["fc"]
    assert "Python 'acc' is for training and was left out." in captured.notes
    with pytest.raises(PortNetError, match=r"layer 'in' \(Python\) does not say how large its images are"):
        read_text(tmp_path, TRAINED)
    inside = TRAINED + 'layer { name: "s" type: "Softmax" bottom: "acc" top: "s" }'
    with pytest.raises(PortNetError, match=r"Python \(acc\)"):
        read_text(tmp_path, inside, input_shape=(1, 1, 2, 2))


def test_first_version_of_a_fork_knows_its_layers_in_capitals(tmp_path):
    text = """input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
    layers { name: "p" type: PRELU bottom: "data" top: "p" }
    layers { name: "pool" type: POOLING bottom: "p" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
    layers { name: "c" type: CROP bottom: "p" bottom: "pool" top: "c" crop_param { offset: 1 } }"""
    captured = read_text(tmp_path, text)
    x = images(captured.model, 1)
    np.testing.assert_allclose(run(captured, x)[0], np.where(x > 0, x, x / 4)[:, :, 1:4, 1:4], rtol=1e-6)


def binaryproto(path, image):
    path.write_bytes(caffe_files.blob(image[None], "layers"))


DATA = """layer { name: "d" type: "Data" top: "data"
  transform_param { crop_size: 227 mean_file: "data/m.binaryproto" } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }"""


@pytest.mark.parametrize("text", [DATA, net((1, 3, 227, 227), layer("r", "ReLU", "data"))])
def test_a_mean_image_beside_the_prototxt_becomes_preprocessing(text, tmp_path):
    assert read_text(tmp_path, text).model.preprocessing is None
    image = np.random.default_rng(0).uniform(0, 255, (3, 8, 9)).astype(np.float32)
    binaryproto(tmp_path / "m.binaryproto", image)
    found = read_text(tmp_path, text).model.preprocessing
    assert (found.color, found.scale, found.std, found.resize) == ("BGR", 1, (1, 1, 1), 256)
    np.testing.assert_allclose(found.mean, image.mean((1, 2)), rtol=1e-5)
    (tmp_path / "m.binaryproto").write_bytes((tmp_path / "m.binaryproto").read_bytes()[:-8])
    with pytest.raises(PortNetError, match=r"m\.binaryproto"):
        read_text(tmp_path, text)


def test_a_mean_image_elsewhere_is_not_read(tmp_path):
    (tmp_path / "net").mkdir()
    binaryproto(tmp_path / "m.binaryproto", np.zeros((3, 2, 2), np.float32))
    captured = read_text(tmp_path / "net", DATA.replace("data/m", "../m"))
    assert captured.model.preprocessing is None
    assert "put it beside the prototxt" in " ".join(captured.notes)


def hdf5(path, layers):
    with h5py.File(path, "w") as file:
        for name, arrays in layers.items():
            group = file.create_group(f"data/{name}")
            for number, array in enumerate(arrays):
                group[str(number)] = array


def test_arrays_in_hdf5(tmp_path):
    text, shapes = EXCITED
    protobuf = caffe.read(*caffe_files.write(tmp_path, text, shapes)).model
    hdf5(tmp_path / "net.caffemodel.h5", caffe_files.draw(shapes))
    model = caffe.read(tmp_path / "net.prototxt", tmp_path / "net.caffemodel.h5").model
    assert model.weights().keys() == protobuf.weights().keys()
    assert all(np.array_equal(array, model.weights()[name]) for name, array in protobuf.weights().items())


@pytest.mark.parametrize("places", ["model/c/0", "data/c/1", "data/c/x"])
def test_other_hdf5_is_refused(places, tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file[places] = np.zeros(3, np.float32)
    (tmp_path / "net.prototxt").write_text(EXCITED[0])
    with pytest.raises(PortNetError, match=r"net\.h5"):
        caffe.read(tmp_path / "net.prototxt", tmp_path / "net.h5")
