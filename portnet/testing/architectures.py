"""``python -m portnet.testing.architectures SOURCE ... --out rows.jsonl``: capture networks and lower them everywhere.

    python -m portnet.testing.architectures --list torchvision > names.txt   # or gluon
    python -m portnet.testing.architectures @names.txt --engines keras,gluon --out rows.jsonl

Each source is captured, compared with its original, lowered onto each engine and compared with onnxruntime, in a
process of its own with a limit of time. A row is appended as JSON as soon as it is known; a source that has one already
is passed over, so a run may be interrupted and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from portnet.adapter import CaptureOptions
from portnet.engines import engine
from portnet.errors import InputError, PortNetError
from portnet.parity.check import check
from portnet.parity.report import Report
from portnet.parity.sides import OnnxruntimeSide, SourceSide

__all__ = ["Row", "examine", "read_rows", "table"]

# pixels that are tried in order until the network runs; each at a batch of 1 and 3
SIZES = (64, 128, 224, 256, 320)
# untrained networks may give very small numbers, beside which an absolute tolerance says nothing
MAX_RELATIVE = 2e-4
_ONE = "--one"


@dataclass
class Row:
    """What became of one network.

    Attributes:
        source: the word that names it.
        size: pixels of its input.
        nodes: nodes of the captured graph.
        parameters: trainable scalars of the captured graph.
        expected: trainable scalars as the framework counts them, without those that inference does not read; None
            where it does not say.
        capture: largest difference from the original over its largest output, or what went wrong.
        seconds: time that capture took, comparison included.
        engines: the same by engine, against onnxruntime.
        notes: what capture said.
    """

    source: str
    size: int = 0
    nodes: int = 0
    parameters: int = 0
    expected: int | None = None
    capture: float | str = "not run"
    seconds: float = 0.0
    engines: dict[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything agrees, counts included."""
        results = [self.capture, *self.engines.values()]
        return all(isinstance(result, float) for result in results) and self.expected in (None, self.parameters)


def examine(source: str, engines: Sequence[str], sizes: Sequence[int] = SIZES) -> Row:
    """Capture one network and lower it onto engines.

    Args:
        source: a word such as ``torchvision:resnet18``.
        engines: names of the engines to lower it onto.
        sizes: heights and widths to try.
    """
    row = Row(source)
    begin = time.monotonic()
    try:
        captured, report = _capture(row, source, sizes)
    except Exception as error:  # a row is written whatever happens
        row.capture = _line(error)
        return row
    row.seconds = round(time.monotonic() - begin, 1)
    model, row.notes = captured.model, captured.notes
    row.nodes, row.parameters = len(model.ir.graph), model.parameter_count
    row.capture = _result(report)
    for name in engines:
        try:
            row.engines[name] = _result(check(engine(name).lower(model), model, find_layer=False))
        except Exception as error:  # as above
            row.engines[name] = _line(error)
    return row


def _capture(row: Row, source: str, sizes: Sequence[int]) -> tuple[Any, Report]:
    import numpy as np

    native = _opened(source)
    for index, size in enumerate(sizes):
        shape = (2, size, size, 3) if source.startswith("keras") else (2, 3, size, size)
        example = np.random.default_rng(0).standard_normal(shape, np.float32)
        try:
            _enliven(native, shape)
            captured, original = engine(_owner(source)).capture(native, CaptureOptions((example,)))
        except (InputError, RuntimeError, ValueError):  # it does not run at this size
            if index == len(sizes) - 1:
                raise
            continue
        height = (captured.model.inputs[0].shape or (size,))[-1]
        row.size, row.expected = height if isinstance(height, int) else size, _count(native, captured.model)
        ours, theirs = OnnxruntimeSide(captured.model), SourceSide(original, captured.model)
        return captured, check(ours, theirs, find_layer=False)
    raise AssertionError("no size was given")


def _opened(source: str) -> Any:
    return engine(_owner(source)).open(source)


def _owner(source: str) -> str:
    prefix = source.partition(":")[0]
    return {"torchvision": "torch", "timm": "torch"}.get(prefix, prefix)


def _enliven(native: Any, shape: Sequence[int]) -> None:
    """Make an untrained network give more than zeros: no weight of zeros, statistics of its own activations.

    Some collections begin with a classifier of zeros, whose output would prove nothing; deep networks fade out with
    running statistics that were never trained.
    """
    if hasattr(native, "collect_params"):
        _enliven_gluon(native, shape)
    if hasattr(native, "trainable_weights"):
        _enliven_keras(native)
    if not hasattr(native, "named_parameters"):
        return
    torch: Any = sys.modules["torch"]
    torch.manual_seed(0)
    norms = [module for module in native.modules() if getattr(module, "running_mean", None) is not None]
    with torch.no_grad():
        for name, value in native.named_parameters():
            if name.endswith("weight") and not value.any():
                value.normal_(0, 0.02)
        if norms:
            for module in norms:
                module.reset_running_stats()
                module.momentum = None  # the average over what comes
            native.train()(torch.randn(4, *shape[1:]))
            for module in norms:
                module.momentum = 0.1
            native.eval()


def _enliven_gluon(native: Any, shape: Sequence[int]) -> None:
    """Do the same to a Gluon block, whose first weights fade out in a few layers: draw them as He et al. 2015 did."""
    mx: Any = sys.modules["mxnet"]
    mx.random.seed(0)
    native.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), force_reinit=True)
    norms: list[Any] = []
    native.apply(lambda block: norms.append(block) if hasattr(block, "running_mean") else None)
    before = [norm._kwargs["momentum"] for norm in norms]
    for norm in norms:
        norm._kwargs["momentum"] = 0  # what comes replaces what was
    with mx.autograd.train_mode():
        native(mx.nd.random.normal(shape=(4, *shape[1:]))).wait_to_read()
    for norm, momentum in zip(norms, before, strict=True):
        norm._kwargs["momentum"] = momentum


