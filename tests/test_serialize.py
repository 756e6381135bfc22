"""Files in and out: external data, atomic writes, and files that lie."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from portnet.errors import ModelError, OutputError
from portnet.graph import serialize, write
from portnet.graph.model import Model
from portnet.graph.wire import field_header

WEIGHT = np.arange(4096, dtype=np.float32).reshape(64, 64)


def proto(weight: onnx.TensorProto | None = None) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["h", "b"], ["y"], "sum"),
    ]
    ports = [helper.make_tensor_value_info(name, 1, ["N", 64]) for name in "xy"]
    weights = [weight or numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(WEIGHT[0], "b")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def parse(model: onnx.ModelProto) -> Model:
    return Model.from_bytes(model.SerializeToString())


def run(path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.eye(64, dtype=np.float32)[:2]})[0]


@pytest.mark.parametrize("external_bytes", [write.EXTERNAL_BYTES, 1000], ids=["one file", "data file"])
def test_what_is_saved_is_loaded(tmp_path, external_bytes):
    write.save(parse(proto()).to_ir(), tmp_path / "m.onnx", external_bytes=external_bytes)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == ({"m.onnx"} if external_bytes > 1000 else {"m.onnx", "m.onnx.data"})
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    assert np.array_equal(run(tmp_path / "m.onnx"), WEIGHT[:2] + WEIGHT[0])
    loaded = Model.load(tmp_path / "m.onnx")
    assert list(loaded.weights()) == ["w", "b"]
    assert np.array_equal(loaded.weights()["w"], WEIGHT)
    loaded.save(tmp_path / "m.onnx")  # over the file it is mapped from
    assert np.array_equal(loaded.weights()["w"], WEIGHT)
    assert np.array_equal(run(tmp_path / "m.onnx"), WEIGHT[:2] + WEIGHT[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "uint2", "float16", "int64", "bool"])
@pytest.mark.parametrize("external_bytes", [write.EXTERNAL_BYTES, 1000])
def test_every_width_survives(tmp_path, dtype, external_bytes):
    kind = (
        np.dtype(dtype) if dtype in ("float16", "int64", "bool") else np.dtype(getattr(__import__("ml_dtypes"), dtype))
    )
    array = (np.arange(8193) % 2).astype(kind)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(kind), [8193])],
        [numpy_helper.from_array(array, "w")],
    )
    write.save(parse(helper.make_model(graph)).to_ir(), tmp_path / "m.onnx", external_bytes=external_bytes)
    assert np.array_equal(Model.load(tmp_path / "m.onnx").weights()["w"], array)
    assert np.array_equal(numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0]), array)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        parse(proto()).save(tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"before"


def test_paths_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "absent" / "m.onnx", tmp_path):
        with pytest.raises(OutputError, match="cannot write"):
            parse(proto()).save(path)


def test_nodes_out_of_order_are_sorted():
    model = proto()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert [node.name for node in parse(model).ir.graph] == ["product", "sum"]


def test_a_negative_size_is_a_free_one():
    model = proto()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert parse(model).inputs[0].shape == (None, 64)


def _edited(edit) -> bytes:
    model = proto()
    edit(model)
    return model.SerializeToString()


def _cycle(model):
    model.graph.node[0].input[0] = "y"


def _dims(model):
    model.graph.initializer[0].dims[0] = 1 << 39


BROKEN = {
    "nothing": (b"", "is empty"),
    "text": (b"hello, I am a poem about networks, not one myself\n" * 9, "not ONNX"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph"),
    "truncated": (proto().SerializeToString()[:-3000], "truncated"),
    "cycle": (_edited(_cycle), "node 'product' .* is part of a cycle"),
    "no opset": (_edited(lambda m: m.ClearField("opset_import")), "imports no operator set"),
    "no outputs": (_edited(lambda m: m.graph.ClearField("output")), "has no outputs"),
    "missing tensor": (_edited(lambda m: m.graph.initializer.pop()), "node 'sum' .* reads tensor 'b'"),
    "written twice": (_edited(lambda m: m.graph.node[1].output.append("h")), "'h' is written twice"),
    "initializer twice": (_edited(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "'w' is given twice"),
    "output never written": (_edited(lambda m: setattr(m.graph.output[0], "name", "q")), "'q' is never written"),
    "wrong length": (_edited(lambda m: m.graph.initializer[1].dims.append(2)), "got 256 bytes, expected 512"),
    "huge dims": (_edited(_dims), "got 16384 bytes, expected 140737488355328"),
    "negative dims": (_edited(lambda m: m.graph.initializer[0].dims.append(-1)), "sizes that fit in memory"),
    "unknown type": (_edited(lambda m: setattr(m.graph.initializer[0], "data_type", 99)), "data type 99"),
    "absurd size": (
        _edited(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1 << 62)),
        "tensor 'x': got a size of 4611686018427387904",
    ),
    "no op type": (_edited(lambda m: setattr(m.graph.node[0], "op_type", "")), "has no op type"),
    "external bytes": (
        _edited(lambda m: setattr(m.graph.initializer[0], "data_location", 1)),
        "its data is external",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path, name):
    data, message = BROKEN[name]
    with pytest.raises(ModelError, match=message) as error:
        Model.from_bytes(data)
    assert "\n" not in str(error.value)
    (tmp_path / "m.onnx").write_bytes(data)
    if name != "external bytes":
        with pytest.raises(ModelError, match=message):
            Model.load(tmp_path / "m.onnx")


def test_deep_nesting_is_refused():
    graph = helper.make_graph([], "g", [], []).SerializeToString()
    for _ in range(10_000):
        attribute = field_header(6, len(graph)) + graph
        node = field_header(5, len(attribute)) + attribute
        graph = field_header(1, len(node)) + node
    with pytest.raises(ModelError, match="not ONNX, or truncated"):
        Model.from_bytes(field_header(7, len(graph)) + graph)


def external(location: str, **entries: str) -> onnx.ModelProto:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[64, 64], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return proto(tensor)


@pytest.fixture
def folder(tmp_path):
    """A model's folder with a data file in it and one outside."""
    (tmp_path / "model" / "sub").mkdir(parents=True)
    for path in ("model/inside.bin", "model/sub/deep.bin", "outside.bin"):
        (tmp_path / path).write_bytes(bytes(16) + WEIGHT.tobytes())
    return tmp_path / "model"


