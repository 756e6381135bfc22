"""A device whose memory runs out while a network trains: one line that says what to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from portnet.adapter import Adapter
from portnet.errors import PortNetError, TrainingError
from portnet.finetuning.settings import Settings

__all__ = ["enough_memory"]


@contextmanager
def enough_memory(adapter: Adapter, settings: Settings) -> Iterator[None]:
    """Turn what a framework raises for want of memory inside the block into an error that says what to do.

    Raises:
        TrainingError: the memory ran out.
    """
    try:
        yield
    except PortNetError:
        raise
    except Exception as error:
        if not adapter.is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory on {settings.device}: got batches of {settings.batch_size}, expected what fits beside the "
            f"network ({adapter.framework}: {_said(error)}). {_advice(settings)}"
        ) from error


def _said(error: Exception) -> str:
    """Return the line of a framework's message that speaks of memory, as far as it can be read."""
    lines = [line.strip() for line in str(error).splitlines() if re.search("memory|oom|alloc", line, re.IGNORECASE)]
    return shorten(lines[0], 160, placeholder=" ...").rstrip(".") if lines else type(error).__name__


def _advice(settings: Settings) -> str:
    half, steps = settings.batch_size // 2, 2 * settings.accumulate
    smaller = f"Take batch_size={half} and accumulate={steps}, which makes the same steps; or " if half else ""
    return f"{smaller}{'freeze' if smaller else 'Freeze'} more of the network, or take smaller images."
