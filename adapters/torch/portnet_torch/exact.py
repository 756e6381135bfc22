"""How CUDA computes: in float32 whole, and the same each time.

cuDNN rounds the factors of convolutions to TF32 unless it is told not to, which leaves 10 bits of mantissa: no proof
against the CPU would hold. And it may take algorithms that add in whatever order threads end in: no resumed run would
end bit-identical. Both are switched for the time of a call and put back, for they are the process's, not ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["about", "exact", "repeatable"]

# cuBLAS repeats itself only with a workspace of its own; it reads this once, when it is first used
# https://docs.nvidia.com/cuda/cublas/#results-reproducibility
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def about(device: str) -> dict[str, str]:
    """Return a device's name, and what else decides the bits that it gives."""
    return {
        device: torch.cuda.get_device_name(device),
        "cuDNN": str(torch.backends.cudnn.version()),
        _CUBLAS[0]: os.environ.get(*_CUBLAS),
    }


@contextmanager
def exact(device: str, *, tf32: bool = False) -> Iterator[None]:
    """Compute float32 products on a CUDA device in float32, or in TF32; elsewhere, do nothing."""
    if not device.startswith("cuda"):
        yield
        return
    cudnn = torch.backends.cudnn
    products = torch.get_float32_matmul_precision()
    with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(products)


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Take algorithms on a CUDA device that give the same bits each time, and warn where torch has none."""
    if not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault(*_CUBLAS)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
