"""Inference mode for a while, and everything as it was behind it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

import torch
from torch import nn

__all__ = ["inference_mode", "quiet"]


@contextlib.contextmanager
def inference_mode(native: object) -> Iterator[None]:
    """Put a module into inference mode; each submodule is in its own mode again afterwards, whatever happens.

    The fused kernels of torch's transformer layers, which inference would take and no exporter knows, are off.
    """
    modes = [(module, module.training) for module in native.modules()] if isinstance(native, nn.Module) else []
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        if isinstance(native, nn.Module) and any(training for _, training in modes):
            with contextlib.suppress(NotImplementedError):  # a traced program is in the mode it was traced in
                native.eval()
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporter says of its own workings from the user: what matters to them becomes a note."""
    names = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "onnxscript")
    loggers = [logging.getLogger(name) for name in names]
    levels, silenced = [logger.level for logger in loggers], _OfOtherThreads(sys.stderr)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        # torch.export prints the graph that it had when it failed, however long
        with warnings.catch_warnings(), contextlib.redirect_stderr(silenced):
            warnings.simplefilter("ignore")
            yield
    finally:
        silenced.pass_all_on()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _OfOtherThreads(io.TextIOBase):
    """Passes on what other threads write than the one that made it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._silent: int | None = threading.get_ident()

    def pass_all_on(self) -> None:
        """Silence nobody from now on: where threads end in another order than they began, this stays in place."""
        self._silent = None

    def write(self, text: str) -> int:
        if threading.get_ident() == self._silent:
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()
