"""torch.compile, and what to say where it has no compiler to work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from portnet.errors import UnsupportedError

__all__ = ["compiled"]


def compiled(network: Any) -> Callable[..., Any]:
    """Return the network as torch.compile makes it, at its first call.

    Raises:
        UnsupportedError: (when it is called) there is no C++ compiler, or it fails.
    """
    # the last batch of an epoch is smaller: one graph for all sizes would be slower for the many that are not
    call = torch.compile(network, dynamic=False)

    def run(*inputs: Any) -> Any:
        try:
            return call(*inputs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().splitlines()[0]
            raise UnsupportedError(
                f"torch.compile failed: {reason}. Install a C++ compiler (g++), or leave compile out.", engine="torch"
            ) from error

    return run
