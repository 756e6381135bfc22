"""Threads, not processes: Pillow and numpy release the interpreter lock, and frameworks survive no fork."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

__all__ = ["default_workers", "in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processors this process may use, at most eight."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, *, at_once: int = 1
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, computed ahead by ``workers`` threads.

    At most ``workers + 1`` results are being computed or waiting at any time, so memory stays bounded
    however many items there are. An exception is raised where its result would have been yielded. When
    the iterator is closed early, what has not begun is dropped.

    A thread takes ``at_once`` items at a time, and so many times more results are waiting: to hand one over takes
    some 50 µs, as long as it takes to read a photo's header. An exception then stands for the results beside it.
    """
    if at_once == 1:
        yield from _each(function, iter(items), workers)
        return
    source = iter(items)
    runs = iter(lambda: list(islice(source, at_once)), [])
    yield from chain.from_iterable(_each(lambda run: [function(item) for item in run], runs, workers))


def _each(function: Callable[[Item], Result], source: Iterator[Item], workers: int | None) -> Iterator[Result]:
    count = workers or default_workers()
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
