"""`GluonLowered`: a hybridized ``gluon.SymbolBlock`` and the way in and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.adapter import Lowered, Trainer, TrainPlan, fits
from portnet.errors import InputError, WeightsError
from portnet.graph.model import Model
from portnet.graph.parameters import Role
from portnet.graph.storage import to_copy
from portnet_gluon.arrays import context, shapes_as_in_numpy, to_mxnet
from portnet_gluon.carriers import CARRIERS, carried
from portnet_gluon.compat import mx, unprinted
from portnet_gluon.lower import NOTHING, GluonLowering, Variant
from portnet_gluon.ops.registry import Symbol
from portnet_gluon.parameter import Parameter
from portnet_gluon.verify import needs_probe, reason, refusal, verify

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
            walk, outputs = self.lower(Variant())
            verify(walk, outputs)
            self.parameters = _parameters(walk, self.context)
            inputs = self.inputs(walk, outputs)
            self._read = [symbol.name for symbol in inputs]
            self.native = block(outputs, inputs, self.parameters)
            self._nan_safe: Any = None
            if needs_probe(walk):
                self._probe(walk)

    def lower(self, variant: Variant) -> tuple[GluonLowering, list[Symbol]]:
        """Walk the model; return the walk and the symbols of the outputs."""
        walk = GluonLowering(self.model, variant)
        # an output of a block must be an operator's, not a variable
        outputs = [mx.sym.identity(symbol) if _is_variable(symbol) else symbol for symbol in walk.walk()]
        if set(mx.sym.Group(outputs).list_inputs()).isdisjoint(port.name for port in self.model.inputs):
            # and a block must have an input
            outputs.append(mx.sym.identity(mx.sym.var(NOTHING, shape=(1,), dtype="float32")))
        return walk, outputs

    def inputs(self, walk: GluonLowering, outputs: list[Symbol]) -> list[Symbol]:
        """Return the variables of the graph's inputs that are read, or one that nothing reads: a block needs one."""
        read = set(mx.sym.Group(outputs).list_inputs())
        found = [walk.values[value] for value in walk.graph.inputs if value.name in read and value in walk.values]
        return found or [mx.sym.var(NOTHING, shape=(1,), dtype="float32")]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode."""
        names = [port.name for port in self.model.inputs]
        if set(inputs) != set(names):
            raise InputError(f"network {self.model.name!r}: got inputs {sorted(inputs)}, expected {sorted(names)}")
        arrays = {port.name: _checked(port, inputs[port.name]) for port in self.model.inputs}
        try:
            values = self._values(arrays)
        except mx.base.MXNetError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise InputError(f"network {self.model.name!r} does not run on {shapes}: {reason(error)}") from error
        return {
            port.name: value.astype(port.dtype, copy=False) if port.dtype in CARRIERS else value
            for port, value in zip(self.model.outputs, values, strict=False)
        }

    def _values(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        with shapes_as_in_numpy():
            arrays = {**arrays, NOTHING: np.zeros(1, np.float32)}
            native = self._nan_safe_block() if any(map(_has_nan, arrays.values())) else self.native
            results = native(*(to_mxnet(arrays[name], self.context) for name in self._read))
            return [_numbers(result) for result in (results if isinstance(results, list) else [results])]

    def _nan_safe_block(self) -> Any:
        if self._nan_safe is None:
            walk, outputs = self.lower(Variant(nan_safe=True))
            self._nan_safe = block(outputs, self.inputs(walk, outputs), self.parameters)
        return self._nan_safe

    def _probe(self, walk: GluonLowering) -> None:
        """Run once on zeros, so that an operator without a kernel is found now and not when it is used.

        Raises:
            UnsupportedError: MXNet has no kernel for an operator's element type or rank.
        """
        shapes = {port.name: _probe_shape(port.shape) for port in self.model.inputs}
        types = {port.name: carried(port.dtype) for port in self.model.inputs}
        if None in shapes.values():
            return
        arrays = {name: np.zeros(shape, types[name]) for name, shape in shapes.items()}
        try:
            self._values(arrays)
        except mx.base.MXNetError as error:
            raise refusal(error, self._first_refused(walk, {**arrays, NOTHING: np.zeros(1, np.float32)})) from error

    def _first_refused(self, walk: GluonLowering, arrays: Mapping[str, np.ndarray]) -> ir.Node | None:
        """Return the first node up to which the network does not run, by bisection; None where parts cannot be run."""
        nodes = [node for node in walk.graph if any(value in walk.values for value in node.outputs)]
        low, high = 0, len(nodes)
        while low < high:
            middle = (low + high) // 2
            made = [walk.values[v] for node in nodes[: middle + 1] for v in node.outputs if v in walk.values]
            try:
                with unprinted():
                    runs = self._runs(walk, [mx.sym.identity(s) if _is_variable(s) else s for s in made], arrays)
            except Exception:  # Gluon's asserts, of parameters that only the whole network tells the type of
                return None
            if runs:
                low = middle + 1
            else:
                high = middle
        return nodes[low] if low < len(nodes) else None

    def _runs(self, walk: GluonLowering, outputs: list[Symbol], arrays: Mapping[str, np.ndarray]) -> bool:
        try:
            inputs = self.inputs(walk, outputs)
            results = block(outputs, inputs, self.parameters)(*(to_mxnet(arrays[x.name], self.context) for x in inputs))
            for result in results if isinstance(results, list) else [results]:
                _numbers(result)
        except mx.base.MXNetError:
            return False
        return True

    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of parameters and statistics."""
        with shapes_as_in_numpy():
            own = {name: self.parameters[name].data().asnumpy() for name in self._own()}
        initializers = self.model.ir.graph.initializers
        return {name: array.astype(initializers[name].dtype.numpy(), copy=False) for name, array in own.items()}

    def _own(self) -> list[str]:
        return [name for name, role in self.roles.items() if role is not Role.CONSTANT and name in self.parameters]

    def keep_frozen(self) -> None:
        """See `Lowered.keep_frozen`; whether statistics move is a layer's own option, so the block is made anew."""
        parameters, statistics = self._frozen()
        for name in parameters & set(self._own()):
            self.parameters[name].grad_req = "null"
        if statistics & set(self._own()):
            with shapes_as_in_numpy():
                walk, outputs = self.lower(Variant(frozenset(statistics)))
                self.native = block(outputs, self.inputs(walk, outputs), self.parameters)

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
    """Return a parameter for each of the walk's arrays, which it gives up."""
    result, initializers = mx.gluon.ParameterDict(), walk.model.ir.graph.initializers
    for name in list(walk.arrays):
        # one copy less while the others are made
        array = walk.arrays.pop(name)
        if name in initializers:
            # a file's tensor that is read anew gives back the pages of the one before
            to_copy(initializers[name].const_value)
        trains = name in walk.trainable
        parameter = Parameter(
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


def _checked(port: Any, value: Any) -> np.ndarray:
    """Return an input as an array of the type that carries it."""
    array = np.asarray(value)
    if array.dtype != np.dtype(port.dtype):
        raise InputError(f"input {port.name!r}: got {array.dtype}, expected {port.dtype}")
    if port.shape is not None and not fits(array.shape, port.shape):
        raise InputError(f"input {port.name!r}: got shape {array.shape}, expected {port.shape}")
    return array.astype(carried(port.dtype), copy=False)


def _probe_shape(shape: tuple[int | str | None, ...] | None) -> list[int] | None:
    """Return sizes to try an input with: a batch of one where it is free; None when another size is."""
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        return None
    return [size if isinstance(size, int) else 1 for size in shape]


def _numbers(result: Any) -> np.ndarray:
    # an empty array is copied without waiting for what computes it, and an error would show up elsewhere
    result.wait_to_read()
    return result.asnumpy()


def _has_nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _is_variable(symbol: Symbol) -> bool:
    return symbol.get_children() is None
