"""Shapes that values share: a network of a hundred tensors has a few dozen shapes, and making one takes a while."""

from __future__ import annotations

import functools

import onnx_ir as ir

__all__ = ["shared_shape"]


@functools.lru_cache(1 << 12)
def shared_shape(dims: tuple[int | str | None, ...]) -> ir.Shape:
    """Return a frozen shape; a string is a symbolic size, None an unknown one."""
    return ir.Shape(dims, frozen=True)
