"""The command line: parse, call, print. Each command is a file; what it does is in the library."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

__all__ = ["main"]

_INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main() -> None:
    """Run ``portnet``; what is wrong with its arguments and every PortNetError is one line on standard error."""
    with _CtrlC() as ctrl_c:
        _run(ctrl_c)


def _run(ctrl_c: _CtrlC) -> None:
    from portnet.errors import PortNetError

    try:
        from portnet.cli.app import app

        _prepare_output()
        code = app(prog_name="portnet", standalone_mode=False)
        if code == _INTERRUPTED:  # what the parser makes of Ctrl-C
            raise KeyboardInterrupt
    except PortNetError as error:
        _say(f"portnet: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        _say("portnet: interrupted")
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(141) from None
    except Exception as error:
        if ctrl_c.came:  # while a library was imported, which made an error of its own of it
            _say("portnet: interrupted")
            raise SystemExit(_INTERRUPTED) from None
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _say(f"portnet: cannot write what it has to say: {error.strerror}")
            _drop_output()
            raise SystemExit(2) from None
        if hasattr(error, "format_message"):  # the parser's own
            _say(_usage(error))
            raise SystemExit(2) from None
        if os.environ.get("PORTNET_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        _say(
            f"portnet: internal error: {type(error).__name__}: {text}. This is a bug in PortNet; "
            "please report it with what PORTNET_TRACEBACK=1 prints."
        )
        raise SystemExit(70) from None
    raise SystemExit(code if isinstance(code, int) else 0)


class _CtrlC:
    """Python's own answer to Ctrl-C, which also remembers that it came."""

    def __init__(self) -> None:
        self.came = False
        is_main = threading.current_thread() is threading.main_thread()
        self._is_ours = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> _CtrlC:
        if self._is_ours:
            signal.signal(signal.SIGINT, self._answer)
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def _prepare_output() -> None:
    """Make sure that anything can be printed: to a closed output, and to one that knows few characters."""
    from portnet.terminal import HANDLER

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors=HANDLER)


def _say(text: str) -> None:
    """Print a line on standard error; where nobody can be told any more, the exit code says it alone."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def _drop_output() -> None:
    """Forget what is still to be written: whoever read it has gone, and Python would complain once more as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: Any) -> str:
    """Return what the parser found wrong with the arguments, on one line."""
    command = error.ctx.command_path if error.ctx else "portnet"
    text = " ".join(error.format_message().split())
    return f"{command}: {text if text.endswith(('.', '?')) else text + '.'} See {command} --help."
