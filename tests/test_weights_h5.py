"""Weights in HDF5, as both editions of Keras name them."""

import struct

import numpy as np
import pytest
from weight_files import KERNEL, refused

from portnet.weights.read import read_weights


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
