"""TensorFlow's graphs by tf2onnx: subclassed networks, SavedModel folders, TensorFlow Lite's files."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions, Source
from portnet.errors import InputError, MissingDependencyError, ModelError, PortNetError, UnsupportedError
from portnet.formats.captured import Captured
from portnet.graph.model import Model
from portnet.graph.travel import MAX_BYTES, from_text, take_along
from portnet_keras.conversion import OPSET, Converted, convert
from portnet_keras.framework import BACKEND, keras
from portnet_keras.leftovers import without_leftovers
from portnet_keras.save import EXTRA, check_flatbuffer
from portnet_keras.trial import convert_tflite, run_tflite

__all__ = ["SavedModel", "TFLiteModel", "TracedSource", "called", "input_specs", "trace"]

_MAX_BYTES = 4 << 30
_MOMENTUM = "a SavedModel does not say BatchNormalization's momentum: Keras's default, 0.99, is taken."
# ops of a graph that reach outside it, or run Python
_FORBIDDEN = frozenset(
    {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "LoadDataset", "SaveDataset"}
)


class SavedModel:
    """A SavedModel folder, not loaded yet.

    Raises:
        ModelError: no SavedModel, or one whose graph reaches outside itself.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name or "saved_model"
        file = path / "saved_model.pb"
        if not file.is_file():
            raise ModelError(f"{path} is no SavedModel: it lacks saved_model.pb")
        _refuse_reaching_out(file)


class TFLiteModel:
    """A file of TensorFlow Lite, not loaded yet.

    Raises:
        ModelError: no such file, or another one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        if not path.is_file():
            raise ModelError(f"no such file: {path}")
        with path.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                raise ModelError(f"{path} is no TensorFlow Lite file: it lacks the mark TFL3 at byte 4")


class TracedSource(Source):
    """A network that TensorFlow runs.

    Args:
        call: takes arrays in the network's own order of axes, returns as many as it has outputs.
        model: the captured model.
        moved: whether images are channels first in the captured model and last in the network.
    """

    label = "keras, as it came"

    def __init__(self, call: Callable[..., Sequence[Any]], model: Model, moved: bool) -> None:
        self._call, self._model, self._moved = call, model, moved

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode; see `Source.run`."""
        arrays = [np.asarray(inputs[port.name], np.dtype(port.dtype)) for port in self._model.inputs]
        if self._moved:
            arrays = [_channels_last(array) for array in arrays]
        results = [np.asarray(result) for result in self._call(*arrays)]
        if self._moved:
            results = [_channels_first(result) for result in results]
        return {port.name: result for port, result in zip(self._model.outputs, results, strict=True)}


def trace(native: Any, options: CaptureOptions, reason: str) -> tuple[Captured, Source]:
    """Convert what TensorFlow traces.

    Raises:
        UnsupportedError: tf2onnx has no translation either.
        MissingDependencyError: it is not installed; the message says why it is needed.
    """
    if BACKEND != "tensorflow":
        raise UnsupportedError(f"keras: {reason}; tracing needs the TensorFlow backend: got {BACKEND}", engine="keras")
    _need_tf2onnx(reason)
    moved = not options.keep_layout
    if isinstance(native, TFLiteModel):
        return _tflite(native, moved)
    if isinstance(native, SavedModel):
        return _saved_model(native, moved)
    signature = _signature(native, options)
    call = _function(native, signature)
    names = {id(weight.value.handle): weight.path for weight in native.weights}
    norms = [layer for layer in native._flatten_layers() if hasattr(layer, "moving_mean")]
    momenta = {layer.moving_mean.path: layer.momentum for layer in norms if layer.built}
    with _errors(f"{native.name}: {reason}; tf2onnx cannot convert it either"):
        concrete = call.get_concrete_function()
        found = convert(concrete, signature, native.name, moved=moved, names=names, momenta=momenta)
    run = lambda *arrays: keras.tree.flatten(call(*arrays))  # noqa: E731 - one expression, used once
    captured = Captured(found.model, "traced by TensorFlow and converted by tf2onnx", _apart(found))
    return captured, TracedSource(run, found.model, moved)


def _apart(found: Converted) -> tuple[str, ...]:
    if not found.apart:
        return ()
    return (f"variables that are read in several ways, which training moves apart: {', '.join(found.apart)}.",)


def _need_tf2onnx(reason: str) -> None:
    try:
        import tf2onnx.convert  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"keras: {reason}. tf2onnx could, and is not installed: pip install 'portnet-keras[tf2onnx]'"
        ) from error
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it cannot do is said once, below


