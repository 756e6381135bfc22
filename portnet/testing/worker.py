"""Runs cases in child processes, so that a native crash or a hang costs one case and not the run.

A child reads case names from standard input, one a line, and writes one `Outcome` as JSON for each. Children are
fresh interpreters, never forks: no framework survives a fork once it has started its threads.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import IO

from portnet.testing.cases import Case, case_names, find_case
from portnet.testing.peers import backend_of
from portnet.testing.suite import Outcome, run_case

__all__ = ["run_cases"]


def run_cases(
    engine: str, chosen: Iterable[Case], limit_s: float, processes: int, progress: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run cases on an engine in ``processes`` children; see `portnet.testing.suite.run_suite`."""
    backend_of(engine)
    todo: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in chosen:
        todo.put(case)
    outcomes: list[Outcome] = []

    def work() -> None:
        with _Child(engine, limit_s) as child:
            while not todo.empty():
                try:
                    case = todo.get_nowait()
                except queue.Empty:
                    return
                outcome = child.run(case)
                outcomes.append(outcome)
                progress(outcome)

    threads = [threading.Thread(target=work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class _Child:
    """A process that runs one case at a time; replaced when it dies."""

    def __init__(self, engine: str, limit_s: float) -> None:
        self.engine, self.limit_s = engine, limit_s
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def run(self, case: Case) -> Outcome:
        process = self.process = self._alive()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.limit_s, give_up)
        timer.start()
        try:
            answer = _ask(process, case.name)
        finally:
            timer.cancel()
        if answer:
            return Outcome(**json.loads(answer))
        code = process.wait()
        reason = f"no end within {self.limit_s:g} s" if late.is_set() else f"the process died with code {code}"
        return Outcome(case.name, case.kind, case.op, "crashed", reason, self.limit_s if late.is_set() else 0.0)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "portnet.testing.worker", self.engine]

    def _alive(self) -> subprocess.Popen[str]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        process = subprocess.Popen(
            self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process


def _ask(process: subprocess.Popen[str], name: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(name + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline()


def _serve(engine: str, names: IO[str], answers: IO[str]) -> None:
    backend = backend_of(engine)
    case_names()
    print("ready", file=answers, flush=True)
    for name in names:
        print(json.dumps(asdict(run_case(find_case(name.strip()), backend))), file=answers, flush=True)


def _main() -> None:
    # frameworks print: keep the pipe for answers and send everything else to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.argv[1], sys.stdin, answers)


if __name__ == "__main__":
    _main()
