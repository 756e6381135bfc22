"""Conversion to files: each format is what its own community loads, is proved before it appears, and leaves no trace
when the proof fails.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

import portnet
from portnet import Model, conversion
from portnet.cli import main
from portnet.conversion import convert_to_file
from portnet.engines import engine, installed
from portnet.errors import OutputError, ParityError, UnknownNameError, UnsupportedError
from portnet.files import staged
from portnet.parity import check
from portnet.parity.noise import rounding_noise
from portnet.parity.sides import OnnxruntimeSide
from portnet.runtime.session import Session


def text_network():
    """Embedding of 6 tokens, LayerNormalization, the first 4 of them, Gemm, Softplus, Gemm."""
    generator = np.random.default_rng(5)
    shapes = {
        **{"embedding.weight": (11, 8), "norm.weight": (8,), "norm.bias": (8,)},
        **{"hidden.weight": (32, 7), "hidden.bias": (7,), "head.weight": (3, 7), "head.bias": (3,)},
    }
    arrays = {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"starts": np.array([0]), "ends": np.array([4]), "axes": np.array([1]), "rows": np.array([-1, 32])}
    nodes = [
        helper.make_node("Gather", ["embedding.weight", "tokens"], ["embedded"], name="embedding", axis=0),
        helper.make_node("LayerNormalization", ["embedded", "norm.weight", "norm.bias"], ["normed"], name="norm"),
        helper.make_node("Slice", ["normed", "starts", "ends", "axes"], ["first"], name="first"),
        helper.make_node("Reshape", ["first", "rows"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["wide"], name="hidden"),
        helper.make_node("Softplus", ["wide"], ["active"], name="activation"),
        helper.make_node("Gemm", ["active", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    return _model("text", nodes, ("tokens", TensorProto.INT64, ["N", 6]), ("logits", ["N", 3]), arrays)


def _model(name, nodes, x, y, arrays=None):
    initializers = [numpy_helper.from_array(array, key) for key, array in (arrays or {}).items()]
    ports = [helper.make_tensor_value_info(*x)], [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])]
    graph = helper.make_graph(nodes, name, *ports, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return Model.from_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def networks():
    return {"image": portnet.zoo.load("squeezenet1_1", weights=None, size=64), "text": text_network()}


# ---- every format, loaded as its community does, with nothing of PortNet


def _pt2(path):
    import torch

    network = torch.export.load(path).module()
    return lambda x: network(torch.from_numpy(x)).detach().numpy()


def _state_dict(path):
    """Weights by the layers' names; the architecture is the user's own."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(path)
    if "embedding.weight" not in weights:
        assert weights["features.3.squeeze.weight"].shape == (16, 64, 1, 1)
        return None
    embedding, norm, hidden, head = torch.nn.Embedding(11, 8), torch.nn.LayerNorm(8), *_dense(torch, (32, 7), (7, 3))
    network = torch.nn.ModuleDict({"embedding": embedding, "norm": norm, "hidden": hidden, "head": head})
    network.load_state_dict(weights)

    def run(x):
        first = norm(embedding(torch.from_numpy(x)))[:, :4].reshape(-1, 32)
        return head(torch.nn.functional.softplus(hidden(first))).detach().numpy()

    return run


def _dense(torch, *sizes):
    return [torch.nn.Linear(*size) for size in sizes]


def _code(path):
    import torch

    network = _module(path / "model.py").load()
    return lambda x: network(torch.from_numpy(x)).detach().numpy()


