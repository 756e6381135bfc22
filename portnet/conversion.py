"""`convert`: source → Model → target, the whole story on one page."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import Adapter, Lowered
from portnet.adapter.lowered import remember
from portnet.capturing import capture_original
from portnet.engines import KNOWN, engine
from portnet.errors import OutputError, ParityError, PortNetError, UnknownNameError, UnsupportedError
from portnet.files import check_place, staged
from portnet.graph.fix import Sizes, fix_shapes
from portnet.graph.model import Model
from portnet.originals import is_original
from portnet.parity.check import check
from portnet.parity.fixable import lower_or_advise
from portnet.parity.inputs import BATCH_SIZES, runnable_batch_sizes
from portnet.parity.report import RELATIVE, Report
from portnet.parity.sides import FileSide, OnnxruntimeSide
from portnet.sources import find_model

__all__ = ["Conversion", "convert", "convert_to_file"]

# bytes free on a disk, below which a writer that failed is taken to have filled it
LITTLE_ROOM = 2**20


def convert(source: Any, *, to: str, device: str = "cpu", shapes: Mapping[str, Sizes] | None = None) -> Any:
    """Return a network as a native, trainable network of another framework, proved against onnxruntime.

    >>> network = portnet.convert("model.onnx", to="keras")  # doctest: +SKIP
    >>> type(network).__name__  # doctest: +SKIP
    'Functional'

    Args:
        source: path of an .onnx file or of a run's folder, name in the zoo, a `Model`, or a network of another
            framework, living or in files, which is captured and compared with the original first.
        to: engine: "torch", "keras" or "gluon".
        device: engine's device.
        shapes: sizes to fix: by input name, None for a size that stays free, or a number by a size's name, e.g.
            ``{"x": (None, 3, 224, 224)}`` or ``{"height": 224, "width": 224}``.

    Returns:
        A torch.fx.GraphModule, a keras.Model or a gluon SymbolBlock. What was frozen where the network was captured
        is frozen in it.

    Raises:
        ModelError: the file is not ONNX, broken or hostile.
        UnsupportedError: the engine cannot express the network; names op, opset, attribute and node.
        ParityError: the converted network and onnxruntime differ; names the first layer that does.
    """
    model = _proved_model(source, shapes)
    lowered = lower_or_advise(engine(to), model, device)
    _prove(lowered, OnnxruntimeSide(model))
    lowered.keep_frozen()
    remember(lowered)  # its native network may be another now
    return lowered.native


@dataclass(frozen=True)
class Conversion:
    """What `convert_to_file` wrote, and how it was proved.

    Attributes:
        engine: whose format it is.
        form: the format's name.
        files: what was written, files and folders, the one to open first.
        size: bytes of them all.
        notes: what whoever loads the files must know.
        network: comparison of the native network with onnxruntime.
        reloaded: comparison with onnxruntime of what the framework read back from the files.
    """

    engine: str
    form: str
    files: tuple[Path, ...]
    size: int
    notes: tuple[str, ...]
    network: Report
    reloaded: Report

    def __str__(self) -> str:
        names = ", ".join(map(str, self.files))
        return "\n".join([f"{names}: {self.size / 1e6:.1f} MB", *self.notes, str(self.reloaded)])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "engine": self.engine,
            "format": self.form,
            "files": [str(path) for path in self.files],
            "bytes": self.size,
            "notes": list(self.notes),
            "network": self.network.to_dict(),
            "reloaded": self.reloaded.to_dict(),
        }


def convert_to_file(
    source: Any,
    *,
    to: str,
    output: str | os.PathLike[str],
    form: str | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, Sizes] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Write a network in a framework's own format, once the framework has read it back and it is proved.

    Both the native network and what the framework itself reads from the files are compared with onnxruntime, at batch
    sizes 1 and 3 where the batch is free. Files appear under their names when all of that has passed; before, and if
    anything fails, there is nothing of them, and what was there stays.

    >>> convert_to_file("model.onnx", to="keras", output="model.keras").files  # doctest: +SKIP
    (PosixPath('model.keras'),)

    Args:
        source: as for `convert`.
        to: engine: "torch", "keras" or "gluon".
        output: file or folder to write; its suffix says the format.
        form: format, one of ``engine(to).formats``; None for what the suffix says.
        inputs: arrays by input name to compare on; None for seeded random ones.
        shapes: sizes to fix, as for `convert`.
        progress: called with a few words as each step begins.

    Raises:
        ModelError: the source is not ONNX, broken or hostile.
        UnsupportedError: the engine or the format cannot express the network.
        ParityError: the network, or what was read back, differs from onnxruntime.
        OutputError: ``output`` cannot be written, is a folder that is not empty, or has no suffix of the format.
    """
    say = progress or (lambda step: None)
    output = Path(output)
    check_place(output)
    say(f"import {KNOWN.get(to, to)}")
    adapter = engine(to)
    form = _form(adapter, output, form)
    with staged(output) as path:
        say(f"read {_named(source)}")
        model = _proved_model(source, shapes)
        say(f"lower onto {adapter.framework}")
        lowered = lower_or_advise(adapter, model)
        say("compare with onnxruntime")
        reference = OnnxruntimeSide(model)
        network = _prove(lowered, reference, inputs)
        say(f"write {output.name}")
        what = f"{adapter.framework} cannot write the network as {form}"
        with _framework_errors_as(UnsupportedError, what, OSError), _full_disk(path):
            written = adapter.write(lowered, path, form)
        say(f"load it with {adapter.framework} and compare again")
        with _framework_errors_as(ParityError, f"{adapter.framework} cannot load the {form} that it wrote"):
            loaded = adapter.reload(lowered, path, form)
        reloaded = _prove_file(FileSide(loaded, lowered.model, output.name), reference, inputs, adapter, form)
        files = tuple(output.parent / file.relative_to(path.parent) for file in written)
        size = sum(map(_size, written))
    return Conversion(adapter.name, form, files, size, loaded.notes, network, reloaded)


