"""Caffe's files: what is read computes what OpenCV computes from the same files, and trains."""

import caffe_files
import cv2
import numpy as np
import pytest
from caffe_files import layer, net
from caffe_networks import NETWORKS, RESNET

from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.engines import engine
from portnet.errors import PortNetError, UnsupportedError
from portnet.formats import caffe
from portnet.formats.opencv import open_with_opencv
from portnet.graph.cut import cut
from portnet.runtime.session import Session


def images(model, batch, seed=0):
    shape = model.inputs[0].shape
    return np.random.default_rng(seed).normal(0, 1, (batch, *shape[1:])).astype(np.float32)


def assert_as_opencv(paths, captured, batch, atol=2e-5):
    x = images(captured.model, batch)
    reference = cv2.dnn.readNetFromCaffe(*map(str, paths))
    reference.setInput(x)
    [output] = captured.model.outputs
    expected = reference.forward()
    got = Session(captured.model).run({captured.model.inputs[0].name: x})[output.name]
    assert np.squeeze(got).shape == np.squeeze(expected).shape
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_networks_compute_what_opencv_computes(name, batch, tmp_path):
    paths = caffe_files.write(tmp_path, *NETWORKS[name])
    assert_as_opencv(paths, caffe.read(*paths), batch)


SMALL = (2, 6, 5, 7)
NUMPY = {
    **{"TanH": ("", np.tanh), "AbsVal": ("", np.abs), "BNLL": ("", lambda x: np.log1p(np.exp(x)))},
    **{"Sigmoid": ("", lambda x: 1 / (1 + np.exp(-x))), "ReLU6": ("", lambda x: np.clip(x, 0, 6))},
    "ReLU": ("relu_param { negative_slope: 0.2 }", lambda x: np.where(x > 0, x, 0.2 * x)),
    "Power": ("power_param { power: 2 scale: 0.5 shift: 3 }", lambda x: (3 + 0.5 * x) ** 2),
    "Exp": ("exp_param { base: 2 scale: 0.5 shift: 1 }", lambda x: 2 ** (1 + 0.5 * x)),
    "Log": ("log_param { base: 10 scale: 0.1 shift: 5 }", lambda x: np.log10(5 + 0.1 * x)),
    "Clip": ("clip_param { min: -0.5 max: 0.25 }", lambda x: np.clip(x, -0.5, 0.25)),
    "Swish": ("swish_param { beta: 2 }", lambda x: x / (1 + np.exp(-2 * x))),
    "Threshold": ("threshold_param { threshold: 0.3 }", lambda x: (x > 0.3).astype(np.float32)),
    "Permute": ("permute_param { order: 0 order: 2 order: 3 order: 1 }", lambda x: x.transpose(0, 2, 3, 1)),
    "Flatten": ("flatten_param { axis: 2 }", lambda x: x.reshape(len(x), 6, 35)),
    "Reshape": ("reshape_param { shape { dim: 0 dim: 3 dim: -1 } }", lambda x: x.reshape(len(x), 3, 70)),
    "Tile": ("tile_param { axis: 2 tiles: 2 }", lambda x: np.tile(x, (1, 1, 2, 1))),
    "Reduction": ("reduction_param { operation: ASUM axis: 2 coeff: 2 }", lambda x: 2 * np.abs(x).sum((2, 3))),
    "ArgMax": ("argmax_param { axis: 1 }", lambda x: x.argmax(1)[:, None].astype(np.float32)),
    "LRN": ("lrn_param { local_size: 1 alpha: 0.5 k: 2 }", lambda x: x / (2 + 0.5 * x * x) ** 0.75),
    "MVN": ("mvn_param { }", lambda x: (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)),
    "ShuffleChannel": ("shuffle_channel_param { group: 2 }", lambda x: x[:, [0, 3, 1, 4, 2, 5]]),
    "Upsample": ("upsample_param { scale: 2 }", lambda x: x.repeat(2, 2).repeat(2, 3)),
}


def read_text(folder, text, shapes=None, **options):
    paths = caffe_files.write(folder, text, shapes or {})
    return caffe.read(paths[0], paths[1] if shapes else None, **options)


def run(captured, x):
    results = Session(captured.model).run({captured.model.inputs[0].name: x})
    return [results[port.name] for port in captured.model.outputs]


