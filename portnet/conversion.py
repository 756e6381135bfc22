"""`convert`: source → Model → target, the whole story on one page."""

from __future__ import annotations

import os
from typing import Any

from portnet.engines import engine
from portnet.errors import InputError
from portnet.graph.model import Model
from portnet.parity.check import check

__all__ = ["convert", "load_model"]


def convert(source: str | os.PathLike[str] | Model, *, to: str, device: str = "cpu") -> Any:
    """Return a network as a native, trainable network of another framework, proved against onnxruntime.

    >>> network = portnet.convert("model.onnx", to="keras")  # doctest: +SKIP
    >>> type(network).__name__  # doctest: +SKIP
    'Functional'

    Args:
        source: path of an .onnx file or of a run's folder, name in the zoo, or a `Model`.
        to: engine: "torch", "keras" or "gluon".
        device: engine's device.

    Returns:
        A torch.fx.GraphModule, a keras.Model or a gluon SymbolBlock.

    Raises:
        ModelError: the file is not ONNX, broken or hostile.
        UnsupportedError: the engine cannot express the network; names op, opset, attribute and node.
        ParityError: the converted network and onnxruntime differ; names the first layer that does.
    """
    model = load_model(source)
    lowered = engine(to).lower(model, device=device)
    check(lowered, model).raise_if_failed()
    return lowered.native


def load_model(
    source: str | os.PathLike[str] | Model, *, weights: str | None = "imagenet", size: int | None = None
) -> Model:
    """Return the model that ``source`` means: a Model, a run's folder, a file, or else a name in the zoo.

    Args:
        source: what it is.
        weights: of a zoo network.
        size: height and width of a zoo network's input in pixels; None for what its weights were trained at.

    Raises:
        UnknownNameError: nothing of these.
        ModelError: a file that is no ONNX.
        InputError: a size for what is not the zoo's.
    """
    if isinstance(source, Model):
        return source
    name = os.fspath(source)
    is_file = os.path.exists(name) or name.endswith(".onnx") or os.sep in name
    if is_file and size is not None:
        raise InputError(f"size: got {size} for {name}, expected a network of the zoo. Leave size out.")
    if os.path.isdir(name):
        from portnet.finetuning.run import Run

        return Run.load(name).model
    if is_file:
        return Model.load(name)
    from portnet import zoo

    return zoo.load(name, weights=weights, size=size)
