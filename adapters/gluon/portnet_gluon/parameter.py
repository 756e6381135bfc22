"""A Gluon parameter whose gradient takes memory once it is computed or asked for.

Gluon fills a buffer for the gradient as soon as a parameter has its numbers, so a network that only predicts takes
twice the memory of its weights. MXNet itself can put off the allocation of an array until something writes to it.
"""

from __future__ import annotations

from typing import Any

from portnet_gluon.compat import mx

__all__ = ["Parameter"]


class Parameter(mx.gluon.Parameter):  # type: ignore[misc]
    """A ``gluon.Parameter`` in all else: its array is known to autograd from the start, its gradient reads as zeros."""

    _is_unwritten = False

    def _init_grad(self) -> None:
        if self.grad_req != "write" or mx.util.is_np_array():
            super()._init_grad()
            return
        self._grad = [_unallocated(array) for array in self._data]
        self._is_unwritten = True
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

    def _settle(self) -> None:
        """Write zeros where no backward pass has written."""
        if self._is_unwritten and self._grad is not None:
            for array, gradient in zip(self._data, self._grad, strict=True):
                if not array._fresh_grad:
                    gradient[:] = 0
            self._is_unwritten = False


def _unallocated(array: Any) -> Any:
    return mx.nd.NDArray(mx.ndarray.ndarray._new_alloc_handle(array.shape, array.ctx, True, array.dtype))
