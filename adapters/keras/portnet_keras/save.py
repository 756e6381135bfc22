"""Lowered networks in the files that Keras's community keeps them in, and back."""

from __future__ import annotations

import json
import re
import tempfile
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import Reloaded
from portnet.errors import ModelError, UnsupportedError
from portnet.graph.travel import FILE, to_text
from portnet_keras.depth import deep
from portnet_keras.framework import BACKEND, keras
from portnet_keras.layout import identity
from portnet_keras.network import KerasLowered, fed, read
from portnet_keras.trial import quiet_interpreter

__all__ = ["EXTRA", "KerasReloaded", "check_flatbuffer", "reload", "write"]

# in a SavedModel, the place for what its graph does not load
EXTRA = Path("assets.extra", FILE)

_FEWEST_TABLES = 10_000
# an operator that TensorFlow has and TensorFlow Lite lacks, as its converter says so
_LACKING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


class KerasReloaded(Reloaded):
    """A network that Keras or TensorFlow read from files.

    Args:
        lowered: its border.
        call: takes arrays in Keras's order of axes and returns as many arrays as the network has outputs.
        notes: see `Reloaded`.
    """

    def __init__(self, lowered: KerasLowered, call: Callable[..., Sequence[Any]], *notes: str) -> None:
        self._lowered, self._call = lowered, call
        self.notes = (*notes, *_axes(lowered))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode."""
        ports, orders = self._lowered.model.inputs, self._lowered.input_orders
        arrays = [fed(inputs, port).transpose(order) for port, order in zip(ports, orders, strict=False)]
        results = self._call(*(arrays or [np.zeros((), np.float32)]))
        found = zip(self._lowered.model.outputs, results, self._lowered.output_orders, strict=True)
        return {port.name: read(result, order, port.dtype) for port, result, order in found}


def write(lowered: KerasLowered, path: Path, form: str) -> list[Path]:
    """Write a network in a form of `portnet_keras.Engine.formats`; see `portnet.adapter.Adapter.write`."""
    if form != "keras" and BACKEND != "tensorflow":
        raise UnsupportedError(
            f"keras: the format {form} is TensorFlow's: got backend {BACKEND}. Set KERAS_BACKEND=tensorflow.",
            engine="keras",
        )
    {"keras": _write_keras, "saved_model": _write_saved_model, "tflite": _write_tflite}[form](lowered, path)
    return [path]


def reload(lowered: KerasLowered, path: Path, form: str) -> KerasReloaded:
    """Read what `write` wrote; see `portnet.adapter.Adapter.reload`."""
    return {"keras": _read_keras, "saved_model": _read_saved_model, "tflite": _read_tflite}[form](lowered, path)


# ---- .keras


def _write_keras(lowered: KerasLowered, path: Path) -> None:
    lowered.native.save(path)
    with zipfile.ZipFile(path, "a") as archive:  # Keras passes over what it does not know
        archive.writestr(FILE, to_text(lowered.metadata))


def _read_keras(lowered: KerasLowered, path: Path) -> KerasReloaded:
    with deep():
        network = keras.saving.load_model(path, compile=False)
    own = sorted(set(_own_classes(path)))
    notes = [f"holds PortNet's own {', '.join(own)}: import portnet_keras.layers before it is loaded"] if own else []
    return KerasReloaded(lowered, lambda *arrays: _flat(network(_packed(arrays), training=False)), *notes)


def _own_classes(path: Path) -> Iterator[str]:
    """Yield the classes in a .keras file that Keras does not have."""
    pending = [json.loads(zipfile.ZipFile(path).read("config.json"))]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if str(item.get("module")).startswith("portnet_keras"):
                yield item["class_name"]
            pending += item.values()
        elif isinstance(item, list):
            pending += item


# ---- SavedModel


def _write_saved_model(lowered: KerasLowered, path: Path) -> None:
    """Write weights once and one signature with named inputs and outputs; Keras's own export writes them twice."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in lowered.native.variables]
    inputs, outputs = _border_names(lowered)
    specs = [tf.TensorSpec(x.shape, x.dtype, name=n) for x, n in zip(lowered.native.inputs, inputs, strict=True)]

    def serve(*tensors: Any) -> dict[str, Any]:
        results = _flat(lowered.native(_packed(tensors), training=False))
        return dict(zip(outputs, results, strict=True))

    module.serve = tf.function(serve, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    extra = path / EXTRA
    extra.parent.mkdir()
    extra.write_text(to_text(lowered.metadata))


def _read_saved_model(lowered: KerasLowered, path: Path) -> KerasReloaded:
    import tensorflow as tf

    network = tf.saved_model.load(str(path))
    outputs = _border_names(lowered)[1]

    def call(*arrays: np.ndarray) -> list[Any]:
        results = network.serve(*map(tf.constant, arrays))
        return [results[name] for name in outputs]

    return KerasReloaded(lowered, call)


# ---- TensorFlow Lite


def _write_tflite(lowered: KerasLowered, path: Path) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="portnet-") as folder:
        _write_saved_model(lowered, Path(folder))
        try:
            path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        except Exception as error:  # TensorFlow raises several classes of its own
            reason = _reason(error)
            raise UnsupportedError(
                f"keras: TensorFlow Lite cannot express the network: {reason}", engine="keras"
            ) from error