@pytest.mark.parametrize("kind", NUMPY)
def test_layers_compute_their_formula(kind, tmp_path):
    options, formula = NUMPY[kind]
    line = f'layer {{ name: "y" type: "{kind}" bottom: "data" top: "y" {options} }}'
    captured = read_text(tmp_path, net(SMALL, line))
    x = images(captured.model, 3)
    np.testing.assert_allclose(run(captured, x)[0], formula(x), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("size", range(4, 12))
@pytest.mark.parametrize("options", ["kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1",
                                     "kernel_size: 2 stride: 2 pad: 1", "kernel_size: 4 stride: 3 pad: 2"])  # fmt: skip
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_follows_caffes_rule(size, options, method, tmp_path):
    text = net((1, 2, size, size), layer("pool", "Pooling", "data", pooling_param=f"pool: {method} {options}"))
    paths = caffe_files.write(tmp_path, text, {})
    assert_as_opencv(paths, caffe.read(paths[0]), 2)


def test_slices_sums_and_second_operands(tmp_path):
    text = net(
        SMALL,
        layer("cut", "Slice", "data", ["a", "b", "c"], slice_param="axis: 1 slice_point: 2 slice_point: 4"),
        layer("sum", "Eltwise", ["a", "b", "c"], eltwise_param="coeff: 1 coeff: -2 coeff: 0.5"),
        layer("gap", "Pooling", "sum", pooling_param="pool: AVE global_pooling: true"),
        layer("flat", "Flatten", "gap"),
        layer("gated", "Scale", ["sum", "flat"], scale_param="axis: 0"),
        layer("shift", "Bias", "gated"),
    )
    captured = read_text(tmp_path, text, {"shift": [(2,)]})
    x = images(captured.model, 3)
    total = x[:, :2] - 2 * x[:, 2:4] + 0.5 * x[:, 4:]
    expected = total * total.mean((2, 3), keepdims=True) + captured.model.weights()["shift.bias"]
    np.testing.assert_allclose(run(captured, x)[0], expected, rtol=1e-5, atol=1e-5)


TRAIN_VAL = """name: "tv"
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 256 } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 12 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 } # BGR
  data_param { source: "x" batch_size: 50 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { lr_mult: 1 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "aux" type: "InnerProduct" bottom: "data" top: "aux" inner_product_param { num_output: 4 } }
layer { name: "auxloss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "l1" loss_weight: 0.3 }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "l2" }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
"""


def test_a_file_to_train_from_becomes_what_it_is_tested_as(tmp_path):
    captured = read_text(tmp_path, TRAIN_VAL, {"fc": [(4, 432), (4,)], "aux": [(4, 432), (4,)]})
    model = captured.model
    assert [port.name for port in model.outputs] == ["fc"]
    assert model.inputs[0].shape == ("N", 3, 12, 12)
    assert model.parameter_count == 432 * 4 + 4
    assert (model.preprocessing.color, model.preprocessing.mean) == ("BGR", (104, 117, 123))
    assert (model.preprocessing.scale, model.preprocessing.std) == (1, (2, 2, 2))
    assert "auxiliary classifier 'aux'" in " ".join(captured.notes)


@pytest.mark.parametrize("edition", ["layers", "V0", "double"])
def test_older_editions_of_arrays(edition, tmp_path):
    text = """input: "data" input_dim: 1 input_dim: 1 input_dim: 6 input_dim: 6
    layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 3 } }
    layers { name: "r" type: 18 bottom: "c" top: "c" }
    layers { name: "f" type: INNER_PRODUCT bottom: "c" top: "f" inner_product_param { num_output: 2 } }"""
    shapes = {"c": [(3, 1, 3, 3), (3,)], "f": [(2, 48), (2,)]}
    paths = caffe_files.write(tmp_path, text, shapes, edition)
    captured = caffe.read(*paths)
    if edition == "layers":
        assert_as_opencv(paths, captured, 2)
    for name, arrays in caffe_files.draw(shapes).items():
        np.testing.assert_array_equal(captured.model.weights()[f"{name}.weight"], arrays[0])


def test_batch_norm_and_scale_become_one_layer_that_trains(tmp_path):
    captured = caffe.read(*caffe_files.write(tmp_path, *RESNET))
    ops = [node.op_type for node in captured.model.ir.graph]
    assert (ops.count("BatchNormalization"), ops.count("Mul")) == (3, 0)
    roles = {name: role.name for name, role in captured.model.roles.items()}
    assert (roles["scale1.weight"], roles["scale1.bias"]) == ("NORM_SCALE", "NORM_BIAS")
    assert (roles["bn3.running_mean"], roles["bn3/one"]) == ("STATISTIC", "CONSTANT")
    file = caffe_files.draw(RESNET[1])
    np.testing.assert_array_equal(captured.model.weights()["bn1.running_var"], file["bn1"][1] / 2)
    learned = sum(a.size for name, arrays in file.items() for a in arrays if not name.startswith("bn"))
    assert captured.model.parameter_count == learned


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (net(SMALL, layer("p", "Python", "data"), layer("q", "Proposal", "p"), layer("r", "SPP", "data")), {},
         r"3 layers that have no translation.*Proposal \(q\); Python \(p\); SPP \(r\)"),
        (net(SMALL, layer("p", "ReLU", "data", relu_param="secret: 3")), {}, r"ReLU with secret \(p\)"),
        (net(SMALL, layer("p", "ReLU", "nowhere")), {}, "reads 'nowhere', which no layer before it writes"),
        (net(SMALL, layer("c", "Convolution", "data", convolution_param="num_output: 4 kernel_size: 3")),
         {"c": [(4, 5, 3, 3), (4,)]}, r"layer 'c', array 0 got shape \(4, 5, 3, 3\), expected \(4, 6, 3, 3\)"),
        (net(SMALL, layer("c", "Convolution", "data", convolution_param="num_output: 4 kernel_size: 3")),
         {"other": [(4,)]}, "layer 'c' got 0 arrays"),
        (net(SMALL, layer("c", "Convolution", "data", convolution_param="num_output: 4 kernel_size: 9 "
                          "weight_filler { type: 'msra' }")), {}, "too small"),
        ("layer { name: 'd' type: 'Data' top: 'data' } layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'r' }", {},
         r"Give input_shape"),
        ("layer { name: 'd' ", {}, "ends inside a message"),
        ("a: 1 " + "b {" * 50, {}, "24 levels"),
    ],
)  # fmt: skip
def test_refusals_say_what_is_wrong(text, shapes, message, tmp_path):
    with pytest.raises(PortNetError, match=message):
        read_text(tmp_path, text, shapes)