def _proved_model(source: Any, shapes: Mapping[str, Sizes] | None) -> Model:
    """Return the network that ``source`` means; what another framework had is proved against that."""
    is_foreign = not isinstance(source, Model) and is_original(source)
    model = capture_original(source).model if is_foreign else find_model(source)
    return fix_shapes(model, shapes) if shapes else model


def _named(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return source.name if isinstance(source, Model) else type(source).__name__


def _form(adapter: Adapter, output: Path, form: str | None) -> str:
    """Return the format that is asked for, or that the output's suffix says."""
    if form is not None and form not in adapter.formats:
        raise UnknownNameError(f"format of {adapter.name}", form, adapter.formats)
    every = [suffix for known in adapter.formats.values() for suffix in known.suffixes]
    ending = max((suffix for suffix in every if output.name.endswith(suffix)), key=len, default="")
    named = bool(ending or form or not output.suffix)  # a suffix that nobody knows is no folder's name
    for candidate in [form] if form else adapter.formats:
        if named and ending in adapter.formats[candidate].suffixes:
            return candidate
    suffixes = adapter.formats[form].suffixes if form else every
    expected = ", ".join(suffix or "no suffix" for suffix in suffixes)
    raise OutputError(f"format of {output}: got {output.suffix or 'no suffix'}, expected one of {expected}")


@contextlib.contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """Say of a failure that the disk is full where it is: frameworks tell it in many ways, MXNet not at all."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(path.parent).free < LITTLE_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


@contextlib.contextmanager
def _framework_errors_as(kind: type[PortNetError], what: str, *others: type[Exception]) -> Iterator[None]:
    """Turn whatever a framework raises into one line of one kind; PortNet's own errors and ``others`` pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (PortNetError, *others)):
            raise
        raise kind(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _prove(
    network: Lowered | FileSide, reference: OnnxruntimeSide, inputs: Mapping[str, np.ndarray] | None = None
) -> Report:
    sizes = BATCH_SIZES if inputs is not None else runnable_batch_sizes(reference.model, reference.run)
    report = check(
        network,
        reference,
        inputs=inputs,
        batch_sizes=sizes,
        relative=RELATIVE,
        find_layer=isinstance(network, Lowered),
    )
    report.raise_if_failed()
    return report


def _prove_file(
    file: FileSide, reference: OnnxruntimeSide, inputs: Mapping[str, np.ndarray] | None, adapter: Adapter, form: str
) -> Report:
    """Compare what was read back; if that fails, the network itself having passed, say what else there is."""
    try:
        return _prove(file, reference, inputs)
    except ParityError as error:
        others = ", ".join(other for other in adapter.formats if other != form)
        ways = (f"another format ({others}), " if others else "") + "sizes fixed (--shape), or other inputs (--inputs)"
        told = str(error).rstrip(".")
        raise ParityError(f"{told}. The network itself agrees, the file in {form} does not: try {ways}.") from error


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
