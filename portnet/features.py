"""`FeatureExtractor`: a network's activations as features, in the shape of a scikit-learn transformer.

scikit-learn is not imported: it asks for methods, not for a base class.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np

from portnet.data.dataset import DatasetSource, load_dataset
from portnet.data.images import ImageSource
from portnet.data.preprocess import normalise, to_bytes
from portnet.data.threads import in_threads
from portnet.engines import engine
from portnet.errors import InputError, UnknownNameError
from portnet.files import check_place, replace_file
from portnet.finetuning.progress import ConsoleReporter, SilentReporter
from portnet.graph.cut import cut
from portnet.graph.feature import find_feature
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model
from portnet.runtime.session import Session
from portnet.sources import find_model

__all__ = ["FeatureExtractor", "find_tensor", "write_features"]

Pooled = Literal["avg", "flatten"]
_CONTAINERS = ("default", "pandas", "polars")


class FeatureExtractor:
    """Turns images into the activations of a layer, by onnxruntime or on an engine.

    >>> from sklearn.pipeline import make_pipeline  # doctest: +SKIP
    >>> from sklearn.svm import SVC  # doctest: +SKIP
    >>> svm = make_pipeline(portnet.FeatureExtractor("squeezenet1_1", layer="fire9"), SVC())  # doctest: +SKIP
    >>> svm.fit(paths, labels).score(test_paths, test_labels)  # doctest: +SKIP
    0.97

    Works in a ``Pipeline``, with ``GridSearchCV``, ``clone`` and ``set_output``. There is nothing to learn: `fit` opens
    the network and returns itself, and `transform` needs no `fit` before it.

    Args:
        model: name in the zoo, path of an .onnx file or of a run's folder, or a `Model`.
        layer: a layer, a stage (its last layer is meant) or a tensor; None for what a new head would be put on.
        weights: of a zoo network.
        pooled: "avg" takes the mean over height and width of a map (N, C, H, W) and gives (N, C), or flattens what is
            no map; "flatten" gives (N, C · H · W); None leaves activations as they are.
        batch_size: images at a time.
        provider: onnxruntime's execution provider; None for the best that loads.
        backend: engine to run on in place of onnxruntime: "torch", "keras" or "gluon".
        progress: whether to show a bar.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model = "squeezenet1_1",
        *,
        layer: str | None = None,
        weights: str | None = "imagenet",
        pooled: Pooled | None = "avg",
        batch_size: int = 32,
        provider: str | None = None,
        backend: str | None = None,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.layer = layer
        self.weights = weights
        self.pooled = pooled
        self.batch_size = batch_size
        self.provider = provider
        self.backend = backend
        self.progress = progress

    def __repr__(self) -> str:
        return f"FeatureExtractor({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    # ---- what scikit-learn asks for

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments it was made with, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> FeatureExtractor:
        """Change arguments; return itself.

        Raises:
            UnknownNameError: no such argument.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UnknownNameError("parameter", name, known)
            setattr(self, name, value)
        self.__dict__.pop("_opened", None)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of an estimator; only scikit-learn asks for it, so it is there."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(two_d_array=False, string=True),
            requires_fit=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def set_output(self, *, transform: Literal["default", "pandas", "polars"] | None = None) -> FeatureExtractor:
        """Choose what `transform` returns: an array, or a data frame with `get_feature_names_out` as columns.

        Raises:
            UnknownNameError: another container.
        """
        if transform not in (None, *_CONTAINERS):
            raise UnknownNameError("output", str(transform), _CONTAINERS)
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # the name that `sklearn.clone` copies
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a name for each feature, the layer's and a number, as objects (C,).

        Raises:
            InputError: activations are not pooled, or how many there are depends on the images.
        """
        shape = (self._session().outputs[0].shape or ())[1:]
        count = shape[0] if self.pooled == "avg" and len(shape) == 3 else _product(shape)
        if self.pooled in (None, "none") or not isinstance(count, int):
            raise InputError(f"features: activations {self.tensor!r} of shape {shape} have no names. Pool them.")
        name = self.layer or self.tensor
        return np.array([f"{name}_{i}" for i in range(count)], object)

    def fit(self, images: Any, labels: Any = None) -> FeatureExtractor:
        """Open the network and check the arguments; nothing is learned from ``images`` or ``labels``.

        Raises:
            UnknownNameError: no such network, layer or way of pooling; the nearest are offered.
            InputError: a batch size below 1, or a provider and a backend.
            MissingDependencyError: the backend is not installed.
        """
        self._session()
        return self

    def transform(self, images: Sequence[ImageSource] | np.ndarray) -> np.ndarray:
        """Return the activations of images, float32: (N, C) or as ``pooled`` says, in their order.

        Args:
            images: paths, PIL images or uint8 arrays, or one uint8 array (N, H, W) or (N, H, W, C); paths may stand in
                a column of a data frame.

        Raises:
            DataError: an image that cannot be read.
            InputError: no image, or a network that does not say how images become its input.
        """
        session = self._session()
        preprocessing = session.preprocessing
        if preprocessing is None:
            raise InputError("features: the network carries no preprocessing. Set model.preprocessing, pass the model.")
        given, images = images, _listed(images)
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        rows = []
        with ConsoleReporter() if self.progress else SilentReporter() as reporter:
            done = reporter.task("features", len(images))
            for x in in_threads(lambda batch: _prepared(batch, preprocessing), batches):
                rows.append(_pool(session.logits(x, self.batch_size), self.pooled))
                done(min(len(rows) * self.batch_size, len(images)))
        return self._contained(np.concatenate(rows), given)

    def fit_transform(self, images: Any, labels: Any = None) -> np.ndarray:
        """Do `fit`, then `transform`."""
        return self.fit(images, labels).transform(images)

    # ---- how

    def _contained(self, features: np.ndarray, images: Any) -> Any:
        """Return features as `set_output` says."""
        container = getattr(self, "_sklearn_output_config", {}).get("transform", "default")
        if container == "default":
            return features
        names = list(self.get_feature_names_out())
        if container == "pandas":
            import pandas

            return pandas.DataFrame(features, columns=names, index=getattr(images, "index", None))
        import polars

        return polars.DataFrame(features, schema=names)

    @property
    def tensor(self) -> str:
        """Name of the tensor whose activations are taken."""
        return self._session().outputs[0].name

    def _session(self) -> Session | _OnEngine:
        opened: Session | _OnEngine | None = self.__dict__.get("_opened")
        if opened is None:
            if self.pooled not in ("avg", "flatten", "none", None):
                raise UnknownNameError("pooling", str(self.pooled), ["avg", "flatten", "none"])
            if not isinstance(self.batch_size, Integral) or self.batch_size < 1:
                raise InputError(f"features: batch size got {self.batch_size!r}, expected an integer from 1 on")
            model = find_model(self.model, weights=self.weights)
            part = cut(model, outputs=[find_tensor(model, self.layer)])
            opened = self.__dict__["_opened"] = _opened(part, self.backend, self.provider)
        return opened


