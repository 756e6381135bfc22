"""Readers of safetensors, .npz and .params, and what is no weights file at all."""

import io
import pickle
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from weight_files import (
    KERNEL,
    entry,
    params,
    refused,
    safetensors,
    same,
    write_zip,
)

from portnet.weights.read import read_weights

# ---- safetensors


def test_a_length_that_looks_like_a_pickle_s_magic_is_a_length(tmp_path):
    entries = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    bare = len(safetensors(entries, b"", {"note": ""})) - 8
    data = safetensors(entries, bytes(16), {"note": "x" * (0x0280 - bare)})
    assert data[:2] == b"\x80\x02"
    (tmp_path / "w.safetensors").write_bytes(data)
    assert read_weights(tmp_path / "w.safetensors")["a"].shape == (4,)


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