def _enliven_keras(native: Any) -> None:
    """Give a Keras network seeded weights that carry a signal, and statistics that are not 0 and 1."""
    import numpy as np

    rng = np.random.default_rng(0)
    for weight in native.weights:
        draw = rng.standard_normal(weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 1) / 2)
        if "variance" in weight.path:
            draw = np.abs(draw) * 0.1 + 1
        elif weight.path.endswith(("gamma", "scale")):
            draw = draw * 0.1 + 1
        elif len(weight.shape) < 2:
            draw = draw * 0.1
        weight.assign(draw)


def _count(native: Any, model: Any) -> int | None:
    """Count trainable scalars as the framework does, as far as the graph reads them."""
    if hasattr(native, "named_parameters"):
        read = model.ir.graph.initializers
        return sum(value.numel() for name, value in native.named_parameters() if name in read)
    if hasattr(native, "collect_params"):
        read, named = model.ir.graph.initializers, native._collect_params_with_prefix()
        return sum(each.data().size for name, each in named.items() if name in read and each.grad_req != "null")
    if hasattr(native, "trainable_weights"):
        return sum(int(weight.shape.num_elements()) for weight in native.trainable_weights)
    return None


def _result(report: Report) -> float | str:
    """Return the largest difference over the largest output: rounding grows with it, whatever one entry is."""
    worst = max((comparison.max_rel for comparison in report.comparisons), default=float("nan"))
    if not report.problems and worst <= MAX_RELATIVE:
        return worst
    problems = [*report.problems, *(c.problem for c in report.comparisons if c.problem)]
    return f"differs: {(problems or [f'{worst:.1e} of the largest output'])[0]}"


def _line(error: Exception) -> str:
    kind = "" if isinstance(error, PortNetError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split()))[:400]


# ---- many, each in its own process


def _run_one(source: str, engines: str, limit_s: float) -> Row:
    command = [sys.executable, "-m", "portnet.testing.architectures", source, _ONE, "--engines", engines]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return Row(source, capture=f"took longer than {limit_s:.0f} s")
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return _parsed(line)
    return Row(source, capture=f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}")


def _parsed(line: str) -> Row:
    values = json.loads(line)
    values["notes"] = tuple(values["notes"])
    return Row(**values)


def read_rows(path: Path) -> list[Row]:
    """Return the rows that a run has written so far; none where there is no file."""
    return [_parsed(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown: differences, or ✗ with the reason below."""
    names = list(dict.fromkeys(name for row in rows for name in row.engines))
    lines = [f"| network | pixels | nodes | parameters | capture | {' | '.join(names)} |"]
    lines.append("|---|---:|---:|---:|---:|" + "---:|" * len(names))
    reasons = []
    for row in sorted(rows, key=lambda row: row.source):
        cells = [_cell(row.capture), *(_cell(row.engines.get(name, "not run")) for name in names)]
        count = f"{row.parameters:,}" + (
            "" if row.expected in (None, row.parameters) else f", expected {row.expected:,}"
        )
        lines.append(f"| `{row.source}` | {row.size} | {row.nodes:,} | {count} | {' | '.join(cells)} |")
        failed = [("capture", row.capture), *row.engines.items()]
        reasons += [f"- `{row.source}`, {what}: {why}" for what, why in failed if isinstance(why, str)]
    return "\n".join(lines + ([""] + reasons if reasons else [])) + "\n"


def _cell(result: float | str) -> str:
    return f"{result:.1e}" if isinstance(result, float) else "✗"


def _listed(collection: str) -> list[str]:
    """Return the names of a collection's classifiers."""
    if collection == "gluon":
        _opened("gluon:squeezenet1_0")
        return [f"gluon:{name}" for name in sys.modules["portnet_gluon.open"].zoo_names()]
    if collection != "torchvision":
        raise InputError(f"list: got {collection!r}, expected torchvision or gluon")
    _opened("torchvision:squeezenet1_1")  # whoever opens it knows how to import it
    models: Any = sys.modules["torchvision.models"]
    return [f"torchvision:{name}" for name in models.list_models(module=models)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 when every row passed."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(_listed(options.list)))
        return 0
    if options.one:
        print(json.dumps(asdict(examine(options.sources[0], options.engines.split(",")))))
        return 0
    sources = [name for text in options.sources for name in _expanded(text)]
    known = {row.source for row in read_rows(options.out)}
    for source in sources:
        if source in known:
            continue
        row = _run_one(source, options.engines, options.limit)
        with options.out.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(f"{'ok' if row.passed else 'FAILED':6} {source} {row.capture} {row.engines}", file=sys.stderr)
    rows = [row for row in read_rows(options.out) if row.source in set(sources)]
    print(table(rows), end="")
    return int(not all(row.passed for row in rows))


def _expanded(text: str) -> list[str]:
    return Path(text[1:]).read_text().split() if text.startswith("@") else [text]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m portnet.testing.architectures", description=__doc__)
    parser.add_argument("sources", nargs="*", help="words such as torchvision:resnet18, or @FILE with one a line")
    parser.add_argument("--engines", default="keras,gluon", help="engines to lower onto, with commas")
    parser.add_argument("--out", type=Path, default=Path("architectures.jsonl"), help="rows, one JSON object a line")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="time one network may take")
    parser.add_argument("--list", metavar="COLLECTION", help="print the sources of a collection and end")
    parser.add_argument(_ONE, action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
