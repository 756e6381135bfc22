"""Conversions to element types that torch lacks or rounds otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def to_bits(x: Tensor, bits: int, signed: bool, carrier: torch.dtype) -> Tensor:
    """Return the low ``bits`` of the truncated numbers, in a type that holds them."""
    whole = x.to(torch.int64) & (2**bits - 1)
    if signed:
        whole = torch.where(whole >= 2 ** (bits - 1), whole - 2**bits, whole)
    return whole.to(carrier)


def to_small_float(x: Tensor, exponent_bits: int, mantissa_bits: int, largest: float) -> Tensor:
    """Round to the nearest number of a small float type (ties to even), saturating, carried as float32.

    These types have no NaN: it becomes -0.
    """
    x = x.to(torch.float32).nan_to_num(-0.0, largest, -largest)
    lowest = 2 - 2 ** (exponent_bits - 1)
    _, exponent = torch.frexp(x)
    step = torch.ldexp(torch.ones_like(x), torch.clamp(exponent - 1, min=lowest) - mantissa_bits)
    return torch.clamp(torch.round(x / step) * step, -largest, largest)


def to_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    """Round to an 8-bit float; out of range becomes the largest number, or with ``saturate`` off inf or NaN."""
    x = x.to(torch.float32)
    largest = torch.finfo(dtype).max
    if not saturate:
        overflow = torch.nan if dtype != torch.float8_e5m2 else torch.inf
        limit = largest * (1 + 2.0 ** (-4 if "e4m3" in str(dtype) else -3))
        over = (x.abs() >= limit) if "e5m2" in str(dtype) else (x.abs() > limit)
        x = torch.where(over, torch.copysign(torch.full_like(x, overflow), x), x)
        return x.to(dtype)
    return torch.where(x.isnan(), x, x.clamp(-largest, largest)).to(dtype)


def to_float8_e8m0(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """Round to a power of two, carried as float8_e8m0fnu: ``up``, ``down`` or ``nearest`` (ties up)."""
    x = x.to(torch.float32)
    mantissa, exponent = torch.frexp(x.abs())
    up = {"up": mantissa > 0.5, "down": mantissa > 1, "nearest": mantissa >= 0.75}[round_mode]
    power = torch.where(mantissa == 0, -127, exponent - 1 + up.to(exponent.dtype))
    special = ~torch.isfinite(x)
    if not saturate:
        special = special | (power > 127) | (power < -127)
    code = torch.where(special, 255, power.clamp(-127, 127) + 127)
    return code.to(torch.uint8).view(torch.float8_e8m0fnu)


def unsigned_to_float(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the int64 bits of uint64 as floats."""
    high, low = (x >> 32) & 0xFFFFFFFF, x & 0xFFFFFFFF
    return (high.to(torch.float64) * 2.0**32 + low.to(torch.float64)).to(dtype)


def float_to_unsigned(x: Tensor) -> Tensor:
    """Return floats as uint64, in the int64 of the same bits."""
    x = x.to(torch.float64)
    return torch.where(x >= 2.0**63, (x - 2.0**64).to(torch.int64), x.to(torch.int64))


def to_strings(x: Tensor):  # type: ignore[no-untyped-def]
    """Return a numpy object array of numbers written out."""
    import numpy

    return numpy.array([str(n) for n in x.flatten().numpy()], dtype=object).reshape(tuple(x.shape))


def from_strings(x, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def]
    """Read numbers from a numpy object array of strings."""
    number = float if dtype.is_floating_point else int
    return torch.tensor([number(text) for text in x.ravel()], dtype=dtype).reshape(x.shape)