def _reason(error: Exception) -> str:
    lacking = sorted(set(_LACKING.findall(str(error))))
    if lacking:
        return f"it has no operator for {', '.join(lacking)}"
    return " ".join(str(error).split()) or type(error).__name__


def _read_tflite(lowered: KerasLowered, path: Path) -> KerasReloaded:
    import tensorflow as tf

    check_flatbuffer(path)
    with quiet_interpreter():
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    inputs, outputs = _border_names(lowered)

    def call(*arrays: np.ndarray) -> list[Any]:
        results = runner(**dict(zip(inputs, arrays, strict=True)))
        return [results[name] for name in outputs]

    return KerasReloaded(lowered, call)


def check_flatbuffer(path: Path) -> None:
    """Follow every offset of the file in Python, which raises where one leads astray: the interpreter would crash.

    Raises:
        ModelError: tables are told to be in several places, so often that the file would grow without end.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    data = path.read_bytes()
    left = max(len(data), _FEWEST_TABLES)
    table = schema.flatbuffers.table.Table

    def counted(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ModelError(f"{path}: its tables are more than its bytes. Refused.")
        return table(*arguments)

    # the generated reader finds its tables here, and nothing else of TensorFlow does
    reader = schema.flatbuffers
    schema.flatbuffers = types.SimpleNamespace(
        **{**vars(reader), "table": types.SimpleNamespace(**{**vars(reader.table), "Table": counted})}
    )
    try:
        schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    finally:
        schema.flatbuffers = reader


# ---- the border


def _border_names(lowered: KerasLowered) -> tuple[list[str], list[str]]:
    """Return the names of inputs and outputs as TensorFlow's signatures spell them."""
    return (
        _spelled([tensor.name for tensor in lowered.native.inputs]),
        _spelled([port.name for port in lowered.model.outputs]),
    )


def _spelled(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "tensor"
        text = f"_{text}" if text[0].isdigit() else text
        found.append(text if text not in found else f"{text}_{len(found)}")
    return found


def _packed(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else list(arrays)


def _flat(results: Any) -> list[Any]:
    return list(keras.tree.flatten(results))


def _axes(lowered: KerasLowered) -> Iterator[str]:
    """Say which inputs and outputs are not in ONNX's order of axes."""
    sides = (
        *zip(lowered.model.inputs, lowered.input_orders, lowered.native.inputs, strict=False),
        *zip(lowered.model.outputs, lowered.output_orders, lowered.native.outputs, strict=True),
    )
    for port, order, tensor in sides:
        if order != identity(len(order)):
            yield f"{port.name} is channels last: {tuple('N' if n is None else n for n in tensor.shape)}"