def input_specs(native: Any, options: CaptureOptions) -> list[tuple[list[int | None], str]]:
    """Return shape and element type of every input.

    Raises:
        InputError: neither the network nor an example tells them.
    """
    inputs = getattr(native, "inputs", None)
    if inputs and options.examples is None:
        return [(list(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in inputs]
    if not options.examples:
        raise InputError(f"capture: {native.name!r} does not say what it takes: got no examples, expected some")
    arrays = [np.asarray(example) for example in options.examples]
    return [([None, *array.shape[1:]], keras.backend.standardize_dtype(array.dtype)) for array in arrays]


def _signature(native: Any, options: CaptureOptions) -> list[Any]:
    import tensorflow as tf

    inputs, specs = getattr(native, "inputs", None), input_specs(native, options)
    if not options.dynamic_batch:
        specs = [([1 if shape[0] is None else shape[0], *shape[1:]], dtype) for shape, dtype in specs]
    names = [getattr(x, "name", None) for x in inputs or []]
    names = names if len(names) == len(specs) and all(names) else [f"input_{i + 1}" for i in range(len(specs))]
    return [tf.TensorSpec(shape, dtype, name) for (shape, dtype), name in zip(specs, names, strict=True)]


def called(native: Any) -> Callable[..., Any]:
    """Return a network's call on one tensor or a list of them, which it may take one by one instead."""

    def call(given: Any, training: bool = False) -> Any:
        try:
            return native(given, training=training)
        except TypeError:
            if not isinstance(given, list):
                raise
            return native(*given, training=training)

    return call


def _function(native: Any, signature: list[Any]) -> Any:
    import tensorflow as tf

    call = called(native)

    def infer(*tensors: Any) -> Any:
        return keras.tree.flatten(call(tensors[0] if len(tensors) == 1 else list(tensors)))

    return tf.function(infer, input_signature=signature)


def _saved_model(native: SavedModel, moved: bool) -> tuple[Captured, Source]:
    import tensorflow as tf

    with _errors(f"{native.path} cannot be converted"):
        loaded = tf.saved_model.load(str(native.path))
        signatures = dict(loaded.signatures)
        if not signatures:
            raise UnsupportedError(f"{native.path}: got no signatures, expected serving_default")
        concrete = signatures.get("serving_default") or signatures[sorted(signatures)[0]]
        made, taken = sorted(concrete.structured_outputs), concrete.structured_input_signature[1]
        specs = [tf.TensorSpec(taken[key].shape, taken[key].dtype, key) for key in sorted(taken)]

        def infer(*tensors: Any) -> list[Any]:
            found = concrete(**dict(zip(sorted(taken), tensors, strict=True)))
            return [found[key] for key in made]

        call = tf.function(infer, input_signature=specs)
        found = convert(call.get_concrete_function(), specs, native.name, moved=moved)
    model = found.model
    extra = native.path / EXTRA
    if extra.is_file() and not extra.is_symlink():
        with extra.open("rb") as file:
            take_along(model, from_text(file.read(MAX_BYTES + 1), str(extra)))
    momentum = (_MOMENTUM,) if any(node.op_type == "BatchNormalization" for node in model.ir.graph) else ()
    captured = Captured(model, "SavedModel, converted by tf2onnx", (*momentum, *_apart(found)))
    return captured, TracedSource(lambda *arrays: call(*map(tf.constant, arrays)), model, moved)


def _tflite(native: TFLiteModel, moved: bool) -> tuple[Captured, Source]:
    if native.path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"{native.path}: over {_MAX_BYTES} bytes. Refused.")
    with _errors(f"{native.path} cannot be converted"):
        check_flatbuffer(native.path)
        model = Model.from_bytes(without_leftovers(convert_tflite(native.path, OPSET, moved), str(native.path)))
    model.ir.graph.name = native.name
    note = "TensorFlow Lite's files hold networks for inference: BatchNormalization is folded, weights have no names."
    source = TracedSource(lambda *arrays: run_tflite(native.path, arrays), model, moved)
    return Captured(model, "TensorFlow Lite's file, converted by tf2onnx", (note,)), source


def _refuse_reaching_out(file: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    if file.stat().st_size > 1 << 31:
        raise ModelError(f"{file}: over 2 GB. Refused.")
    try:
        proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:
        raise ModelError(f"{file} is no SavedModel: {' '.join(str(error).split())[:200]}") from error
    found = set()
    for graph in proto.meta_graphs:
        nodes = list(graph.graph_def.node)
        for function in graph.graph_def.library.function:
            nodes += function.node_def
        found |= {node.op for node in nodes} & _FORBIDDEN
    if found:
        raise ModelError(f"{file.parent}: its graph reaches outside itself: {', '.join(sorted(found))}. Refused.")


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn whatever TensorFlow or tf2onnx raises into one line."""
    try:
        yield
    except PortNetError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        raise UnsupportedError(f"{what}: {type(error).__name__}: {text}", engine="keras") from error


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array