def load(folder, location: str, **entries: str) -> Model:
    (folder / "m.onnx").write_bytes(external(location, **entries).SerializeToString())
    return Model.load(folder / "m.onnx")


def test_external_data_inside_the_folder(folder):
    os.symlink("sub/deep.bin", folder / "link.bin")
    for location in ("inside.bin", "./inside.bin", "sub/deep.bin", "link.bin"):
        assert np.array_equal(load(folder, location, offset="16").weights()["w"], WEIGHT)


def test_a_download_cache_links_names_to_blobs(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots" / "main").mkdir(parents=True)
    (tmp_path / "blobs" / "aa").write_bytes(external("m.onnx.data").SerializeToString())
    (tmp_path / "blobs" / "bb").write_bytes(WEIGHT.tobytes())
    for name, blob in (("m.onnx", "aa"), ("m.onnx.data", "bb")):
        os.symlink(f"../../blobs/{blob}", tmp_path / "snapshots" / "main" / name)
    assert np.array_equal(Model.load(tmp_path / "snapshots" / "main" / "m.onnx").weights()["w"], WEIGHT)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../outside.bin", "below the model's folder"),
        ("sub/../../outside.bin", "below the model's folder"),
        ("..\\outside.bin", "below the model's folder"),
        ("/etc/passwd", "below the model's folder"),
        ("C:\\secret", "below the model's folder"),
        ("", "below the model's folder"),
        ("inside\0.bin", "below the model's folder"),
        ("absent.bin", "no such file"),
        ("symlink.bin", "leads outside"),
        ("linked/outside.bin", "leads outside"),
        ("hardlink.bin", "hardlinks"),
        ("sub", "is no file"),
        ("fifo", "is no file"),
    ],
)
def test_external_data_may_not_leave_the_folder(folder, location, message):
    os.symlink("../outside.bin", folder / "symlink.bin")
    os.symlink("..", folder / "linked")
    os.link(folder.parent / "outside.bin", folder / "hardlink.bin")
    os.mkfifo(folder / "fifo")
    with pytest.raises(ModelError, match=message):
        load(folder, location)


@pytest.mark.parametrize(
    "entries",
    [{"offset": "17"}, {"offset": "-1"}, {"length": "5"}, {"offset": "9" * 30}, {"offset": "0x10"}, {"length": ""}],
)
def test_external_data_must_fit_its_file(folder, entries):
    with pytest.raises(ModelError, match="tensor 'w'"):
        load(folder, "inside.bin", **entries)


def test_weights_are_not_read_until_asked_for(tmp_path):
    """Loading, and canonical form, of 256 MB of weights takes a fraction of that."""
    code = """
import resource, sys
from portnet.graph.model import Model
from portnet.graph.wire import field_header
import portnet.graph.canonical
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = Model.load(sys.argv[1]).canonical()
assert model.parameter_count == 64 << 20
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 8192])],
        [helper.make_tensor_value_info("y", 1, ["N", 8192])],
        [numpy_helper.from_array(np.zeros((8192, 8192), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "big.onnx").write_bytes(model.SerializeToString())
    result = subprocess.run([sys.executable, "-c", code, tmp_path / "big.onnx"], capture_output=True, text=True)
    assert int(result.stdout) < 100, result.stderr


def test_files_of_two_gigabytes_are_told_to_go_to_a_file(monkeypatch):
    monkeypatch.setattr(write, "EXTERNAL_BYTES", 1000)
    with pytest.raises(ModelError, match="expected less than 2 GiB"):
        serialize.serialize(parse(proto()).to_ir())
