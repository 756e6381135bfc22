"""PortNet's Keras engine: networks as functional Keras models of native layers, channels last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portnet.adapter import Adapter, CaptureOptions, FileFormat, Lowered, Reloaded, Source
from portnet.formats.captured import Captured
from portnet.graph.model import Model

__all__ = ["Engine"]


class Engine(Adapter):
    """Keras 3 on its TensorFlow backend, or on the one that ``KERAS_BACKEND`` names."""

    name = "keras"
    framework = "Keras"
    formats = {  # noqa: RUF012 - declared by the base class
        "keras": FileFormat((".keras",), "Keras's own file, for training and inference"),
        "saved_model": FileFormat(("",), "a folder that TensorFlow loads, for inference"),
        "tflite": FileFormat((".tflite",), "TensorFlow Lite's file, for inference on phones and boards"),
    }

    sources = {  # noqa: RUF012 - declared by the base class
        "keras:": "a network of keras.applications, e.g. keras:ResNet50 or keras:ResNet50?weights=imagenet",
        "/saved_model.pb": "a folder that TensorFlow saved a network in",
        ".tflite": "TensorFlow Lite's file",
    }

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops it lowers itself. Canonical form first writes out the Loops that it can."""
        from portnet_keras.ops import TABLE

        return frozenset(TABLE) - {"Loop"}

    def version(self) -> str:
        """Version of Keras and of the backend it runs on, e.g. "3.15.1 (tensorflow 2.21.0)"."""
        from portnet_keras.framework import BACKEND, keras

        backend = __import__({"tensorflow": "tensorflow", "torch": "torch", "jax": "jax"}.get(BACKEND, "numpy"))
        return f"{keras.__version__} ({BACKEND} {backend.__version__})"

    def devices(self) -> list[str]:
        """Devices that work here, best first: TensorFlow's GPUs as "cuda:n", and "cpu"."""
        from portnet_keras.framework import devices

        return devices()

    def precisions(self, device: str) -> tuple[str, ...]:
        """bf16 on a CPU that computes in it; see `portnet_keras.precision`."""
        from portnet_keras.precision import has_bf16

        return ("fp32", "bf16") if device == "cpu" and has_bf16() else ("fp32",)

    def why_no_precision(self, precision: str, device: str) -> str:
        """What bf16 needs that is not there."""
        if device != "cpu":
            return "On a GPU PortNet trains Keras's networks in float32 alone."
        if precision == "bf16":
            return "It needs a processor with avx512_bf16 or amx_bf16, Linux, and TensorFlow's oneDNN."
        return "Processors compute in bf16, not in fp16."

    def lower_canonical(self, model: Model, device: str) -> Lowered:
        """Lower a canonical model to a functional ``keras.Model``."""
        from portnet_keras.network import lower

        return lower(model, device)

    def write(self, lowered: Lowered, path: Path, form: str) -> list[Path]:
        """Write a network in one of `formats`; see `portnet_keras.save`."""
        from portnet_keras.save import write

        return write(lowered, path, form)  # type: ignore[arg-type]

    def reload(self, lowered: Lowered, path: Path, form: str) -> Reloaded:
        """Read with Keras or TensorFlow what `write` wrote; see `portnet_keras.save`."""
        from portnet_keras.save import reload

        return reload(lowered, path, form)  # type: ignore[arg-type]

    def owns(self, native: Any) -> bool:
        """Whether ``native`` is a Keras network, or a file that `open` gave."""
        kinds = {(kind.__module__, kind.__name__) for kind in type(native).__mro__}
        own = {("portnet_keras.tracing", name) for name in ("SavedModel", "TFLiteModel")}
        return ("keras.src.models.model", "Model") in kinds or bool(kinds & own)

    def open(self, source: str, weights: Path | None = None) -> Any:
        """Return the network that a word or path means; see `portnet_keras.collection`."""
        from portnet_keras.collection import open_source

        return open_source(source, weights)

    def capture(self, native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
        """Return a Keras network as a `Model`, and what runs the original; see `portnet_keras.capture`."""
        from portnet_keras.capture import capture

        return capture(native, options)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether it is TensorFlow's ResourceExhaustedError, told by its name: Keras may run on another backend."""
        names = [kind.__name__ for kind in type(error).__mro__]
        return "ResourceExhaustedError" in names or super().is_out_of_memory(error)
