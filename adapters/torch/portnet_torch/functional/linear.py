"""Matrix products with factors."""

from __future__ import annotations

import torch
from torch import Tensor


def gemm(a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float) -> Tensor:
    """Return alpha·(a @ b) + beta·c in the type of a."""
    product = torch.matmul(a, b)
    if alpha != 1.0:
        product = (product * alpha).to(a.dtype)
    if c is None:
        return product
    return product + (c if beta == 1.0 else (c * beta).to(a.dtype))
