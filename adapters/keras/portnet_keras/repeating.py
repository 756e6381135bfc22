"""Steps that the data count while the network runs: what a step does is a functional model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from portnet.graph.sizes import register_sizes
from portnet_keras.branching import Branch, network_of
from portnet_keras.framework import BACKEND, keras, ops
from portnet_keras.layout import KValue, identity
from portnet_keras.lower import KerasLowering

__all__ = ["Repeated", "repeat"]

# sizes of a state that a step changes become free, axis by axis
_MAX_ATTEMPTS = 4


@keras.saving.register_keras_serializable("portnet")
class Repeated(keras.layers.Layer):
    """Runs a network step after step, as many times as the first input says and as long as the second is true.

    Args:
        step: network of one step. Takes the step's number, the condition, states, an entry of each source, and what
            stays the same; gives a condition, new states, and what is collected.
        states: how many tensors are carried from step to step.
        sources: how many tensors are taken apart along their first axis, an entry a step.
        length: count of steps where it is known.
    """

    def __init__(self, step: Any, states: int, sources: int, length: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step, self.states, self.sources, self.length = step, states, sources, length
        self.built = True

    def call(self, limit: Any, goes_on: Any, *tensors: Any, training: bool | None = None) -> list[Any]:
        """Return the last states, and along a new first axis what each step gave besides."""
        import tensorflow as tf

        places = (self.states, self.states + self.sources)
        states, sources, fixed = tensors[: places[0]], tensors[places[0] : places[1]], tensors[places[1] :]
        collected = [
            tf.TensorArray(x.dtype, size=0, dynamic_size=True, element_shape=x.shape, clear_after_read=False)
            for x in self.step.outputs[1 + self.states :]
        ]

        def run(place: Any, _: Any, states: Any, arrays: Any) -> tuple[Any, ...]:
            entries = [tf.gather(x, place) for x in sources]
            given = [place, tf.constant(True), *states, *entries, *fixed]
            condition, *found = keras.tree.flatten(self.step(given, training=training))
            at = tf.cast(place, tf.int32)
            written = [a.write(at, x) for a, x in zip(arrays, found[self.states :], strict=True)]
            return place + 1, tf.reshape(condition, ()), found[: self.states], written

        shapes = [tf.TensorShape(x.shape) for x in self.step.outputs[1 : 1 + self.states]]
        start = (
            tf.constant(0, tf.int64),
            tf.reshape(goes_on, ()),
            [tf.convert_to_tensor(s) for s in states],
            collected,
        )
        limit = tf.cast(tf.reshape(limit, ()), tf.int64)
        _, _, last, arrays = tf.while_loop(
            lambda place, condition, *_: (place < limit) & condition,
            run,
            start,
            shape_invariants=(
                tf.TensorShape(()),
                tf.TensorShape(()),
                shapes,
                [tf.TensorShape(None) for _ in collected],
            ),
        )
        return [*last, *(tf.ensure_shape(a.stack(), (self.length, *a.element_shape)) for a in arrays)]

    def compute_output_spec(self, limit: Any, goes_on: Any, *tensors: Any, training: bool | None = None) -> list[Any]:
        """Return the states as a step gives them, and collections."""
        _, *found = self.step.outputs
        states = [keras.KerasTensor(x.shape, dtype=x.dtype) for x in found[: self.states]]
        return states + [keras.KerasTensor((self.length, *x.shape), dtype=x.dtype) for x in found[self.states :]]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        step = keras.saving.serialize_keras_object(self.step)
        own = {"states": self.states, "sources": self.sources, "length": self.length}
        return {**super().get_config(), "step": step, **own}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Repeated:
        """Make a layer of what `get_config` returned."""
        return cls(**{**config, "step": keras.saving.deserialize_keras_object(config["step"])})


class _Step(Branch):
    """Lowers the body of a loop, whose own inputs come before what it reads from outside."""

    def __init__(self, outer: KerasLowering, graph: ir.Graph) -> None:
        super().__init__(outer, graph)
        self.takes: list[Any] = []

    def take(self, value: ir.Value | None, shape: Sequence[int | None], dtype: str) -> KValue:
        """Make an input of the step, which the body's own ``value`` stands for."""
        name = self.name((value.name if value is not None else None) or f"{self.graph.name}_input")
        made = KValue(keras.Input(batch_shape=tuple(shape), dtype=dtype, name=name), identity(len(shape)))
        self.takes.append(made.data)
        if value is not None:
            self.values[value] = made
            register_sizes(self, value)
        return made

    @property
    def anchor(self) -> Any:
        """The step's number, to hang loose weights on."""
        return self.takes[0]