class _OnEngine:
    """A network on an engine, asked as a `Session` is."""

    def __init__(self, model: Model, backend: str) -> None:
        self.preprocessing, self.outputs = model.preprocessing, model.outputs
        self._lowered = engine(backend).lower(model)

    def logits(self, x: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Run on float32 (N, C, H, W) in batches; return the first output, (N, ...)."""
        parts = [self._lowered.predict(x[i : i + batch_size]) for i in range(0, len(x), batch_size)]
        return np.concatenate(parts)


def _opened(model: Model, backend: str | None, provider: str | None) -> Session | _OnEngine:
    if backend is None:
        return Session(model, provider=provider)
    if provider is not None:
        raise InputError(f"features: got backend {backend!r} and provider {provider!r}, expected one of them.")
    return _OnEngine(model, backend)


def write_features(
    extractor: FeatureExtractor, data: DatasetSource, path: str | os.PathLike[str], *, on_error: str = "fail"
) -> tuple[int, ...]:
    """Write the features of labelled images as an .npz file, whole or not at all; return their shape.

    The file holds ``features`` (float32), ``labels`` (int64, indices into ``classes``), ``classes``, ``paths`` (text,
    "" for an image from memory). It loads with ``numpy.load``, without pickle.

    Args:
        extractor: what computes them.
        data: as for `portnet.finetune`.
        path: the file to write.
        on_error: what an unreadable image does: "fail" or "skip".

    Raises:
        InputError: the path does not end in .npz.
        DataError: images that cannot be used.
        OutputError: the path cannot be written.
    """
    path = check_output(path)
    dataset = load_dataset(data, on_error=on_error)  # type: ignore[arg-type]
    found = extractor.transform(dataset.items)
    paths = [os.fspath(item) if isinstance(item, (str, os.PathLike)) else "" for item in dataset.items]
    arrays = {"labels": dataset.labels, "classes": np.array(dataset.classes), "paths": np.array(paths)}
    replace_file(path, lambda file: np.savez(file, features=found, **arrays))
    return found.shape


def check_output(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file for features, which take long, once it is known that it may be written.

    Raises:
        InputError: it does not end in .npz.
        OutputError: it may not be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"features: got {path.name}, expected a file that ends in .npz")
    check_place(path)
    return path


def find_tensor(model: Model, layer: str | None) -> str:
    """Return the tensor that a name means: a tensor, a layer's output, or the output of a stage's last layer.

    Args:
        model: the network.
        layer: the name, or None for the tensor that a new head would be put on.

    Raises:
        UnknownNameError: nothing has that name; the nearest are offered.
        ModelError: no head can be found, for None.
    """
    if layer is None:
        return model.backbone.feature if model.backbone is not None else find_feature(model)
    layers = model.layers
    tensors = {value.name for node in model.ir.graph for value in node.outputs}
    if layer in tensors:
        return layer
    by_name = {each.name: each.output for each in layers[1:]}
    by_stage = {each.stage: each.output for each in layers if each.stage}  # the last of a stage stays
    found = by_name.get(layer) or by_stage.get(layer)
    if found is None:
        raise UnknownNameError("layer", layer, dict.fromkeys([*by_stage, *by_name]))
    return found


def _listed(images: Any) -> Any:
    """Return images as a sequence; a data frame, or an array, of one column of paths is that column.

    Raises:
        InputError: a single path, or no image.
    """
    if hasattr(images, "to_numpy"):
        images = images.to_numpy()
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU" and images.ndim == 2 and images.shape[1] == 1:
        images = images[:, 0]
    if isinstance(images, (str, os.PathLike)) or not len(images):
        raise InputError("features: got no list of images, expected one or more.")
    return images


def _product(shape: Sequence[Any]) -> int | None:
    return math.prod(shape) if all(isinstance(size, int) for size in shape) else None


def _prepared(images: Iterable[ImageSource], preprocessing: Preprocessing) -> np.ndarray:
    return normalise(np.stack([to_bytes(image, preprocessing) for image in images]), preprocessing)


def _pool(activations: np.ndarray, pooled: Pooled | None) -> np.ndarray:
    if pooled in (None, "none"):
        return activations
    if pooled == "avg" and activations.ndim == 4:
        return activations.mean(axis=(2, 3), dtype=np.float32)
    return activations.reshape(len(activations), -1)