@pytest.mark.parametrize("name", ["resnet", "caffenet"])
@pytest.mark.parametrize("backend", ["torch", "keras", "gluon"])
def test_captured_networks_train(name, backend, tmp_path):
    model = caffe.read(*caffe_files.write(tmp_path, *NETWORKS[name])).model
    lowered = engine(backend).lower(model)
    x = images(model, 4)
    before = lowered.run({"data": x})["prob"]
    np.testing.assert_allclose(before, Session(model).run({"data": x})["prob"], atol=1e-5)
    assert lowered.trainable_count == model.parameter_count
    names = [key for key, role in lowered.model.roles.items() if role.trainable]
    trainer = lowered.trainer(TrainPlan(OptimizerSpec(lr=0.1), {key: ParameterPlan() for key in names}))
    old = lowered.weights()
    trainer.step(x, np.array([0, 1, 2, 3]))
    assert all(not np.array_equal(old[key], new) for key, new in lowered.weights().items() if key in names)


def test_opencv_runs_a_file_to_train_from_and_stops_at_any_layer(tmp_path):
    text = TRAIN_VAL.replace('bottom: "data" top: "fc"', 'bottom: "r" top: "fc"') + (
        'layer { name: "p" type: "Softmax" bottom: "fc" top: "p" }'
    )
    text = text.replace(
        'layer { name: "fc"', 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\nlayer { name: "fc"'
    )
    paths = caffe_files.write(tmp_path, text, {"fc": [(4, 432), (4,)]})
    captured = caffe.read(*paths, input_shape=(1, 3, 12, 12))
    source = open_with_opencv("caffe", *paths, (1, 3, 12, 12))
    x = {"data": images(captured.model, 3)}
    for tensor in ("r", "fc", "p"):
        part = Session(cut(captured.model, outputs=[tensor]))
        np.testing.assert_allclose(part.run(x)[tensor], source.at(tensor).run(x)[tensor], rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedError, match="cannot be cut at 'nowhere'"):
        source.at("nowhere")


def test_data_of_a_stage_targets_and_shared_weights(tmp_path):
    shared = "param { name: 'w' } param { name: 'b' }"
    dense = f"{shared} inner_product_param {{ num_output: 9 weight_filler {{ type: 'xavier' }} }}"
    text = f"""
    layer {{ name: "data" type: "Data" top: "data" include {{ phase: TEST stage: "on-train" }} }}
    layer {{ name: "flat" type: "Flatten" bottom: "data" top: "flat" }}
    layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" {dense} }}
    layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {dense} }}
    layer {{ name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "flat" top: "loss" }}"""
    model = read_text(tmp_path, text, input_shape=(1, 1, 3, 3)).model
    assert [port.name for port in model.outputs] == ["b"]
    assert (list(model.weights()), model.parameter_count) == (["a.weight", "a.bias"], 90)
