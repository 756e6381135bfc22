"""Finds installed engines by entry point and imports none until it is asked for."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from portnet.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from portnet.adapter import Adapter

__all__ = ["COLLECTIONS", "KNOWN", "adapters", "engine", "installed"]

GROUP = "portnet.engines"
_WAIT_POLICY = "OMP_WAIT_POLICY"

# engines that exist, with what people call them: for install hints and tables
KNOWN: dict[str, str] = {"torch": "PyTorch", "keras": "Keras", "gluon": "MXNet Gluon"}
# collections of networks that an engine opens, by the word before the colon: for install hints alone
COLLECTIONS: dict[str, str] = {"torchvision": "torch", "timm": "torch", "keras": "keras", "gluon": "gluon"}


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def installed() -> list[str]:
    """Names of the engines whose adapter is installed, in the order of `KNOWN`; imports none of them."""
    points = _entry_points()
    return [name for name in KNOWN if name in points] + sorted(set(points) - set(KNOWN))


@functools.cache
def adapters() -> tuple[Adapter, ...]:
    """Return every adapter that is installed and importable, in the order of `KNOWN`; imports no framework."""
    found: list[Adapter] = []
    for name in installed():
        with suppress(ImportError):
            found.append(_entry_points()[name].load()())
    return tuple(found)


@functools.cache
def engine(name: str) -> Adapter:
    """Return the engine called ``name``.

    >>> import portnet
    >>> lowered = portnet.engine("torch").lower(portnet.zoo.load("squeezenet1_1"))  # doctest: +SKIP

    Raises:
        UnknownNameError: no engine has that name.
        MissingDependencyError: its adapter or its framework is not installed; says what to install.
    """
    points = _entry_points()
    if name not in points:
        if name in KNOWN:
            raise MissingDependencyError(f"engine {name!r} needs {KNOWN[name]}: pip install 'portnet[{name}]'")
        raise UnknownNameError("engine", name, sorted({*KNOWN, *points}))
    try:
        with _passive_waiting():
            adapter: Adapter = points[name].load()()
            adapter.version()
    except ImportError as error:
        raise MissingDependencyError(
            f"engine {name!r} needs {KNOWN.get(name, name)}, which does not import ({error}): "
            f"pip install 'portnet[{name}]'"
        ) from error
    return adapter


@contextmanager
def _passive_waiting() -> Iterator[None]:
    """Load OpenMP so that its idle threads sleep; what the user has set stays.

    The runtime reads OMP_WAIT_POLICY when a framework loads it. Spinning threads, its default, make a training step up
    to seven times slower as soon as anything else wants the processor: a data loader, a session, another program.
    """
    if _WAIT_POLICY in os.environ:
        yield
        return
    os.environ[_WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[_WAIT_POLICY]
