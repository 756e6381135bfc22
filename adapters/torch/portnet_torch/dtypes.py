"""The border between numpy and torch: which tensor carries which ONNX element type.

torch computes little on unsigned integers wider than 8 bits and nothing on 4-bit types, so those travel in a
wider type that holds their values and become themselves again when they leave: uint16 as int32, uint32 as int64,
uint64 as the int64 of the same bits, int4 as int8, float4 and float6 as float32. Strings are numpy object arrays.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from portnet.errors import ModelError

__all__ = ["CARRIERS", "MASKS", "numpy_dtype", "own_tensor", "to_array", "to_tensor", "torch_dtype"]

_D = ir.DataType

# ONNX element type -> the torch dtype that carries it
CARRIERS: dict[ir.DataType, torch.dtype] = {
    _D.FLOAT: torch.float32,
    _D.DOUBLE: torch.float64,
    _D.FLOAT16: torch.float16,
    _D.BFLOAT16: torch.bfloat16,
    _D.INT8: torch.int8,
    _D.INT16: torch.int16,
    _D.INT32: torch.int32,
    _D.INT64: torch.int64,
    _D.UINT8: torch.uint8,
    _D.BOOL: torch.bool,
    _D.COMPLEX64: torch.complex64,
    _D.COMPLEX128: torch.complex128,
    _D.UINT16: torch.int32,
    _D.UINT32: torch.int64,
    _D.UINT64: torch.int64,
    _D.INT4: torch.int8,
    _D.INT2: torch.int8,
    _D.UINT4: torch.uint8,
    _D.UINT2: torch.uint8,
    _D.FLOAT4E2M1: torch.float32,
    _D.FLOAT6E2M3: torch.float32,
    _D.FLOAT6E3M2: torch.float32,
    _D.FLOAT8E4M3FN: torch.float8_e4m3fn,
    _D.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    _D.FLOAT8E5M2: torch.float8_e5m2,
    _D.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    _D.FLOAT8E8M0: torch.float8_e8m0fnu,
}

# unsigned types carried in a wider one -> the bits that are theirs
MASKS: dict[ir.DataType, int] = {_D.UINT16: 0xFFFF, _D.UINT32: 0xFFFFFFFF}

# numpy dtypes that torch.from_numpy refuses -> (dtype of the same bits, torch dtype of those bits)
_SAME_BITS: dict[np.dtype, tuple[type, torch.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}

# numpy dtypes that torch has too
_CARRIED_AS_IS: dict[np.dtype, torch.dtype] = {
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.int64): torch.int64,
}

# numpy dtypes carried in a wider one
_WIDER: dict[np.dtype, type] = {
    np.dtype(np.uint16): np.int32,
    np.dtype(np.uint32): np.int64,
    np.dtype(np.uint64): np.int64,
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.uint2): np.uint8,
    np.dtype(ml_dtypes.float4_e2m1fn): np.float32,
    np.dtype(ml_dtypes.float6_e2m3fn): np.float32,
    np.dtype(ml_dtypes.float6_e3m2fn): np.float32,
}


# from so many entries on, memory that torch aligns pays
MANY = 1 << 12


def torch_dtype(dtype: ir.DataType | None) -> torch.dtype:
    """Return the torch dtype that carries an ONNX element type.

    Raises:
        ModelError: torch has nothing that could hold it, or it is unknown.
    """
    if dtype not in CARRIERS:
        raise ModelError(f"element type: got {dtype}, expected one that torch can hold")
    return CARRIERS[dtype]


def numpy_dtype(name: str) -> np.dtype | None:
    """Return the numpy dtype of a `portnet.graph.model.Signature`'s name, e.g. "float32", "bfloat16", "string".

    None where it is "unknown": such a tensor is of the type that carries it.
    """
    if name == "unknown":
        return None
    if name == "string":
        return np.dtype(object)
    return np.dtype(getattr(ml_dtypes, name, name))


def to_tensor(array: Any) -> Any:
    """Return a tensor on the array's memory where torch can use it, else on a copy; strings stay numpy.

    Any strides are accepted; a negative one is copied, as torch has none.
    """
    array = np.asarray(array)
    if array.dtype.kind in "OUST":
        return array.astype(object)
    if array.dtype in _WIDER:
        return torch.from_numpy(array.astype(_WIDER[array.dtype]))
    bits, dtype = _SAME_BITS.get(array.dtype, (None, None))
    array = _usable(array if bits is None else array.view(bits))
    tensor = torch.from_numpy(array)
    return tensor if dtype is None else tensor.view(dtype)


def own_tensor(array: np.ndarray, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """Return a tensor of its own memory, into which the array is copied once, even where it cannot be written to."""
    if array.dtype not in _CARRIED_AS_IS:
        return to_tensor(array).clone(memory_format=memory_format)
    if array.size < MANY and memory_format is torch.contiguous_format:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    tensor = torch.empty(array.shape, dtype=_CARRIED_AS_IS[array.dtype], memory_format=memory_format)
    np.copyto(tensor.numpy(), array)
    return tensor


def _usable(array: np.ndarray) -> np.ndarray:
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def to_array(value: Any, dtype: np.dtype | None = None) -> Any:
    """Return a contiguous numpy array of its own memory; ``dtype`` is the type that a carrier stands for."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value, dtype=dtype)
    value = value.detach().resolve_conj().resolve_neg().cpu()
    for special, (bits, carried) in _SAME_BITS.items():
        if value.dtype == carried:
            return np.array(value.contiguous().view(torch.from_numpy(np.empty(0, bits)).dtype).numpy()).view(special)
    return np.array(value.numpy(), dtype=dtype, order="C")