def _module(path):
    spec = importlib.util.spec_from_file_location("generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _keras(path):
    import keras

    network = keras.models.load_model(path)
    return lambda x: network.predict(_channels_last(x), verbose=0)


def _saved_model(path):
    import tensorflow as tf

    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    [name] = signature.structured_input_signature[1]
    return lambda x: signature(**{name: tf.constant(_channels_last(x))})["logits"].numpy()


def _tflite(path):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    port, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(x):
        interpreter.resize_tensor_input(port, _channels_last(x).shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(port, _channels_last(x))
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return run


def _symbol(path):
    mx = sys.modules["portnet_gluon.compat"].mx
    name = "tokens" if "text" in path.name else "input"
    network = mx.gluon.SymbolBlock.imports(f"{path}-symbol.json", [name], f"{path}-0000.params")
    return lambda x: network(mx.nd.array(x, dtype=x.dtype)).asnumpy()


def _channels_last(x):
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


LOADERS = {
    ("torch", "pt2"): (".pt2", _pt2),
    ("torch", "safetensors"): (".safetensors", _state_dict),
    ("torch", "code"): ("", _code),
    ("keras", "keras"): (".keras", _keras),
    ("keras", "saved_model"): ("", _saved_model),
    ("keras", "tflite"): (".tflite", _tflite),
    ("gluon", "symbol"): ("", _symbol),
}
FORMATS = [pytest.param(*key, id="-".join(key)) for key in LOADERS if key[0] in installed()]


def _example(model, batch):
    port = model.inputs[0]
    generator = np.random.default_rng(3)
    shape = (batch, *port.shape[1:])
    return generator.integers(0, 11, shape) if port.dtype == "int64" else generator.random(shape, np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", ["image", "text"])
@pytest.mark.parametrize(("to", "form"), FORMATS)
def test_a_format_is_what_its_community_loads(to, form, network, networks, tmp_path):
    suffix, load = LOADERS[to, form]
    path, model, steps = tmp_path / f"{network}{suffix}", networks[network], []
    report = convert_to_file(model, to=to, output=path, progress=steps.append)
    assert (report.engine, report.form) == (to, form)
    assert report.network.passed
    assert [c.batch for c in report.reloaded.comparisons] == ["random, batch 1", "random, batch 3"]
    assert report.size == sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert {entry.name for entry in tmp_path.iterdir()} == {f.relative_to(tmp_path).parts[0] for f in report.files}
    assert len(steps) == 6
    assert str(path) in str(report)
    json.dumps(report.to_dict())
    run, x = load(path), _example(model, 2)
    if run is not None:
        np.testing.assert_allclose(run(x), Session(model).logits(x), rtol=1e-4, atol=1e-5)


def test_every_format_is_tested_and_in_the_help(monkeypatch, capsys):
    known = {(to, form) for to in installed() for form in engine(to).formats}
    assert {key for key in LOADERS if key[0] in installed()} == known
    _, output = _portnet(monkeypatch, capsys, "convert", "--help")
    assert all(re.search(rf"\b{form}\b", output) for _, form in known)


# ---- nothing appears unless it is proved


def _leftovers(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(("to", "form"), FORMATS)
def test_a_file_with_other_weights_is_never_seen(to, form, networks, tmp_path, monkeypatch):
    model, adapter = networks["text"], engine(to)
    other = model.with_weights({"head.bias": model.weights()["head.bias"] + np.float32(0.01)})
    write = adapter.write
    monkeypatch.setattr(adapter, "write", lambda lowered, *where: write(adapter.lower(other), *where))
    path = tmp_path / f"net{LOADERS[to, form][0]}"
    with pytest.raises(ParityError, match=re.escape(path.name)):
        convert_to_file(model, to=to, output=path)
    assert _leftovers(tmp_path) == []


@pytest.mark.parametrize(("to", "form"), FORMATS)
def test_a_damaged_file_is_never_seen(to, form, networks, tmp_path, monkeypatch):
    adapter = engine(to)
    write = adapter.write

    def truncated(*arguments):
        files = write(*arguments)
        largest = max(
            (f for top in files for f in [top, *top.rglob("*")] if f.is_file()), key=lambda f: f.stat().st_size
        )
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
        return files

    monkeypatch.setattr(adapter, "write", truncated)
    with pytest.raises(ParityError):
        convert_to_file(networks["text"], to=to, output=tmp_path / f"net{LOADERS[to, form][0]}")
    assert _leftovers(tmp_path) == []


@pytest.fixture
def to():
    """The name of any engine."""
    return installed()[0]


def _suffix(to):
    return next(suffix for known in engine(to).formats.values() for suffix in known.suffixes if suffix)


def test_what_was_there_is_replaced_on_success_alone(to, networks, tmp_path, monkeypatch):
    path = tmp_path / f"net{_suffix(to)}"
    path.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(engine(to), "reload", _fail)
        with pytest.raises(ParityError, match="ZeroDivisionError: by zero"):
            convert_to_file(networks["text"], to=to, output=path)
    assert path.read_bytes() == b"precious"
    convert_to_file(networks["text"], to=to, output=path)
    assert path.read_bytes() != b"precious"


def _fail(*arguments):
    raise ZeroDivisionError("by\nzero")


def test_what_a_framework_cannot_write_is_refused(to, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(engine(to), "write", _fail)
    with pytest.raises(UnsupportedError, match=r"cannot write the network as .*: ZeroDivisionError: by zero"):
        convert_to_file(networks["text"], to=to, output=tmp_path / f"net{_suffix(to)}")
    assert _leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "form", "error", "words"),
    [
        ("nowhere/net", None, OutputError, "a folder that exists"),
        ("full", None, OutputError, "not empty"),
        ("net.onnx", None, OutputError, "got .onnx, expected one of"),
        ("net", "caffe", UnknownNameError, "unknown format"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_read(to, tmp_path, name, form, error, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.txt").write_text("mine")
    with pytest.raises(error, match=words):
        convert_to_file(tmp_path / "no_such.onnx", to=to, output=tmp_path / name, form=form)
    assert _leftovers(tmp_path) == ["full"]


def test_two_files_are_replaced_both_or_not_at_all(tmp_path):
    (tmp_path / "net-a").write_text("old a")
    (tmp_path / "net-b" / "mine").mkdir(parents=True)
    with pytest.raises(OutputError, match="not empty"):
        _write_two(tmp_path / "net")
    assert _leftovers(tmp_path) == ["net-a", "net-b"]
    assert (tmp_path / "net-a").read_text() == "old a"
    assert (tmp_path / "net-b" / "mine").is_dir()


def _write_two(output):
    with staged(output) as path:
        path.with_name("net-a").write_text("new a")
        path.with_name("net-b").write_text("new b")


# ---- inputs to compare on


def _fixed_inside():
    """Claims a free batch and reshapes to one."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["row"], name="reshape"),
        helper.make_node("MatMul", ["row", "weight"], ["y"], name="dense"),
    ]
    arrays = {"shape": np.array([1, 4]), "weight": np.eye(4, dtype=np.float32)}
    return _model("fixed", nodes, ("x", TensorProto.FLOAT, ["N", 4]), ("y", ["M", 4]), arrays)


def test_a_batch_that_onnxruntime_cannot_run_is_not_asked_for(to, tmp_path):
    report = convert_to_file(_fixed_inside(), to=to, output=tmp_path / "net")
    assert [c.batch for c in report.reloaded.comparisons] == ["random, batch 1"]


def test_given_inputs_are_compared_on(to, networks, tmp_path):
    inputs = {"tokens": np.array([[10, 9, 8, 7, 6, 5]])}
    report = convert_to_file(networks["text"], to=to, output=tmp_path / "net", inputs=inputs)
    assert [c.batch for c in report.reloaded.comparisons] == ["given inputs"]


# ---- what the files are like


@pytest.mark.skipif("keras" not in installed(), reason="needs Keras")
def test_a_keras_file_of_keras_layers_needs_no_portnet_and_trains(networks, tmp_path):
    report = convert_to_file(networks["text"], to="keras", output=tmp_path / "net.keras")
    assert not any("PortNet" in note for note in report.notes)
    program = """
import sys
sys.modules.update(dict.fromkeys(("portnet", "portnet_keras")))
import keras
network = keras.models.load_model(sys.argv[1])
print(sum(int(keras.ops.size(v)) for v in network.trainable_variables), [layer.name for layer in network.layers])
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "net.keras"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = "['tokens', 'embedding', 'norm', 'flatten', 'hidden', 'activation', 'head']"
    assert done.stdout.strip() == f"{networks['text'].parameter_count} {names}"


@pytest.mark.skipif("keras" not in installed(), reason="needs Keras")
def test_a_keras_file_with_layers_of_portnet_says_so(tmp_path):
    nodes = [helper.make_node("Add", ["x", "offset"], ["y"], name="shift")]
    arrays = {"offset": np.ones((1, 4), np.float32)}
    model = _model("loose", nodes, ("x", TensorProto.FLOAT, ["N", 4]), ("y", ["N", 4]), arrays)
    report = convert_to_file(model, to="keras", output=tmp_path / "net.keras")
    assert any("PortNet's own Weight" in note for note in report.notes)


@pytest.mark.skipif("keras" not in installed(), reason="needs Keras")
def test_what_tensorflow_lite_lacks_is_named(tmp_path):
    nodes = [helper.make_node("Erf", ["x"], ["e"], name="erf"), helper.make_node("Asinh", ["e"], ["y"], name="asinh")]
    model = _model("rare", nodes, ("x", TensorProto.FLOAT, ["N", 4]), ("y", ["N", 4]))
    with pytest.raises(UnsupportedError, match=r"TensorFlow Lite .* no operator for .*Asinh"):
        convert_to_file(model, to="keras", output=tmp_path / "net.tflite")
    assert _leftovers(tmp_path) == []


# ---- the command


def _portnet(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["portnet", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, capsys.readouterr().out


def test_the_command_tells_what_it_wrote(to, networks, tmp_path, monkeypatch, capsys):
    networks["text"].save(tmp_path / "text.onnx")
    path = tmp_path / f"net{_suffix(to)}"
    code, output = _portnet(monkeypatch, capsys, "convert", tmp_path / "text.onnx", "--to", to, "-o", path, "--json")
    report = json.loads(output)
    assert code == 0
    assert report["reloaded"]["passed"]
    assert all(Path(file).exists() for file in report["files"])


@pytest.mark.parametrize(("name", "expected"), [("write", 2), ("reload", 1)])
def test_exit_codes(to, networks, tmp_path, monkeypatch, capsys, name, expected):
    networks["text"].save(tmp_path / "text.onnx")
    monkeypatch.setattr(engine(to), name, _fail)
    arguments = "convert", tmp_path / "text.onnx", "--to", to, "-o", tmp_path / f"net{_suffix(to)}"
    assert _portnet(monkeypatch, capsys, *arguments) == (expected, "")
    assert _leftovers(tmp_path) == ["text.onnx"]


def test_a_quantized_network_may_differ_as_onnxruntime_does_from_itself(monkeypatch):
    """A sum that lies half a step between two integers falls to the other side once onnxruntime has fused it."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y)
    <float s = {0.1}, uint8 z = {3}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""")
    model = Model.from_bytes(proto.SerializeToString())
    off = OnnxruntimeSide(model)
    monkeypatch.setattr(off, "run", lambda feeds: {"y": OnnxruntimeSide(model).run(feeds)["y"] + np.float32(0.1)})
    with pytest.raises(ParityError):
        conversion._prove(off, OnnxruntimeSide(model))
    monkeypatch.setattr(check, "rounding_noise", lambda *_: 0.05)
    assert conversion._prove(off, OnnxruntimeSide(model)).passed


def test_a_network_of_floats_has_no_noise():
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y)
    { y = Exp(x) }""")
    side = OnnxruntimeSide(Model.from_bytes(proto.SerializeToString()))
    assert rounding_noise(side, [{"x": np.ones((1, 4), np.float32)}]) == 0
