"""`GluonLowered`: a hybridized ``gluon.SymbolBlock`` and the way in and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portnet.adapter import Lowered, Trainer, TrainPlan
from portnet.errors import InputError, WeightsError
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet_gluon.arrays import context, shapes_as_in_numpy, to_mxnet
from portnet_gluon.compat import mx
from portnet_gluon.lower import GluonLowering
from portnet_gluon.ops.registry import Symbol
from portnet_gluon.verify import verify

__all__ = ["GluonLowered", "block"]


class GluonLowered(Lowered):
    """A network as ``gluon.SymbolBlock``; its parameters bear the names of the ONNX initializers.

    Outside this class, a network with 0-D or empty arrays inside runs under ``mx.util.np_shape(True)`` alone.

    Attributes:
        parameters: every variable of the symbol but the inputs: weights, statistics and constants.
    """

    engine = "gluon"

    def __init__(self, model: Model, device: str) -> None:
        self.model, self.device = model, device
        self.context = context(device)
        self.roles = model.roles
        with shapes_as_in_numpy():
            walk, outputs = self.lower()
            verify(walk, outputs)
            self.parameters = _parameters(walk, self.context)
            self.native = block(outputs, self.inputs(walk), self.parameters)

    def lower(self, **statistics: Any) -> tuple[GluonLowering, list[Symbol]]:
        """Walk the model; arguments say what becomes of BatchNormalization's statistics, see `GluonLowering`."""
        walk = GluonLowering(self.model, **statistics)
        # an output of a block must be an operator's, not a variable
        return walk, [mx.sym.identity(symbol) if _is_variable(symbol) else symbol for symbol in walk.walk()]

    def inputs(self, walk: GluonLowering) -> list[Symbol]:
        """Return the variables of the graph's inputs; a block has one at least, so one that nothing reads if need be."""
        found = [walk.values[value] for value in walk.graph.inputs if value.name not in walk.graph.initializers]
        return found or [mx.sym.var("portnet.nothing", dtype="float32")]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode."""
        names = [port.name for port in self.model.inputs]
        if set(inputs) != set(names):
            raise InputError(f"network {self.model.name!r}: got inputs {sorted(inputs)}, expected {sorted(names)}")
        with shapes_as_in_numpy():
            arrays = [self._array(port, inputs[port.name]) for port in self.model.inputs]
            try:
                results = self.native(*(arrays or [mx.nd.zeros((1,), ctx=self.context)]))
                results = results if isinstance(results, list) else [results]
                values = [result.asnumpy() for result in results]
            except mx.base.MXNetError as error:
                shapes = ", ".join(f"{name} {np.shape(inputs[name])}" for name in names)
                reason = str(error).strip().splitlines()[-1]
                raise InputError(f"network {self.model.name!r} does not run on {shapes}: {reason}") from error
        return dict(zip((port.name for port in self.model.outputs), values, strict=True))

    def _array(self, port: Any, value: Any) -> Any:
        array = np.asarray(value)
        if array.dtype != np.dtype(port.dtype):
            raise InputError(f"input {port.name!r}: got {array.dtype}, expected {port.dtype}")
        if port.shape is not None and not _fits(array.shape, port.shape):
            raise InputError(f"input {port.name!r}: got shape {array.shape}, expected {port.shape}")
        return to_mxnet(array, self.context)

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of parameters and statistics."""
        with shapes_as_in_numpy():
            return {name: self.parameters[name].data().asnumpy() for name in self._own()}

    def _own(self) -> list[str]:
        return [name for name, role in self.roles.items() if role is not Role.CONSTANT and name in self.parameters]

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write parameters and statistics; all are checked before the first is written."""
        own = set(self._own())
        for name, array in arrays.items():
            if name not in own:
                raise WeightsError(f"weights: the network {self.model.name!r} has no initializer named {name!r}")
            if tuple(array.shape) != tuple(self.parameters[name].shape):
                raise WeightsError(
                    f"weights: {name!r} got shape {tuple(array.shape)}, expected {tuple(self.parameters[name].shape)}"
                )
        with shapes_as_in_numpy():
            for name, array in arrays.items():
                parameter = self.parameters[name]
                parameter.set_data(to_mxnet(np.asarray(array, parameter.dtype), self.context))

    @property
    def trainable_count(self) -> int:
        """Count of scalars of the block's parameters whose gradient is asked for."""
        return sum(int(np.prod(p.shape)) for p in self.native.collect_params().values() if p.grad_req != "null")

    def trainer(self, plan: TrainPlan) -> Trainer:
        """Return a trainer; ``native`` becomes a block whose frozen statistics hold still in training, too."""
        from portnet_gluon.train import GluonTrainer

        return GluonTrainer(self, plan)


def block(outputs: list[Symbol], inputs: list[Symbol], parameters: Any) -> Any:
    """Return a hybridized SymbolBlock over shared parameters."""
    result = mx.gluon.SymbolBlock(outputs, inputs, params=parameters)
    result.hybridize(static_alloc=True, static_shape=True)
    return result


class _Given(mx.init.Initializer):  # type: ignore[misc]
    """Initialises a parameter with an array."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__()
        self._array = array

    def _init_weight(self, name: str, target: Any) -> None:
        to_mxnet(self._array, target.context).copyto(target)


def _parameters(walk: GluonLowering, ctx: Any) -> Any:
    result = mx.gluon.ParameterDict()
    for name, array in walk.arrays.items():
        trains = name in walk.trainable
        parameter = mx.gluon.Parameter(
            name,
            grad_req="write" if trains else "null",
            shape=array.shape,
            dtype=array.dtype,
            allow_deferred_init=True,
            differentiable=trains,
        )
        parameter.initialize(_Given(array), ctx=ctx)
        result._params[name] = parameter
    return result


def _is_variable(symbol: Symbol) -> bool:
    return symbol.get_children() is None


def _fits(shape: tuple[int, ...], expected: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        not isinstance(want, int) or want == have for have, want in zip(shape, expected, strict=True)
    )
