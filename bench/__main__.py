"""``python -m bench``: PortNet measured side by side with what one would use without it.

Each engine runs in a process of its own; see `docs/bench.md` for the figures and how they are taken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from bench import accuracy, conversion, frozen, head, imports, loading, loop, report, steps
from bench.peers import cache
from bench.process import ROOT, measure
from bench.row import Row
from bench.timing import Budget

SECTIONS = ("steps", "inference", "imports", "convert", "memory", "loading", "head", "loop", "frozen", "accuracy")
NETWORKS = ("squeezenet1_1", "squeezenet1_0", "mobilenet_v2", "resnet18", "resnet18_v2", "resnet50")
ENGINES = ("torch", "keras", "gluon")
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "bench.md"


@dataclass(frozen=True)
class Plan:
    """What to measure, and how large."""

    sections: tuple[str, ...]
    networks: tuple[str, ...]
    engines: tuple[str, ...]
    count: int
    size: int
    megabytes: int
    budget: Budget
    threads: int | None
    is_quick: bool

    @property
    def context(self) -> dict[str, object]:
        """What a row of a step or a batch says of its run."""
        threads = {} if self.threads is None else {"threads": self.threads}
        return {"batch": self.count, "pixels": f"{self.size}×{self.size}", **threads}


def main() -> int:
    """Measure, print and write; return 1 where an aim is missed or a measurement failed."""
    options = _parse()
    plan, rows = _plan(options), []
    today = datetime.now(timezone.utc).date().isoformat()
    for row in _rows(plan):
        rows.append(replace(row, measured=today))
        print(_progress(rows[-1]), file=sys.stderr, flush=True)
    report.show(rows)
    _write(rows, options)
    return 0 if all(row.met is not False and row.score is not None for row in rows) else 1


def _write(rows: list[Row], options: argparse.Namespace) -> None:
    path = options.json or (None if options.quick else RESULTS)
    if path is None:
        return
    merged = report.save(path, rows)
    if path == RESULTS:
        PAGE.write_text(report.markdown(merged))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure; all by default")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="may be given more than once")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be given more than once")
    parser.add_argument("--threads", type=int, help="threads of the frameworks; their own choice by default")
    parser.add_argument("--quick", action="store_true", help="small batch, few rounds, one network; keeps no results")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"results, default {RESULTS.relative_to(ROOT)}")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    return Plan(
        sections=tuple(options.sections or SECTIONS),
        networks=tuple(options.network or (NETWORKS[:1] if quick else NETWORKS)),
        engines=tuple(options.engine or ENGINES),
        count=2 if quick else 8,
        size=224,
        megabytes=134 if quick else 1000,
        budget=Budget(3, 5, 5.0) if quick else Budget(),
        threads=options.threads,
        is_quick=quick,
    )


def _rows(plan: Plan) -> Iterator[Row]:
    for section in plan.sections:
        if section not in ("steps", "inference"):
            yield from _MEASURED[section](plan)
    yield from _networks(plan)


def _networks(plan: Plan) -> Iterator[Row]:
    """Steps and inference, a process for each side; inference first, as a step would move the statistics."""
    wanted = [name for section, name in (("inference", "inference"), ("steps", "step")) if section in plan.sections]
    if not wanted:
        return
    for network in plan.networks:
        for engine in plan.engines:
            failed = Row(wanted[-1], network, engine)
            for row in _tried(failed, lambda network=network, engine=engine: _steps(plan, engine, network, wanted)):
                yield replace(row, context=plan.context)


def _steps(plan: Plan, engine: str, network: str, wanted: list[str]) -> list[Row]:
    return steps.rows(
        engine,
        network,
        wanted,
        count=plan.count,
        size=plan.size,
        budget=plan.budget,
        threads=plan.threads,
    )


def _imports(plan: Plan) -> Iterator[Row]:
    yield from _tried(Row("imports", "portnet"), lambda: imports.rows(Budget(7, 21, plan.budget.seconds)))


def _convert(plan: Plan) -> Iterator[Row]:
    for network in plan.networks:
        if "torch" in plan.engines:
            yield from _tried(
                Row("convert", network, "torch", "onnx2torch"),
                lambda network=network: conversion.torch_rows(
                    network, plan.size, plan.count, plan.budget, plan.threads
                ),
            )
        if "keras" in plan.engines:
            yield from _tried(
                Row("convert", network, "keras", "onnx2tf"),
                lambda network=network: conversion.keras_rows(network, plan.size, plan.threads),
            )


def _memory(plan: Plan) -> Iterator[Row]:
    path = cache() / f"chain-{plan.megabytes}.onnx"
    if not path.exists():
        measure("bench.chain", {"path": str(path), "megabytes": plan.megabytes})
    for engine in plan.engines:
        job = {"engine_name": engine, "path": str(path)}
        yield from _tried(Row("memory", "conversion", engine), lambda job=job: measure("bench.memory", job))


def _loading(plan: Plan) -> Iterator[Row]:
    for kind in loading.KINDS:
        for peer in loading.PEERS:
            failed = Row("loading", kind, against=peer)
            yield from _tried(failed, lambda kind=kind, peer=peer: loading.rows(kind, peer, plan.budget))


def _head(plan: Plan) -> Iterator[Row]:
    for engine in plan.engines:
        failed = Row("head step", "dense", engine, head.OTHERS[engine])
        yield from _tried(failed, lambda engine=engine: list(head.rows(engine, plan.budget, plan.threads)))


def _loop(plan: Plan) -> Iterator[Row]:
    for engine in plan.engines:
        failed = Row("loop", loop.NETWORK, engine, "a loop by hand")
        job = partial(loop.rows, engine, plan.count, plan.size, plan.budget, plan.threads)
        for row in _tried(failed, lambda job=job: list(job())):
            yield replace(row, context=plan.context)


def _frozen(plan: Plan) -> Iterator[Row]:
    work = frozen.Work(16, 3, 2, 32) if plan.is_quick else frozen.Work()
    for job in frozen.JOBS:
        if job.engine in plan.engines:
            failed = Row("frozen", job.network, job.engine, job.against)
            yield from _tried(failed, lambda job=job: list(frozen.rows(job, work, plan.threads)))


def _accuracy(plan: Plan) -> Iterator[Row]:
    failed = Row("accuracy", accuracy.NETWORK)
    yield from _tried(failed, lambda: measure("bench.accuracy", {"engines": plan.engines}))


_MEASURED: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "imports": _imports,
    "convert": _convert,
    "memory": _memory,
    "loading": _loading,
    "head": _head,
    "loop": _loop,
    "frozen": _frozen,
    "accuracy": _accuracy,
}


def _tried(failed: Row, measured: Callable[[], list[Row]]) -> list[Row]:
    """Return what was measured, or the row that says why there is nothing."""
    try:
        return measured()
    except Exception as error:
        return [replace(failed, note=f"{type(error).__name__}: {error}")]


def _progress(row: Row) -> str:
    score = "failed" if row.score is None else f"{row.score:.3g} {row.kind}"
    return f"{row.section}: {row.subject} {row.engine} against {row.against or 'nothing'}: {score} {row.note}"


if __name__ == "__main__":
    sys.exit(main())
