"""How long a user waits for `import portnet` and `portnet --help`, and what they load."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from bench.row import Row
from bench.timing import Budget, clocked, interleaved

__all__ = ["FORBIDDEN", "rows"]

# what neither command may load
FORBIDDEN = ("torch", "tensorflow", "keras", "mxnet", "onnxruntime", "onnx", "onnx_ir", "numpy", "PIL")
BARE = "pass"
HELP = "import sys; sys.argv = ['portnet', '--help']; from portnet.cli import main; main()"
# command as users know it -> program, largest milliseconds over bare Python
COMMANDS = {"import portnet": ("import portnet", 60), "portnet --help": (HELP, 400)}
_LOADED = """
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules}))))
"""


def rows(budget: Budget) -> list[Row]:
    """Return time over bare Python, and the count of modules that must not be loaded, of each command."""
    return [row for command in COMMANDS for row in (_time(command, budget), _modules(command))]


def _time(command: str, budget: Budget) -> Row:
    program, aim = COMMANDS[command]
    times = interleaved(clocked(lambda: _python(program)), clocked(lambda: _python(BARE)), budget)
    over = [(ours.wall - theirs.wall) * 1e3 for ours, theirs in zip(times.ours, times.theirs, strict=True)]
    low, _, high = statistics.quantiles(over, n=4, method="inclusive")
    fields = times.fields | {"score": statistics.median(over), "spread": (low, high), "extra": None}
    return Row("imports", command, against="bare Python", kind="ms over", aim=aim, **fields)


def _modules(command: str) -> Row:
    loaded = json.loads(_python(_LOADED + COMMANDS[command][0]).splitlines()[-1])
    found = sorted(set(FORBIDDEN) & set(loaded))
    note = f"loads {', '.join(found)}" if found else f"loads none of {', '.join(FORBIDDEN)}"
    against = "modules that it must not load"
    return Row("imports", command, against=against, kind="modules", score=len(found), aim=0, rounds=1, note=note)


def _python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
