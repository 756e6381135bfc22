"""``python -m portnet.testing.architectures SOURCE ... --out rows.jsonl``: capture networks and lower them everywhere.

    python -m portnet.testing.architectures --list torchvision > names.txt   # or keras, or gluon
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
from collections.abc import Container, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions
from portnet.engines import engine
from portnet.errors import InputError, PortNetError
from portnet.formats.captured import Captured
from portnet.graph.model import Model
from portnet.parity.check import check
from portnet.parity.sides import OnnxruntimeSide, SourceSide
from portnet.testing.architecture_rows import Row, parse_row, read_rows, table
from portnet.testing.enlivened import enliven, make_images

__all__ = ["Yardstick", "examine"]

# pixels that are tried in order until the network runs; each at a batch of 1 and 3
SIZES = (64, 128, 224, 240, 256, 320)
# untrained networks may give very small numbers, beside which an absolute tolerance says nothing, and much the same
# numbers for any image, beside which one relative to the numbers says nothing either
MAX_DIFFERENCE = 1e-3
# differences that are let pass, as multiples of what a rounded input makes: deep networks let it grow
ROUNDINGS = 4
MAX_LIMIT = 0.02
_ONE = "--one"


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
        captured, original = _capture(row, source, sizes)
        yardstick = Yardstick(captured.model, row)
    except Exception as error:  # a row is written whatever happens
        row.capture = _line(error)
        return row
    row.seconds = round(time.monotonic() - begin, 1)
    model, row.notes = captured.model, captured.notes
    row.nodes, row.parameters = len(model.ir.graph), model.parameter_count
    row.capture = yardstick.compare(OnnxruntimeSide(model), SourceSide(original, model))
    for name in engines:
        try:
            row.engines[name] = yardstick.compare(engine(name).lower(model), model)
        except Exception as error:  # as above
            row.engines[name] = _line(error)
    return row


def _capture(row: Row, source: str, sizes: Sequence[int]) -> tuple[Captured, Any]:
    native = _opened(source)
    for index, size in enumerate(sizes):
        shape = (2, size, size, 3) if source.startswith("keras") else (2, 3, size, size)
        example = make_images(shape, source)
        try:
            enliven(native, shape, source)
            captured, original = engine(_owner(source)).capture(native, CaptureOptions((example,)))
        except (AssertionError, InputError, RuntimeError, ValueError):  # it does not run at this size
            if index == len(sizes) - 1:
                raise
            continue
        height = (captured.model.inputs[0].shape or (size,))[-1]
        row.size, row.expected = height if isinstance(height, int) else size, _count(native, captured.model)
        return captured, original
    raise AssertionError("no size was given")


def _opened(source: str) -> Any:
    return engine(_owner(source)).open(source)


def _owner(source: str) -> str:
    prefix = source.partition(":")[0]
    return {"torchvision": "torch", "timm": "torch"}.get(prefix, prefix)


def _count(native: Any, model: Any) -> int | None:
    """Count trainable scalars as the framework does, as far as the graph reads them."""
    if hasattr(native, "named_parameters"):
        # weights of a recurrent layer are stacked as ONNX has them
        recurrent = {path for path, module in native.named_modules() if hasattr(module, "flatten_parameters")}
        read = model.ir.graph.initializers
        counted = ((name, value) for name, value in native.named_parameters() if _is_read(name, read, recurrent))
        return sum(value.numel() for _, value in counted)
    if hasattr(native, "collect_params"):
        read, named = model.ir.graph.initializers, native._collect_params_with_prefix()
        return sum(each.data().size for name, each in named.items() if name in read and each.grad_req != "null")
    if hasattr(native, "trainable_weights"):
        return sum(int(weight.shape.num_elements()) for weight in native.trainable_weights)
    return None


def _is_read(name: str, read: Container[str], recurrent: Container[str]) -> bool:
    return name in read or name.rpartition(".")[0] in recurrent


class Yardstick:
    """Judges differences from a network by what its images and its own rounding make of its outputs.

    Args:
        model: the network.
        row: its source, and pixels of its input where these are free.
    """

    def __init__(self, model: Model, row: Row) -> None:
        (port,) = model.inputs
        shape = [3, *(side if isinstance(side, int) else row.size for side in (port.shape or ())[1:])]
        self.name, self.images = port.name, make_images(shape, row.source)
        side = OnnxruntimeSide(model)
        before = side.run({port.name: self.images})
        self.spread = max(float(np.abs(output - output.mean(0)).max()) for output in before.values())
        # as far off as rounding moves a float32
        rounded = self.images * (1 + 2.0**-24 * np.random.default_rng(1).uniform(-1, 1, shape))
        after = side.run({port.name: rounded.astype(np.float32)})
        moved = max(float(np.abs(after[name] - before[name]).max()) for name in before)
        self.limit = max(MAX_DIFFERENCE, ROUNDINGS * moved / self.spread)
        if self.limit > MAX_LIMIT:
            raise InputError(f"the outputs prove nothing: rounding the input moves them by {moved / self.spread:.1e}")

    def compare(self, a: Any, b: Any) -> float | str:
        """Return the largest difference of ``a`` from ``b`` over the spread, or what is wrong."""
        worst = 0.0
        for count in (1, 3):
            report = check(a, b, inputs={self.name: self.images[:count]}, find_layer=False)
            if report.problems:
                return f"differs: {report.problems[0]}"
            worst = max([worst, *(comparison.max_abs / self.spread for comparison in report.comparisons)])
        return (
            worst if worst <= self.limit else f"differs by {worst:.1e} of the outputs' spread, above {self.limit:.1e}"
        )


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
            return parse_row(line)
    return Row(source, capture=f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}")


def _listed(collection: str) -> list[str]:
    """Return the names of a collection's classifiers."""
    if collection == "gluon":
        _opened("gluon:squeezenet1_0")
        return [f"gluon:{name}" for name in sys.modules["portnet_gluon.open"].zoo_names()]
    if collection == "keras":
        _opened("keras:MobileNetV2?size=32&classes=2")
        return [f"keras:{name}" for name in sys.modules["portnet_keras.collection"].applications()]
    if collection != "torchvision":
        raise InputError(f"list: got {collection!r}, expected torchvision, keras or gluon")
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
