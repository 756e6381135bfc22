"""One side of a comparison, alive in a process of its own, that does a step or a batch whenever it is asked.

What PortNet sets for the whole process, and what a framework does to it, thus stays on one side; and as both sides
are asked in turns, they meet the same weather.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

from bench.batch import batch_of
from bench.process import ROOT, environment
from bench.timing import Action, Sample, clocked

__all__ = ["Process", "serve"]

# begins the lines that are answers
MARK = "bench-side "


class Process:
    """A process that waits to be asked.

    Args:
        module: module of this package that calls `serve` with what it can do, given a job as its argument.
        job: what it is to do, as JSON takes it.
        threads: threads of the framework; None for its own choice.
    """

    def __init__(self, module: str, job: dict[str, Any], threads: int | None = None) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(job)],
            cwd=ROOT,
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, action: str) -> Sample:
        """Have it do one thing of those that it serves, such as "step", once; return how long it took.

        Raises:
            RuntimeError: the process has ended; tells the last line it said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(action + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return Sample(*json.loads(line.removeprefix(MARK)))
        raise self._ended()

    def _ended(self) -> RuntimeError:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines() or ["nothing said"]
        return RuntimeError(f"exit code {self._process.wait()}: {lines[-1]}")


def serve(actions: Mapping[str, Action]) -> None:
    """Do what is asked for, line by line, and answer with how long it took."""
    timed = {name: clocked(action) for name, action in actions.items()}
    for line in sys.stdin:
        print(MARK + json.dumps(timed[line.strip()]()), flush=True)


def _actions(*, engine: str, network: str, reference: int | None, count: int, size: int) -> dict[str, Action]:
    if reference is None:
        return _ours(engine, network, count, size)
    return _theirs(engine, reference, network, count, size)


def _ours(engine: str, network: str, count: int, size: int) -> dict[str, Action]:
    import portnet
    from bench.networks import lowered, trainer

    batch = batch_of(count, size)
    native = lowered(portnet.engine(engine), network, batch)
    trainers: list[Any] = []

    def step() -> float:
        # made at the first step, so that inference before it is that of a network that only predicts
        if not trainers:
            trainers.append(trainer(native))
        loss: float = trainers[0].step(batch.x, batch.y).loss
        if engine == "gluon":
            sys.modules["mxnet"].nd.waitall()  # it would do the rest while the other side is timed
        return loss

    return {"step": step, "inference": lambda: native.predict(batch.x)}


def _theirs(engine: str, reference: int, network: str, count: int, size: int) -> dict[str, Action]:
    from bench.references import OFFERS, build

    batch, native = batch_of(count, size), build(engine, OFFERS[engine][reference], network, size)
    x = native.layout(batch.x)
    return {"step": lambda: native.step(x, batch.y), "inference": lambda: native.predict(x)}


if __name__ == "__main__":
    serve(_actions(**json.loads(sys.argv[1])))
