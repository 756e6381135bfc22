"""What damaged files end in: a model or one line, within a bounded time."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable

from portnet.errors import PortNetError

__all__ = ["ending"]


def ending(
    action: Callable[[], object], seconds: int, may_raise: type[Exception] | tuple[type[Exception], ...] = PortNetError
) -> str:
    """Return "" where ``action`` ends well or in an error that it may raise, told in one line; else what happened.

    Args:
        action: what to do with a damaged file.
        seconds: time that it may take; by SIGALRM, so in the main thread of a POSIX system alone.
        may_raise: errors that are an answer.
    """
    before = signal.signal(signal.SIGALRM, _too_slow(seconds))
    signal.alarm(seconds)
    try:
        action()
    except TimeoutError as error:
        return str(error)
    except may_raise as error:
        told = isinstance(error, PortNetError) and "\n" in str(error)
        return f"error of several lines: {error!r}" if told else ""
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return ""


def _too_slow(seconds: int) -> Callable[..., None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    return stop
