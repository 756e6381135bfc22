"""A Gluon parameter whose gradient takes memory once it is computed or asked for.

Gluon fills a buffer for the gradient as soon as a parameter has its numbers, so a network that only predicts takes
twice the memory of its weights. Here the buffer is reserved and left unwritten: the system gives pages to what is
written alone. (MXNet can put off the allocation itself, but kernels of oneDNN fail on an array that has none yet.)
"""

from __future__ import annotations

from typing import Any

from portnet_gluon.compat import mx

__all__ = ["Parameter"]


class Parameter(mx.gluon.Parameter):  # type: ignore[misc]
    """A ``gluon.Parameter`` in all else; ``grad`` reads as zeros until something is computed."""

    _is_unwritten = False

    def _init_grad(self) -> None:
        self._is_unwritten = self.grad_req == "write" and not mx.util.is_np_array()
        if not self._is_unwritten:
            super()._init_grad()
            return
        self._grad = [_unwritten(array) for array in self._data]
        mx.autograd.mark_variables(self._check_and_get(self._data, list), self._grad, self.grad_req)

    def grad(self, ctx: Any = None) -> Any:
        """Return the gradient on one context."""
        self._settle()
        return super().grad(ctx)

    def list_grad(self) -> list[Any]:
        """Return the gradients on all contexts."""
        self._settle()
        gradients: list[Any] = super().list_grad()
        return gradients

    def cast(self, dtype: Any) -> None:
        """Cast the array and its gradient."""
        self._settle()
        super().cast(dtype)

    def _settle(self) -> None:
        """Write zeros where no backward pass has written."""
        if self._is_unwritten and self._grad is not None:
            for array, gradient in zip(self._data, self._grad, strict=True):
                if not array._fresh_grad:
                    gradient[:] = 0
            self._is_unwritten = False


def _unwritten(array: Any) -> Any:
    return mx.nd.empty(array.shape, ctx=array.ctx, dtype=array.dtype)
