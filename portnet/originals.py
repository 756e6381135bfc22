"""Networks as other frameworks have them: what a word, a path or an object means, and how it becomes a `Model`.

    caffe, darknet, MXNet and Keras files     read by `portnet.formats`, without their framework
    torchvision:resnet18, keras:ResNet50, …   opened and captured by the engine whose adapter says so
    package.module:factory                    the user's own code, called, and captured by the engine it belongs to
    an nn.Module, keras.Model, Gluon block    captured by the engine it belongs to

Where the framework is installed, a file is opened by it as well, so that there is something to compare with.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portnet.adapter import Adapter, CaptureOptions
from portnet.adapter.lowered import carried_by
from portnet.engines import COLLECTIONS, adapters, engine, installed
from portnet.errors import InputError, MissingDependencyError, PortNetError, UnknownNameError, UnsupportedError
from portnet.formats.captured import Captured, Source
from portnet.graph.travel import take_along

__all__ = ["FILES", "Original", "Request", "is_original", "kinds", "open_original", "read_file"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Request:
    """What a user says of an original besides where it is.

    Attributes:
        weights: file of its weights, where they do not lie in the same file or beside it under the same name.
        input_shape: sizes of its input as its framework has them, where the source does not say; axis 0 is the batch.
        options: examples, whether the batch stays free, whether channels stay last.
    """

    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    options: CaptureOptions = field(default_factory=CaptureOptions)

    @classmethod
    def of(
        cls,
        *,
        weights: Path | None = None,
        input_shape: str | None = None,
        dynamic_batch: bool = True,
        keep_layout: bool = False,
    ) -> Request:
        """Read the command line's form: ``input_shape`` is "1,3,224,224".

        Raises:
            InputError: a shape that is not positive integers between commas.
        """
        sizes = None
        if input_shape is not None:
            words = input_shape.replace("x", ",").split(",")
            if not all(word.strip().isdigit() and int(word) > 0 for word in words):
                raise InputError(f"input shape: got {input_shape!r}, expected sizes such as 1,3,224,224")
            sizes = tuple(map(int, words))
        return cls(weights, sizes, CaptureOptions(None, dynamic_batch, keep_layout))


@dataclass(frozen=True)
class Original:
    """A network that was opened.

    Attributes:
        captured: it as a `Model`, and how it was read.
        source: what runs it in its own framework, or None where nothing at hand can.
        unproved: why ``source`` is None, in words for the user.
    """

    captured: Captured
    source: Source | None = None
    unproved: str = ""


_COMMON = ("input_shape", "keep_layout")


@dataclass(frozen=True)
class FileKind:
    """A framework's files that are read without it.

    Attributes:
        framework: what people call it.
        package: folder of `portnet.formats` that reads them.
        endings: of the file that describes the network.
        weights: endings that its weights may have, beside it and under its name.
        whole: those of ``endings`` whose file holds the weights too.
        oracle: engine that can open the same files, or "opencv".
        options: what its reader takes besides the files.
    """

    framework: str
    package: str
    endings: tuple[str, ...]
    weights: tuple[str, ...]
    oracle: str
    whole: tuple[str, ...] = ()
    options: tuple[str, ...] = _COMMON


_KERAS_WHOLE = (".keras", ".h5", ".hdf5")
FILES = (
    FileKind("Caffe", "caffe", (".prototxt",), (".caffemodel", ".caffemodel.h5"), "opencv"),
    FileKind("Darknet", "darknet", (".cfg",), (".weights",), "opencv"),
    FileKind(
        "MXNet", "mxnet", ("-symbol.json",), ("-0000.params", ".params"), "gluon", (), (*_COMMON, "dynamic_batch")
    ),
    FileKind(
        "Keras",
        "keras",
        (*_KERAS_WHOLE, ".json"),
        (".weights.h5", ".h5", ".hdf5"),
        "keras",
        _KERAS_WHOLE,
        ("keep_layout",),
    ),
)


def kinds() -> Iterator[tuple[str, str]]:
    """Yield (how it is written, what it is) for each kind of source, for help and messages."""
    for kind in FILES:
        yield ", ".join(kind.endings), f"{kind.framework}, with its weights ({', '.join(kind.weights)}) beside it"
    for adapter in adapters():
        yield from adapter.sources.items()
    yield "package.module:factory", "a function of yours that returns a network"


def is_original(source: Any) -> bool:
    """Whether ``source`` means a network of another framework: an ending, a prefix, a folder, or an object of one."""
    if not isinstance(source, (str, os.PathLike)):
        return _owner(source) is not None
    text = os.fspath(source)
    return _file_kind(text) is not None or _opener(text) is not None or _is_factory(text)


def open_original(source: Any, request: Request | None = None) -> Original:
    """Open a network of another framework and capture it, not yet proved.

    Args:
        source: a path, a word such as ``keras:ResNet50``, or a framework's own network.
        request: what else the user says.

    Raises:
        UnsupportedError: layers that have no translation, all named.
        MissingDependencyError: it needs a framework or a collection that is not installed.
        InputError: no such file, a broken or hostile one, or something that is no network.
    """
    request = request or Request()
    if not isinstance(source, (str, os.PathLike)):
        return _capture(source, request)
    text = os.fspath(source)
    kind = _file_kind(text)
    if kind is not None:
        return _read(kind, Path(text), request)
    if request.weights is not None:
        raise InputError(
            f"weights: got {request.weights} for {text}, whose weights are its own. They go with the files of "
            f"{', '.join(kind.framework for kind in FILES)}."
        )
    adapter = _opener(text)
    if adapter is not None:
        opened = engine(adapter.name)
        return Original(*opened.capture(opened.open(text), _options(request)))
    collection = text.partition(":")[0]
    if collection in COLLECTIONS and COLLECTIONS[collection] not in installed():
        engine(COLLECTIONS[collection])  # says what to install
    if _is_factory(text):
        return _capture(_call(text), request)
    known = "\n".join(f"  {form}: {what}" for form, what in kinds())
    raise InputError(f"source: got {text!r}, expected one of\n{known}")


# ---- objects and words


def _owner(native: Any) -> Adapter | None:
    return next((adapter for adapter in adapters() if adapter.owns(native)), None)


def _capture(native: Any, request: Request) -> Original:
    adapter = _owner(native)
    if adapter is None:
        kind = type(native)
        raise InputError(
            f"capture: got a {kind.__module__}.{kind.__qualname__}, expected a network of "
            f"{' or '.join(adapter.framework for adapter in adapters()) or 'an installed engine, and there is none'}"
        )
    captured, source = engine(adapter.name).capture(native, _options(request))
    take_along(captured.model, carried_by(native))
    return Original(captured, source)


def _options(request: Request) -> CaptureOptions:
    """Return the options; a shape alone makes an example of seeded noise."""
    options, shape = request.options, request.input_shape
    if shape is None or options.examples is not None:
        return options
    import numpy as np

    example = np.random.default_rng(0).standard_normal(shape, np.float32)
    return CaptureOptions((example,), options.dynamic_batch, options.keep_layout)


def _opener(text: str) -> Adapter | None:
    return next((adapter for adapter in adapters() if any(_begins(key, text) for key in adapter.sources)), None)


def _begins(key: str, text: str) -> bool:
    """Whether a key of `Adapter.sources` is meant: "prefix:", ".ending", or "/file" for a folder that holds it."""
    if key.startswith("/"):
        return Path(text + key).is_file()
    return text.endswith(key) if key.startswith(".") else text.startswith(key)


def _is_factory(text: str) -> bool:
    return _FACTORY.fullmatch(text) is not None and not os.path.exists(text)


def _call(text: str) -> Any:
    """Import what the user names, from the current folder or what is installed, and call it."""
    module_name, _, path = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
        return found() if callable(found) and _owner(found) is None else found
    except PortNetError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"source: {text} was not found: {error}. Expected package.module:factory.") from error
    except AttributeError as error:
        raise UnknownNameError("name", path, [n for n in vars(sys.modules[module_name]) if n[0] != "_"]) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"source: {text} raised {type(error).__name__}: {reason}") from error
    finally:
        sys.path.remove(os.getcwd())


# ---- files


def _file_kind(text: str) -> FileKind | None:
    """Return the kind of a file by its ending; -symbol.json comes before .json."""
    return next((kind for kind in FILES if text.endswith(kind.endings)), None)


def read_file(path: Path, request: Request | None = None) -> Captured | None:
    """Return what files say of a network that are read without its framework; None where ``path`` is no such file.

    Nothing is opened that could run the original.

    Raises:
        PortNetError: see `open_original`.
    """
    kind = _file_kind(path.name)
    return None if kind is None else _captured(kind, path, request or Request())[0]


def _read(kind: FileKind, path: Path, request: Request) -> Original:
    captured, weights = _captured(kind, path, request)
    try:
        return Original(captured, _oracle(kind, path, weights, request))
    except (MissingDependencyError, UnsupportedError) as error:
        if isinstance(error, UnsupportedError) and kind.oracle != "opencv":
            raise
        return Original(captured, None, str(error))


def _captured(kind: FileKind, path: Path, request: Request) -> tuple[Captured, Path | None]:
    if not path.is_file():
        raise InputError(f"source: no such file: {path}")
    weights = request.weights
    if weights is None and not path.name.endswith(kind.whole):
        weights = _beside(kind, path)
    read: Callable[..., Captured] = importlib.import_module(f"portnet.formats.{kind.package}").read
    return read(path, weights, **{option: _given(request)[option] for option in kind.options}), weights


def _given(request: Request) -> dict[str, Any]:
    options = request.options
    return {
        "input_shape": request.input_shape,
        "keep_layout": options.keep_layout,
        "dynamic_batch": options.dynamic_batch,
    }


def _beside(kind: FileKind, path: Path) -> Path | None:
    """Return the weights that lie beside a network's file under its name."""
    ending = next(ending for ending in kind.endings if path.name.endswith(ending))
    stem = path.name[: -len(ending)]
    candidates = [path.with_name(stem + ending) for ending in kind.weights]
    return next((file for file in candidates if file != path and file.is_file()), None)


def _oracle(kind: FileKind, path: Path, weights: Path | None, request: Request) -> Source:
    """Open the same files with their own framework, or with OpenCV."""
    if kind.oracle == "opencv":
        from portnet.formats.opencv import open_with_opencv

        return open_with_opencv(kind.package, path, weights, request.input_shape)
    adapter = engine(kind.oracle)
    return adapter.capture(adapter.open(str(path), weights), _options(request))[1]
