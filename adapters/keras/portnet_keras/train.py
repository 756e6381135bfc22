"""`KerasTrainer`: one training step as one compiled TensorFlow function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from portnet.adapter import Inputs, StepResult, Trainer, TrainPlan, as_inputs, pieces
from portnet.errors import UnsupportedError, WeightsError
from portnet_keras.framework import keras
from portnet_keras.network import laid, unwrapped
from portnet_keras.precision import computes_in
from portnet_keras.update import rule_of

if TYPE_CHECKING:
    from portnet_keras.network import KerasLowered

__all__ = ["KerasTrainer"]


class KerasTrainer(Trainer):
    """Trains a `KerasLowered` in place by a `TrainPlan`.

    The gradient tape watches the trainable variables alone, so what lies before them costs only its forward pass.
    """

    def __init__(self, lowered: KerasLowered, plan: TrainPlan) -> None:
        if len(lowered.model.outputs) != 1:
            raise UnsupportedError(f"keras: training got {len(lowered.model.outputs)} outputs, expected 1: the logits")
        self._lowered, self._plan, self._network = lowered, plan, lowered.native
        self._rule = rule_of(plan.optimizer)
        bindings = lowered.bindings
        self._names = [name for name, p in plan.parameters.items() if p.trainable and name in bindings]
        self._variables = [bindings[name].variable.value for name in self._names]
        self._slots = [
            {slot: tf.Variable(tf.zeros_like(variable), trainable=False) for slot in self._rule.slots}
            for variable in self._variables
        ]
        self._functions: dict[tuple[str, int], Any] = {}
        self._rate = tf.Variable(plan.optimizer.lr, dtype=tf.float32, trainable=False)
        self._last_rate: float | None = plan.optimizer.lr
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._frozen = _frozen_norms(lowered, plan.frozen_statistics)
        self._seeds = {layer.name: layer.seed_generator.state for layer in _dropouts(self._network)}
        for index, state in enumerate(self._seeds.values()):
            state.assign(np.array([plan.seed % 2**32, index], np.uint32))
        inputs = list(map(_specification, self._network.inputs, lowered.input_orders))
        self._types = [spec.dtype for spec in inputs]
        indices, distributions = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32)
        # by the rank of the targets; the second is traced once there are some
        self._signatures = {0: [], 1: [*inputs, indices], 2: [*inputs, distributions]}
        in_pieces = plan.accumulate > 1
        self._totals = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self._variables if in_pieces]

    def step(self, x: Inputs, y: np.ndarray) -> StepResult:
        """Take one optimizer step; see `Trainer.step`."""
        with self._as_planned():
            if self._plan.accumulate > 1:
                return self._step_in_pieces(x, y)
            loss, correct = self._step(y.ndim)(*self._tensors(x, y)).numpy()
        return StepResult(float(loss), int(correct))

    def steps(self, x: Inputs, y: np.ndarray, rates: Sequence[float]) -> list[StepResult]:
        """Take several steps in one call, as a loop inside the compiled function; see `Trainer.steps`."""
        if self._plan.accumulate > 1 or y.ndim != 2 or not len(rates):
            return super().steps(x, y, rates)
        arrays = self._arrays(x)
        with self._as_planned():
            targets, numbers = tf.convert_to_tensor(y, tf.int64), tf.convert_to_tensor(rates, tf.float32)
            results = self._traced(self._compute_steps, 1)(*arrays, targets, numbers).numpy()
        self.set_lr(rates[-1])
        return [StepResult(loss, int(correct)) for loss, correct in results.tolist()]

    def _step_in_pieces(self, x: Inputs, y: np.ndarray) -> StepResult:
        done = [
            self._traced(self._compute_piece, y.ndim)(*self._tensors(piece, targets), tf.constant(share, tf.float32))
            for piece, targets, share in pieces(self._plan, x, y)
        ]
        self._traced(self._compute_update, 0)()
        loss, correct = np.sum([result.numpy() for result in done], axis=0)
        return StepResult(float(loss), int(correct))

    def gradients(self, x: Inputs, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return gradients by ONNX name and change nothing; see `Trainer.gradients`."""
        with self._as_planned():
            found = self._gradients(y.ndim)(*self._tensors(x, y))
        bindings = self._lowered.bindings
        return {
            name: bindings[name].layout.to_onnx(gradient.numpy())
            for name, gradient in zip(self._names, found, strict=True)
        }

    def set_lr(self, lr: float) -> None:
        """Set the learning rate; nothing is compiled again, and nothing is done where it stays the same."""
        if lr != self._last_rate:
            self._rate.assign(lr)
            self._last_rate = lr

    def state(self) -> dict[str, np.ndarray]:
        """Return optimizer slots in ONNX's layout, step count, rate and the state of every Dropout."""
        arrays = {name: np.array(state) for name, state in self._scalars().items()}
        for name, slots in zip(self._names, self._slots, strict=True):
            layout = self._lowered.bindings[name].layout
            arrays |= {f"{slot}/{name}": layout.to_onnx(variable.numpy()) for slot, variable in slots.items()}
        return arrays

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            WeightsError: another trainer's state: a name is missing or left over.
        """
        expected = self.state()
        if set(state) != set(expected):
            odd = sorted(set(state) ^ set(expected))[0]
            raise WeightsError(f"trainer state: {odd!r} is in one of state and trainer alone; is it another run's?")
        for name, variable in self._scalars().items():
            variable.assign(state[name])
        self._last_rate = None
        for name, slots in zip(self._names, self._slots, strict=True):
            layout = self._lowered.bindings[name].layout
            for slot, variable in slots.items():
                variable.assign(layout.to_native(state[f"{slot}/{name}"]))

    def _scalars(self) -> dict[str, Any]:
        seeds = {f"random/{name}": state.value for name, state in self._seeds.items()}
        return {"step": self._count, "lr": self._rate, **seeds}

    @contextlib.contextmanager
    def _as_planned(self) -> Iterator[None]:
        """Run functions where the network is and as precisely as the plan says."""
        with keras.device(self._lowered.device.replace("cuda", "gpu")), computes_in(self._plan.precision):
            yield

    def _arrays(self, x: Inputs) -> list[Any]:
        return [tf.convert_to_tensor(each, dtype) for each, dtype in zip(as_inputs(x), self._types, strict=True)]

    def _tensors(self, x: Inputs, y: np.ndarray) -> list[Any]:
        return [*self._arrays(x), tf.convert_to_tensor(y, tf.float32 if y.ndim == 2 else tf.int64)]

    # ---- traced

    def _step(self, rank: int) -> Any:
        return self._traced(self._compute_step, rank)

    def _gradients(self, rank: int) -> Any:
        return self._traced(self._compute_gradients, rank)

    def _traced(self, function: Any, rank: int) -> Any:
        key = function.__name__, rank
        if key not in self._functions:
            signature = self._signatures[rank]
            if function == self._compute_piece:
                signature = [*signature, tf.TensorSpec([], tf.float32)]
            if function == self._compute_steps:
                steps = [tf.TensorSpec([None, *spec.shape], spec.dtype) for spec in signature]
                signature = [*steps, tf.TensorSpec([None], tf.float32)]
            traced = tf.function(function, input_signature=signature, autograph=False)
            self._functions[key] = traced.get_concrete_function()
        return self._functions[key]

    def _compute_step(self, *batch: Any) -> Any:
        return self._take(self._rate, *batch)

    def _compute_steps(self, *batches: Any) -> Any:
        *arrays, rates = batches
        count = tf.shape(rates)[0]
        results = tf.TensorArray(tf.float32, size=count, element_shape=[2])

        def body(index: Any, results: Any) -> tuple[Any, Any]:
            result = self._take(rates[index], *(array[index] for array in arrays))
            return index + 1, results.write(index, result)

        _, results = tf.while_loop(lambda index, _: index < count, body, (0, results), parallel_iterations=1)
        return results.stack()

    def _take(self, rate: Any, *batch: Any) -> Any:
        loss, correct, gradients = self._backward(*batch)
        self._apply(gradients, rate)
        # one tensor, so that the host waits once
        return tf.stack([loss, tf.cast(correct, tf.float32)])

    def _compute_piece(self, *batch: Any) -> Any:
        *batch, share = batch
        loss, correct, gradients = self._backward(*batch)
        for total, gradient in zip(self._totals, gradients, strict=True):
            total.assign_add(share * gradient)
        return tf.stack([share * loss, tf.cast(correct, tf.float32)])

    def _compute_update(self) -> None:
        self._apply([tf.convert_to_tensor(total) for total in self._totals], self._rate)
        for total in self._totals:
            total.assign(tf.zeros_like(total))

    def _apply(self, gradients: list[Any], base: Any) -> None:
        self._count.assign_add(1)
        for name, variable, gradient, slots in zip(
            self._names, self._variables, _clipped(gradients, self._plan.clip_norm), self._slots, strict=True
        ):
            plan, spec = self._plan.parameters[name], self._plan.optimizer
            rate, decay = base * plan.lr_mult, spec.weight_decay if plan.decay else 0.0
            self._rule.apply(spec, variable, gradient, slots, rate, decay, self._count)

    def _compute_gradients(self, *batch: Any) -> list[Any]:
        # updates of statistics and seeds go into the scope and are forgotten with it
        with keras.StatelessScope():
            return self._backward(*batch)[2]

    def _backward(self, *batch: Any) -> tuple[Any, Any, list[Any]]:
        *arrays, y = batch
        inputs = [laid(x, order) for x, order in zip(arrays, self._lowered.input_orders, strict=True)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            with _on_running_statistics(self._frozen):
                logits = self._network(unwrapped(inputs), training=True)
            loss = _cross_entropy(logits, y, self._plan)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        truth = tf.argmax(y, axis=-1) if y.shape.rank == 2 else y
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=-1) == truth, tf.int32))
        return loss, correct, [tf.convert_to_tensor(gradient) for gradient in gradients]


def _cross_entropy(logits: Any, y: Any, plan: TrainPlan) -> Any:
    """Mean over the batch of cross-entropy with smoothed targets, weighted by the class of each sample."""
    soft = y.shape.rank == 2
    if soft:
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    if plan.label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1 - plan.label_smoothing) * losses + plan.label_smoothing * uniform
    if plan.class_weights is None:
        return tf.reduce_mean(losses)
    by_class = tf.constant(plan.class_weights, tf.float32)
    weights = tf.linalg.matvec(y, by_class) if soft else tf.gather(by_class, y)
    return tf.reduce_sum(weights * losses) / tf.reduce_sum(weights)


def _clipped(gradients: list[Any], limit: float | None) -> Sequence[Any]:
    if limit is None or not gradients:
        return gradients
    norm = tf.linalg.global_norm(gradients)
    scale = tf.minimum(1.0, limit / norm)
    return [gradient * scale for gradient in gradients]


def _frozen_norms(lowered: KerasLowered, names: frozenset[str]) -> list[Any]:
    """Return the BatchNormalization layers whose statistics must not move."""
    frozen = {id(lowered.bindings[name].variable) for name in names if name in lowered.bindings}
    norms = [layer for layer in every_layer(lowered.native) if isinstance(layer, keras.layers.BatchNormalization)]
    return [norm for norm in norms if frozen & {id(norm.moving_mean), id(norm.moving_variance)}]


@contextlib.contextmanager
def _on_running_statistics(norms: Sequence[Any]) -> Iterator[None]:
    """Keras's batch norm normalises by running statistics, and leaves them alone, where it is not trainable."""
    before = [[variable.trainable for variable in norm.variables] for norm in norms]
    for norm in norms:
        norm.trainable = False
    try:
        yield
    finally:
        for norm, flags in zip(norms, before, strict=True):
            norm.trainable = True
            for variable, flag in zip(norm.variables, flags, strict=True):
                variable.trainable = flag


def every_layer(network: Any) -> list[Any]:
    """Return the layers of a network, those of its branches among them."""
    return list(network._flatten_layers(include_self=False, recursive=True))


def _dropouts(network: Any) -> list[Any]:
    return [layer for layer in every_layer(network) if getattr(layer, "seed_generator", None) is not None]


def _specification(native: Any, order: tuple[int, ...]) -> Any:
    return tf.TensorSpec([native.shape[order.index(axis)] for axis in range(len(order))], native.dtype)
