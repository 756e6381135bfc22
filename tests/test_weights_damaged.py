"""Damaged weight files: mutations of each format are read or refused."""

import pickle
import random

import numpy as np
import pytest
from weight_files import KERNEL, entry, params, safetensors, tensors

from portnet.errors import WeightsError
from portnet.weights.read import read_weights


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
