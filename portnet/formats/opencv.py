"""Caffe's and Darknet's networks as OpenCV's dnn module runs them: an independent engine to compare a capture with.

OpenCV is imported when it is asked for, and sees a file only after PortNet's own reader has accepted it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import MissingDependencyError, UnsupportedError
from portnet.formats.captured import Source
from portnet.graph.model import Model, Signature

__all__ = ["open_with_opencv"]


def open_with_opencv(
    package: str, path: Path, weights: Path | None, input_shape: Sequence[int] | None = None
) -> Source:
    """Return what runs the same files in OpenCV.

    Args:
        package: "caffe" or "darknet".
        path: the architecture.
        weights: its arrays.
        input_shape: sizes of the input, batch first, where the file does not say.

    Raises:
        MissingDependencyError: OpenCV is not installed, or there are no weights, without which it runs nothing.
        UnsupportedError: it cannot read or run the files, or computes something of them otherwise.
        PortNetError: our own reader refuses them.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"OpenCV runs {package} networks to compare with: pip install 'portnet[opencv]'"
        ) from error
    if weights is None:
        raise MissingDependencyError("there are no trained weights, so that nothing can be compared")
    opened = _caffe if package == "caffe" else _darknet
    try:
        with _silence(cv2):
            source = opened(cv2, path, weights, input_shape)
    except cv2.error as error:
        raise _refused(error) from error
    source.run({port.name: _noise(port) for port in source.model.inputs})
    return source


def _noise(port: Signature) -> np.ndarray:
    sizes = [size if isinstance(size, int) else 1 for size in port.shape or ()]
    return np.random.default_rng(0).standard_normal(sizes, np.float32)


@contextmanager
def _silence(cv2: Any) -> Iterator[None]:
    """Keep OpenCV from writing to the terminal what it raises anyway."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(level)


def _caffe(cv2: Any, path: Path, weights: Path, input_shape: Sequence[int] | None) -> OpenCV:
    from portnet.formats.caffe.dump import deployed
    from portnet.formats.caffe.read import read
    from portnet.formats.caffe.weights import is_hdf5

    if is_hdf5(weights):
        raise UnsupportedError(f"OpenCV does not read HDF5: {weights}")
    model = read(path, weights, input_shape=input_shape).model
    text = np.frombuffer(deployed(path, model).encode(), np.uint8)
    return OpenCV(cv2, cv2.dnn.readNetFromCaffe(text, np.fromfile(weights, np.uint8)), model, lambda name: name)


def _darknet(cv2: Any, path: Path, weights: Path, input_shape: Sequence[int] | None) -> OpenCV:
    from portnet.formats.darknet import read
    from portnet.formats.darknet.config import read_config
    from portnet.formats.darknet.names import opencv_name

    for section in read_config(path):
        if section.kind == "crop" or section.number("temperature", 1) != 1:
            raise UnsupportedError(f"OpenCV computes [{section.kind}] otherwise than Darknet ({section.place})")
    model = read(path, weights, input_shape=input_shape).model
    files = (np.fromfile(path, np.uint8), np.fromfile(weights, np.uint8))
    return OpenCV(cv2, cv2.dnn.readNetFromDarknet(*files), model, opencv_name)


class OpenCV(Source):
    """A network in OpenCV.

    Args:
        cv2: the module.
        net: the network.
        model: what was captured: names and sizes.
        name_of: OpenCV's name of a layer, from the name of a tensor of ``model``.
    """

    label = "OpenCV"

    def __init__(
        self, cv2: Any, net: Any, model: Model, name_of: Callable[[str], str], wanted: list[Signature] | None = None
    ) -> None:
        self._cv2, self._net, self.model, self._name_of = cv2, net, model, name_of
        self._wanted = model.outputs if wanted is None else wanted
        # a fused layer would yield what the layer behind it yields
        net.enableFusion(False)
        known = set(net.getLayerNames())
        for port in self._wanted:
            if name_of(port.name) not in known:
                raise UnsupportedError(f"OpenCV has no layer {name_of(port.name)!r} to compare {port.name!r} with")

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run; results get the sizes that the captured model says, as OpenCV keeps axes of size 1."""
        batch = len(next(iter(inputs.values())))
        try:
            with _silence(self._cv2):
                for name, array in inputs.items():
                    arguments = [name] if len(inputs) > 1 else []
                    self._net.setInput(np.ascontiguousarray(array, np.float32), *arguments)
                results = self._net.forward([self._name_of(port.name) for port in self._wanted])
        except self._cv2.error as error:
            raise _refused(error) from error
        return {port.name: _shaped(y, port, batch) for port, y in zip(self._wanted, results, strict=True)}

    def at(self, tensor: str) -> Source:
        """Return the same network up to a layer."""
        for node in self.model.ir.graph:
            for value in node.outputs[:1]:
                if value.name == tensor and value.shape is not None:
                    sizes = tuple(size if isinstance(size, int) else "N" for size in value.shape)
                    return OpenCV(
                        self._cv2, self._net, self.model, self._name_of, [Signature(tensor, sizes, "float32")]
                    )
        raise UnsupportedError(f"OpenCV cannot be cut at {tensor!r}")


def _shaped(array: np.ndarray, port: Signature, batch: int) -> np.ndarray:
    sizes = [size if isinstance(size, int) else batch for size in port.shape or array.shape]
    # copied, as OpenCV reuses its memory
    return np.array(array.reshape(sizes) if np.prod(sizes) == array.size else array)


def _refused(error: Exception) -> UnsupportedError:
    return UnsupportedError(f"OpenCV cannot run this network: {' '.join(str(error).split())[:200]}")
