"""The order in which frameworks may be loaded into one process.

Triton, which comes with PyTorch's CUDA wheels for Linux, and TensorFlow each bring LLVM along. With TensorFlow 2.21
loaded first, loading Triton 3.7 ends the process with a segmentation fault; the other way round both work. PyTorch
loads Triton late, at the first optimizer or export, and goes without it where it does not import.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress

__all__ = ["before_tensorflow", "before_torch"]

_TRITON, _TENSORFLOW = "triton", "tensorflow"


def before_tensorflow() -> None:
    """Load Triton, where it is installed, before TensorFlow is: to be called by whoever loads TensorFlow."""
    if _TENSORFLOW not in sys.modules and importlib.util.find_spec(_TRITON) is not None:
        # one that does not import does no harm either; torch finds out for itself
        with suppress(Exception):
            importlib.import_module(_TRITON)


def before_torch() -> None:
    """Have Triton not import any more where TensorFlow came before it: to be called by whoever works with torch.

    torch.compile on CUDA then says that Triton is missing. ``import triton`` before TensorFlow gives it back.
    """
    if _TENSORFLOW in sys.modules and _TRITON not in sys.modules and importlib.util.find_spec(_TRITON) is not None:
        sys.modules[_TRITON] = None  # type: ignore[assignment]
