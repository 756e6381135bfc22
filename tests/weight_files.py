"""Weight files to read: what writes them, what they hold, how a reader is judged."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

from portnet.errors import WeightsError
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


def zip_members(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)


def legacy(body):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return LEGACY_MAGIC + b"".join(pickle.dumps(value, 2) for value in (1001, system)) + body + pickle.dumps([], 2)


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
