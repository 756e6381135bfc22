"""A lowered network: a `torch.fx.GraphModule` that speaks ONNX's names and layouts at its border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from portnet.adapter import Lowered, TrainPlan, fits
from portnet.errors import ModelError, WeightsError
from portnet.graph.model import Model, Signature
from portnet_torch.binding import Binding, resolve
from portnet_torch.dtypes import numpy_dtype, to_array, to_tensor
from portnet_torch.exact import exact

if TYPE_CHECKING:
    from portnet_torch.statistics import BiasedVariance
    from portnet_torch.train import TorchTrainer

__all__ = ["TorchLowered"]


class TorchLowered(Lowered):
    """A network as a `torch.fx.GraphModule`; images go through it channels last.

    Attributes:
        bindings: where each trainable initializer and running statistic lives in ``native``, by ONNX name.
        variance: hooks that the current trainer has put on ``native``.
    """

    engine = "torch"

    def __init__(self, model: Model, native: fx.GraphModule, bindings: list[Binding], device: str) -> None:
        self.model, self.native, self.device = model, native, device
        self.bindings = {binding.name: binding for binding in bindings}
        self.variance: BiasedVariance | None = None
        self._outputs = [(port.name, numpy_dtype(port.dtype)) for port in model.outputs]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode (``native`` is left in eval mode).

        Args:
            inputs: by input name; an array of any strides, a list of arrays for a sequence, None for an absent
                optional, an object array of str for strings.

        Raises:
            ModelError: an input is missing, or has another dtype, rank or fixed size than the network's.
        """
        arguments = [self.tensor(port, inputs) for port in self.model.inputs]
        self.native.eval()
        with exact(self.device), torch.inference_mode():
            results = self.native(*arguments)
        return self.named(results)

    def named(self, results: Any) -> dict[str, Any]:
        """Return what the native network returns as arrays by output name."""
        values = [results] if len(self._outputs) == 1 else results
        return {name: _leave(value, dtype) for (name, dtype), value in zip(self._outputs, values, strict=True)}

    def tensor(self, port: Signature, inputs: Mapping[str, Any]) -> Any:
        """Return one input as the native network wants it, on its device, images channels last."""
        if port.name not in inputs:
            raise ModelError(f"input {port.name!r}: got none, expected {port}")
        value = inputs[port.name]
        is_array = value is not None and not isinstance(value, (list, tuple))
        if is_array and port.shape is not None and not fits(np.shape(value), port.shape):
            raise ModelError(f"input {port.name!r}: got shape {np.shape(value)}, expected {port}")
        return self._enter(value, port)

    def _enter(self, value: Any, port: Signature) -> Any:
        if value is None:
            return None
        if isinstance(value, (list, tuple)):
            return [self._enter(item, port) for item in value]
        array = np.asarray(value)
        if port.dtype not in ("string", "unknown") and array.dtype != numpy_dtype(port.dtype):
            raise ModelError(f"input {port.name!r}: got {array.dtype}, expected {port.dtype}. Use array.astype")
        tensor = to_tensor(array)
        if not isinstance(tensor, Tensor):
            return tensor
        is_image = tensor.ndim == 4 and tensor.is_floating_point()
        return tensor.to(self.device, memory_format=torch.channels_last if is_image else torch.preserve_format)

    def _captured_names(self) -> Mapping[str, Sequence[str]]:
        return {name: binding.paths for name, binding in self.bindings.items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters and statistics as they are now, by ONNX name, in ONNX's layout."""
        return {name: self.join(binding, self.tensors(binding)) for name, binding in self.bindings.items()}

    def tensors(self, binding: Binding) -> list[Tensor]:
        """Return the native tensors that hold an initializer."""
        return [resolve(self.native, path) for path in binding.paths]

    def join(self, binding: Binding, tensors: list[Tensor]) -> np.ndarray:
        """Return tensors that lie like those of ``binding`` as one array in ONNX's layout."""
        array: np.ndarray = to_array(binding.layout.join([tensor.detach() for tensor in tensors]))
        return array

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by ONNX name; nothing is written unless all of them fit.

        Raises:
            WeightsError: an unknown name or another shape.
        """
        parts = {name: self._split(name, array) for name, array in arrays.items()}
        with torch.no_grad():
            for name, tensors in parts.items():
                for target, source in zip(self.tensors(self.bindings[name]), tensors, strict=True):
                    target.copy_(source)

    def _split(self, name: str, array: np.ndarray) -> list[Tensor]:
        if name not in self.bindings:
            raise WeightsError(f"weights: the network {self.model.name!r} has no parameter named {name!r}")
        expected = self.model.ir.graph.initializers[name].shape
        if tuple(np.shape(array)) != tuple(int(n) for n in expected or ()):
            raise WeightsError(f"weights: {name!r} got shape {np.shape(array)}, expected {expected}")
        return list(self.bindings[name].layout.split(to_tensor(array)))

    def keep_frozen(self) -> None:
        """See `Lowered.keep_frozen`; BatchNormalization whose statistics hold still is in inference mode."""
        parameters, statistics = self._frozen()
        for name in parameters & set(self.bindings):
            for path in self.bindings[name].paths:
                self.native.get_parameter(path).requires_grad_(False)
        for name in statistics & set(self.bindings):
            for path in self.bindings[name].paths:
                self.native.get_submodule(path.rpartition(".")[0]).eval()

    @property
    def trainable_count(self) -> int:
        """Count of scalars in ``native.parameters()`` that require a gradient."""
        return sum(p.numel() for p in self.native.parameters() if p.requires_grad)

    def trainer(self, plan: TrainPlan) -> TorchTrainer:
        """Return a trainer of this network; see `portnet_torch.train`."""
        from portnet_torch.train import TorchTrainer

        return TorchTrainer(self, plan)


def _leave(value: Any, dtype: np.dtype | None) -> Any:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [_leave(item, dtype) for item in value]
    return to_array(value, dtype)
