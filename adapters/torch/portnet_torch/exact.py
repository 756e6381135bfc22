"""How CUDA computes: in float32 whole, and the same each time.

cuDNN rounds the factors of convolutions to TF32 unless it is told not to, which leaves 10 bits of mantissa: no proof
against the CPU would hold. And it may take algorithms that add in whatever order threads end in: no resumed run would
end bit-identical. Both are switched for the time of a call and put back, for they are the process's, not ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["about", "exact", "repeatable"]

# cuBLAS repeats itself only with a workspace of its own; it reads this once, so it stays set
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
    ways = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    products, before = _products(), [(kind, kind.fp32_precision) for kind in _kinds()]
    try:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
        _switch("high" if tf32 else "highest", tf32)
        # the older switch leaves convolutions to what is said of all backends
        for kind, _ in before:
            kind.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = ways
        _switch(products, dict(before)[cudnn.conv] == "tf32")
        for kind, precision in before:
            kind.fp32_precision = precision


def _kinds() -> list[Any]:
    """Return the kinds of products that torch has a switch for; mkldnn's hangs together with CUDA's."""
    backends = torch.backends
    return [backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn]


def _switch(products: str, convolutions: bool) -> None:
    """Turn torch's older switches, which its compiler reads and which must not contradict the newer ones."""
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def _products() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer switches alone were turned
        return "highest"


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
