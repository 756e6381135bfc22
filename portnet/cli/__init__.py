"""The command line: parse, call, print. Each command is a file; what it does is in the library."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run ``portnet``; a PortNetError becomes one line on standard error and its exit code."""
    from portnet.cli.app import app
    from portnet.errors import PortNetError

    try:
        app()
    except PortNetError as error:
        print(f"portnet: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("portnet: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # whoever read the output has gone; without this, Python complains once more as it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if os.environ.get("PORTNET_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        print(
            f"portnet: internal error: {type(error).__name__}: {text}. This is a bug in PortNet; "
            "please report it with what PORTNET_TRACEBACK=1 prints.",
            file=sys.stderr,
        )
        raise SystemExit(70) from None