def repeat(
    walk: KerasLowering,
    body: ir.Graph,
    limit: Any,
    goes_on: Any,
    states: Sequence[Any],
    sources: Sequence[Any],
    name: str,
    length: int | None = None,
) -> list[Any]:
    """Return the last states of a Loop's or a Scan's body, and what its steps collect along a new first axis.

    Args:
        walk: the lowering that meets the loop.
        body: graph of one step. A Loop's takes the step's number and the condition first, and gives a condition.
        limit: count of steps, an int64 scalar.
        goes_on: whether the first step is made, a bool scalar.
        states: tensors carried from step to step.
        sources: tensors that are taken apart along their first axis.
        name: of the layer.
        length: count of steps where it is known.

    Raises:
        UnsupportedError: a state changes its rank or type, or Keras runs on something other than TensorFlow.
    """
    if BACKEND != "tensorflow":
        raise walk.unsupported(f"steps that are counted while the network runs, with Keras on {BACKEND}")
    states, sources = [walk.symbolic(x) for x in states], [walk.symbolic(x) for x in sources]
    shapes = [tuple(x.shape) for x in states]
    for _ in range(_MAX_ATTEMPTS):
        step, outputs = _walked(walk, body, states, shapes, sources)
        found = [tuple(x.shape) for x in outputs[1 : 1 + len(states)]]
        if any(len(a) != len(b) for a, b in zip(shapes, found, strict=True)):
            raise walk.unsupported("a state whose rank changes from step to step")
        wider = [
            tuple(m if m == n else None for m, n in zip(a, b, strict=True)) for a, b in zip(shapes, found, strict=True)
        ]
        if wider == shapes:
            break
        shapes = wider
    dtypes = [x.dtype for x in outputs[1 : 1 + len(states)]]
    if [x.dtype for x in states] != dtypes:
        raise walk.unsupported(f"states of {[x.dtype for x in states]} that become {dtypes}")
    network = network_of(step, [*step.takes, *(made.data for made in step.inputs_made)], outputs)
    layer = Repeated(network, len(states), len(sources), length, name=walk.name(name))
    return list(keras.tree.flatten(layer(limit, goes_on, *states, *sources, *step.captured)))


def _walked(
    walk: KerasLowering, body: ir.Graph, states: Sequence[Any], shapes: Sequence[Any], sources: Sequence[Any]
) -> tuple[_Step, list[Any]]:
    """Lower the body for states of these shapes; return the lowering and its outputs, the condition first."""
    step = _Step(walk, body)
    own = list(body.inputs)
    is_loop = len(own) == len(states) + 2 and not sources
    first = [own.pop(0), own.pop(0)] if is_loop else [None, None]
    step.take(first[0], (), "int64")
    condition = step.take(first[1], (), "bool")
    for value, state, shape in zip(own, states, shapes, strict=False):
        step.take(value, shape, state.dtype)
    for value, source in zip(own[len(states) :], sources, strict=True):
        step.take(value, source.shape[1:], source.dtype)
    results = step.walk()
    if any(isinstance(result.data, list) for result in results):
        raise walk.unsupported("a loop over sequences whose steps are counted while the network runs")
    results = results if is_loop else [condition, *results]
    tensors = [step.symbolic(step.ordered(result, identity(result.rank))) for result in results]
    return step, [ops.copy(x) if any(x is taken for taken in _inputs(step)) else x for x in tensors]


def _inputs(step: _Step) -> list[Any]:
    return [*step.takes, *(made.data for made in step.inputs_made)]
