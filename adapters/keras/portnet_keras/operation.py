"""What Keras has no class for: functions of `keras.ops` as serialisable operations, and loose arrays as layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from portnet_keras.framework import keras, ops

__all__ = ["KerasFunction", "Weight", "operation", "scalar_types"]


class KerasFunction(keras.Operation):
    """A function of tensors as a node of a functional model; attributes are plain Python and are saved with it.

    Args:
        scalar_types: for each tensor its dtype if it is a known number of no dimensions, else None; left out where none
            is. Keras saves such a number without its type.
        attributes: what the function takes besides tensors.
    """

    function: ClassVar[Callable[..., Any]]
    spec: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, *, name: str | None = None, scalar_types: Sequence[str | None] = (), **attributes: Any) -> None:
        super().__init__(name=name)
        self.scalar_types, self.attributes = scalar_types, attributes

    def call(self, *tensors: Any) -> Any:
        """Compute it."""
        return type(self).function(*self._typed(tensors), **self.attributes)

    def compute_output_spec(self, *tensors: Any) -> Any:
        """Return shapes and dtypes: what ``spec`` says, or else what Keras finds by tracing."""
        for tensor in tensors:
            if isinstance(tensor, keras.KerasTensor):
                tensor._sparse = False  # Keras takes products with numpy arrays for sparse ones
        if self.spec is None:
            return super().compute_output_spec(*tensors)
        return type(self).spec(*self._typed(tensors), **self.attributes)  # type: ignore[misc]

    def _typed(self, tensors: Sequence[Any]) -> Sequence[Any]:
        if not self.scalar_types:
            return tensors
        pairs = zip(tensors, self.scalar_types, strict=True)
        return [tensor if dtype is None else np.asarray(tensor, dtype) for tensor, dtype in pairs]


def scalar_types(tensors: Sequence[Any]) -> list[str | None]:
    """Return the dtype of each known number of no dimensions, None for other tensors; empty where there is none."""
    types = [
        str(tensor.dtype) if isinstance(tensor, np.ndarray | np.generic) and not tensor.ndim else None
        for tensor in tensors
    ]
    return types if any(types) else []


def operation(function: Callable[..., Any], spec: Callable[..., Any] | None = None) -> type[KerasFunction]:
    """Make a function ``f(*tensors, **attributes)`` an operation class, registered by its name in CamelCase.

    The function sees real tensors of the backend, so it may read sizes that are free while the network is built.
    ``spec`` takes the same arguments and gives KerasTensors, for a function that cannot be traced with free sizes.
    """
    name = function.__name__.title().replace("_", "")
    members = {"function": staticmethod(function), "__doc__": function.__doc__, "__module__": function.__module__}
    if spec is not None:
        members["spec"] = staticmethod(spec)
    return keras.saving.register_keras_serializable("portnet")(type(name, (KerasFunction,), members))


@keras.saving.register_keras_serializable("portnet")
class Weight(keras.layers.Layer):
    """An array of the network as a tensor, for ops that have no layer of their own.

    Args:
        shape: sizes of the array.
        value_dtype: its element type.
    """

    def __init__(self, shape: tuple[int, ...], value_dtype: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape, self.value_dtype, self.value_initializer = tuple(shape), value_dtype, "zeros"

    def build(self, input_shape: Any = None) -> None:
        """Create the variable."""
        self.value = self.add_weight(
            shape=self.shape, dtype=self.value_dtype, initializer=self.value_initializer, autocast=False, name="value"
        )

    def call(self, anchor: Any) -> Any:
        """Return the array; ``anchor`` is any tensor of the network and is not read."""
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, anchor: Any) -> Any:
        """Return shape and dtype of the array."""
        return keras.KerasTensor(self.shape, dtype=self.value_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "shape": list(self.shape), "value_dtype": self.value_dtype}
