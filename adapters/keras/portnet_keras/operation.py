"""What Keras has no class for: functions of `keras.ops` as serialisable operations, and loose arrays as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from portnet_keras.framework import keras, ops

__all__ = ["KerasFunction", "Weight", "operation"]


class KerasFunction(keras.Operation):
    """A function of tensors as a node of a functional model; attributes are plain Python and are saved with it."""

    function: ClassVar[Callable[..., Any]]
    spec: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, *, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name=name)
        self.attributes = attributes

    def call(self, *tensors: Any) -> Any:
        """Compute it."""
        return type(self).function(*tensors, **self.attributes)

    def compute_output_spec(self, *tensors: Any) -> Any:
        """Return shapes and dtypes: what ``spec`` says, or else what Keras finds by tracing."""
        if self.spec is None:
            return super().compute_output_spec(*tensors)
        return type(self).spec(*tensors, **self.attributes)  # type: ignore[misc]


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
        self.shape, self.value_dtype = tuple(shape), value_dtype

    def build(self, input_shape: Any = None) -> None:
        """Create the variable."""
        self.value = self.add_weight(
            shape=self.shape, dtype=self.value_dtype, initializer="zeros", autocast=False, name="value"
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
