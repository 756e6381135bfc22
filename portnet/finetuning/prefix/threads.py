"""One thread for a head so small that to share its work out takes longer than to do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portnet.adapter import Adapter
from portnet.graph.model import Model
from portnet.graph.summary import summarize

__all__ = ["few_threads"]

# multiply-accumulates of a forward pass, 32 images through a dense layer of 2,048 numbers and 128 classes. The best of
# 60 steps of 2,048 numbers and 101 classes took torch 0.87 ms on one thread and 1.04 on two; MXNet takes one anyway
SMALL = 1 << 23


@contextmanager
def few_threads(adapter: Adapter, network: Model, batch_size: int) -> Iterator[None]:
    """Let an engine use one thread inside the block where ``network`` is small and the engine can be told so."""
    macs = summarize(network).macs
    before = adapter.limit_threads(1) if macs is not None and macs * batch_size <= SMALL else None
    try:
        yield
    finally:
        if before is not None:
            adapter.limit_threads(before)
