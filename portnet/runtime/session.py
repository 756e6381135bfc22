"""`load`: an .onnx file, ready to predict on images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnet.data.preprocess import as_list, preprocess
from portnet.errors import InputError, ModelError
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model, Signature
from portnet.runtime.providers import open_session
from portnet.sources import find_model

__all__ = ["Prediction", "Predictions", "Session", "ends_in_softmax", "load", "softmax"]

# above this, weights are handed to onnxruntime in a file and not in one protobuf
LARGEST_PROTO = 1 << 30


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        label: the likeliest class.
        probability: its probability, 0..1.
        index: its place among the logits.
        top: the likeliest classes with their probabilities, best first.
    """

    label: str
    probability: float
    index: int
    top: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.1%})"


class Predictions(Sequence[Prediction]):
    """Predictions of a batch of images, in their order; iterate for one `Prediction` an image.

    Attributes:
        probabilities: float32 array (images, classes); rows sum to 1.
        classes: name of each column.
    """

    def __init__(self, probabilities: np.ndarray, classes: Sequence[str], top: int = 5) -> None:
        self.probabilities = probabilities
        self.classes = tuple(classes)
        self._top = top

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each image."""
        return [self.classes[index] for index in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return Predictions(self.probabilities[item], self.classes, self._top)
        row = self.probabilities[item]
        order = np.argsort(-row, kind="stable")[: self._top]
        top = tuple((self.classes[i], float(row[i])) for i in order)
        return Prediction(top[0][0], top[0][1], int(order[0]), top)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<Predictions: {', '.join(map(str, self)) or 'none'}>"


class Session:
    """A network in onnxruntime.

    Attributes:
        model: graph and metadata.
        provider: onnxruntime's name of the execution provider that it really runs on.
    """

    def __init__(
        self, model: Model, *, provider: str | None = None, threads: int | None = None, optimise: bool = True
    ) -> None:
        self.model = model
        self._options = (provider, threads, optimise)
        self._session = _open(model, provider, threads, optimise)
        self.provider: str = self._session.get_providers()[0]

    def __repr__(self) -> str:
        return f"<Session {self.model.name!r} on {self.provider}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # onnxruntime's session cannot be copied; another process opens its own
        return _reopen, (self.model, *self._options)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names in the order of the logits, or None."""
        return self.model.labels

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image becomes the input, or None when unknown."""
        return self.model.preprocessing

    @property
    def inputs(self) -> list[Signature]:
        """The network's inputs."""
        return self.model.inputs

    @property
    def outputs(self) -> list[Signature]:
        """The network's outputs."""
        return self.model.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays by input name; return arrays by output name.

        Raises:
            InputError: onnxruntime refuses the inputs (name, dtype or shape).
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            # onnxruntime takes arrays of no dimensions and not NumPy's scalars, which indexing an array gives
            arrays = {name: np.asarray(v) if isinstance(v, np.generic) else v for name, v in inputs.items()}
            results = self._session.run(names, arrays)
        except Exception as error:  # onnxruntime raises a dozen classes of its own
            got = ", ".join(
                f"{name}: {getattr(v, 'dtype', type(v).__name__)} {np.shape(v)}" for name, v in inputs.items()
            )
            wanted = "; ".join(map(str, self.inputs))
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"onnxruntime cannot run the network: got {got}, expected {wanted}. {reason}") from error
        return dict(zip(names, results, strict=True))

    def logits(self, x: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Run an image network on float32 (N, C, H, W) in batches; return its first output, (N, ...)."""
        return self.activations(x, batch_size)[0]

    def activations(self, x: np.ndarray, batch_size: int = 32) -> list[np.ndarray]:
        """Run an image network on float32 (N, C, H, W) in batches; return all its outputs, each (N, ...)."""
        port = self.inputs[0]
        fixed = port.shape[0] if port.shape and isinstance(port.shape[0], int) else None
        step = fixed or batch_size
        parts = [self._batch(port.name, x[i : i + step], fixed) for i in range(0, len(x), step)]
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _batch(self, name: str, x: np.ndarray, fixed: int | None) -> list[np.ndarray]:
        count = len(x)
        if fixed and count < fixed:  # a network of fixed batch size is fed whole batches
            x = np.concatenate([x, np.repeat(x[-1:], fixed - count, axis=0)])
        return [output[:count] for output in self.run({name: x}).values()]

    def predict(self, images: Any, *, top: int = 5, batch_size: int = 32) -> Predictions:
        """Classify images.

        Args:
            images: one, or several of, paths, PIL images, or uint8 arrays (H, W), (H, W, 3) or (H, W, 4); or one uint8
                array (N, H, W, C).
            top: how many classes each `Prediction` lists.
            batch_size: images at a time.

        Raises:
            DataError: an image that cannot be read.
            InputError: ``top`` or ``batch_size`` below 1; the network does not say how images become its input, or
                is no classifier of images.
            ModelError: the network answers with NaN or infinity.
        """
        if top < 1 or batch_size < 1:
            raise InputError(f"predict: got top {top} and batch size {batch_size}, expected at least 1 of each")
        items = as_list(images)
        classes = self._classes()
        if not items:
            return Predictions(np.zeros((0, len(classes)), np.float32), classes, top)
        rows = [
            self.logits(preprocess(self.model, items[i : i + batch_size]), batch_size)
            for i in range(0, len(items), batch_size)
        ]
        logits = np.concatenate(rows).reshape(len(items), -1)
        if not np.isfinite(logits).all():
            raise ModelError("the network answers with NaN or infinity; its weights or its preprocessing are broken")
        if len(classes) != logits.shape[1]:
            raise ModelError(f"the network gives {logits.shape[1]} outputs an image, but has {len(classes)} labels")
        return Predictions(logits if ends_in_softmax(self.model) else softmax(logits), classes, top)

    def _classes(self) -> tuple[str, ...]:
        if len(self.inputs) != 1:
            raise InputError(
                f"predict: the network has {len(self.inputs)} inputs, expected one image. Use run instead."
            )
        shape = self.outputs[0].shape
        if self.labels is not None:
            return self.labels
        if not shape or not isinstance(shape[-1], int):
            raise InputError(
                "predict: the network carries no labels and its output has no fixed size. Set model.labels."
            )
        return tuple(f"class {i}" for i in range(shape[-1]))


def load(source: Any, *, provider: str | None = None, threads: int | None = None) -> Session:
    """Open a network in onnxruntime, ready to predict.

    >>> portnet.load("pets.onnx").predict(["cat.jpg"])[0].label  # doctest: +SKIP
    'tiger cat'

    Args:
        source: path of an .onnx file or of a run's folder, name in the zoo, a `Model`, a run, or anything else that
            `portnet.sources.find_model` takes.
        provider: "cpu", "cuda", ...; None for the best that really loads (`Session.provider` says which).
        threads: threads of one operator; None for one a core.

    Raises:
        ModelError: the file is not ONNX, broken or hostile.
        ProviderError: the provider was asked for and does not load; there is no silent fallback.
    """
    return Session(find_model(source), provider=provider, threads=threads)


def _reopen(model: Model, provider: str | None, threads: int | None, optimise: bool) -> Session:
    return Session(model, provider=provider, threads=threads, optimise=optimise)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, without overflow; float32 in, float32 out."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def ends_in_softmax(model: Model) -> bool:
    """Whether a network's first output holds probabilities already."""
    value = model.ir.graph.outputs[0]
    producer = value.producer()
    while producer is not None and producer.op_type in ("Identity", "Reshape", "Flatten", "Squeeze"):
        source = producer.inputs[0]
        producer = None if source is None else source.producer()
    return producer is not None and producer.op_type == "Softmax"


def _open(model: Model, provider: str | None, threads: int | None, optimise: bool) -> Any:
    size = sum(value.const_value.nbytes for value in model.ir.graph.initializers.values() if value.const_value)
    if size < LARGEST_PROTO:
        return open_session(model.to_bytes(), provider, threads, optimise=optimise)
    with tempfile.TemporaryDirectory(prefix="portnet-") as folder:
        path = Path(folder) / "model.onnx"
        model.save(path)
        return open_session(str(path), provider, threads, optimise=optimise)
