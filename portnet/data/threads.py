"""Threads, not processes: Pillow and numpy release the interpreter lock, and frameworks survive no fork."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["default_workers", "in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processors this process may use, at most eight."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, computed ahead by ``workers`` threads.

    At most ``workers + 1`` results are being computed or waiting at any time, so memory stays bounded
    however many items there are. An exception is raised where its result would have been yielded. When
    the iterator is closed early, what has not begun is dropped.
    """
    count = workers or default_workers()
    source = iter(items)
    with ThreadPoolExecutor(count, thread_name_prefix="portnet-data") as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            ahead.extend(pool.submit(function, item) for item in islice(source, count + 1))
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
