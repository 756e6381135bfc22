"""`GluonTrainer`: one block that computes loss and hits, its backward pass, and fused updates."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from portnet.adapter import Inputs, StepResult, Trainer, TrainPlan, as_inputs, pieces
from portnet.errors import InputError, WeightsError
from portnet.graph.model import Model
from portnet_gluon.arrays import shapes_as_in_numpy, to_mxnet
from portnet_gluon.compat import mx
from portnet_gluon.loss import CLASS_WEIGHTS, LABELS, label_type, loss_and_hits
from portnet_gluon.lower import Variant
from portnet_gluon.network import block
from portnet_gluon.rules import SLOTS, combine, update

if TYPE_CHECKING:
    from portnet_gluon.network import GluonLowered

__all__ = ["GluonTrainer", "silent_statistics"]


class GluonTrainer(Trainer):
    """Trains a `GluonLowered` in place.

    MXNet cannot give out the state of its random generators, so every step of a network with Dropout seeds them
    from the plan's seed and the number of the step: a resumed run draws the same masks.
    """

    def __init__(self, lowered: GluonLowered, plan: TrainPlan) -> None:
        self._lowered, self._plan, self._spec = lowered, plan, plan.optimizer
        self._lr, self._steps = plan.optimizer.lr, 0
        self._drops = any(node.op_type == "Dropout" for node in lowered.model.ir.graph)
        self._names = [name for name, each in plan.parameters.items() if each.trainable]
        self._freeze()
        with shapes_as_in_numpy():
            self._build()
            self._slots = {
                slot: [mx.nd.zeros(p.shape, ctx=lowered.context) for p in self._parameters()]
                for slot in SLOTS[self._spec.name]
            }

    def _freeze(self) -> None:
        known = self._lowered.parameters
        for name, each in self._plan.parameters.items():
            if name not in known:
                raise InputError(f"training plan: the network has no trainable initializer named {name!r}")
            known[name].grad_req = "write" if each.trainable else "null"

    def _build(self) -> None:
        """Lower again, with the plan's frozen statistics, over the same parameters."""
        lowered, plan = self._lowered, self._plan
        walk, outputs = lowered.lower(Variant(plan.frozen_statistics, silent_statistics(lowered.model, plan)))
        inputs, parameters = lowered.inputs(walk, outputs), lowered.parameters
        self._ports = [port.name for port in lowered.model.inputs]
        self._read = [symbol.name for symbol in inputs]
        lowered.native = block(outputs, inputs, parameters)
        self._add_class_weights(parameters)
        self._moments = [(parameters[name], momentum) for name, _, momentum in walk.batch_moments]
        extra = [symbol for _, symbol, _ in walk.batch_moments]

        def training_block(soft: bool) -> Any:
            heads = loss_and_hits(outputs[0], plan.label_smoothing, plan.class_weights is not None, soft)
            return block([*heads, *extra], [*inputs, mx.sym.var(LABELS, dtype=label_type(soft))], parameters)

        # for class indices, and for distributions once there are some
        self._block = functools.cache(training_block)

    def _add_class_weights(self, parameters: Any) -> None:
        parameters._params.pop(CLASS_WEIGHTS, None)
        if self._plan.class_weights is None:
            return
        weights = mx.nd.array(self._plan.class_weights, ctx=self._lowered.context, dtype="float32")
        constant = mx.gluon.Constant(CLASS_WEIGHTS, weights)
        constant.initialize(ctx=self._lowered.context)
        parameters._params[CLASS_WEIGHTS] = constant

    def _parameters(self) -> list[Any]:
        return [self._lowered.parameters[name] for name in self._names]

    # ---- arithmetic

    def step(self, x: Inputs, y: np.ndarray) -> StepResult:
        """Take one optimizer step."""
        with shapes_as_in_numpy():
            parts, totals, reports = pieces(self._plan, x, y), [], []
            for index, (piece, targets, share) in enumerate(parts):
                _, report, *moments = self._forward_backward(piece, targets, index)
                self._move_statistics(moments)
                reports.append((share, report))
                if len(parts) > 1:
                    totals = self._add_up(totals, share)
            self._steps += 1
            if self._names:
                self._update(totals or self._gradients())
            numbers = [(share, *report.asnumpy().tolist()) for share, report in reports]
            return StepResult(sum(share * loss for share, loss, _ in numbers), int(sum(hits for *_, hits in numbers)))

    def _add_up(self, totals: list[Any], share: float) -> list[Any]:
        """Return the sum so far of the pieces' gradients, each by its share."""
        gradients = self._gradients()
        if not totals:
            return [gradient * share for gradient in gradients]
        combine(totals, [1.0] * len(totals), gradients, [share] * len(totals))
        return totals

    def steps(self, x: Inputs, y: np.ndarray, rates: Sequence[float]) -> list[StepResult]:
        """Take several steps; what goes in is copied once, and what comes out is waited for once."""
        if self._plan.accumulate > 1 or y.ndim != 2:
            return super().steps(x, y, rates)
        with shapes_as_in_numpy():
            inputs, labels = self._arrays(x, y, label_type(soft=False))
            reports = []
            for index, rate in enumerate(rates):
                self.set_lr(rate)
                _, report, *moments = self._run_block([each[index] for each in inputs], labels[index], False)
                self._move_statistics(moments)
                reports.append(report)
                self._steps += 1
                if self._names:
                    self._update(self._gradients())
            numbers = mx.nd.stack(*reports, axis=0).asnumpy().tolist()
        return [StepResult(loss, int(hits)) for loss, hits in numbers]

    def _forward_backward(self, x: Inputs, y: np.ndarray, piece: int = 0) -> list[Any]:
        soft = y.ndim == 2
        return self._run_block(*self._arrays(x, y, label_type(soft)), soft, piece)

    def _arrays(self, x: Inputs, y: np.ndarray, labels: str) -> tuple[list[Any], Any]:
        """Return the inputs in the order in which the block reads them, and the labels."""
        ctx, given = self._lowered.context, dict(zip(self._ports, as_inputs(x), strict=True))
        inputs = [to_mxnet(np.asarray(given[name], np.float32), ctx) for name in self._read]
        return inputs, to_mxnet(np.asarray(y, labels), ctx)

    def _run_block(self, inputs: list[Any], labels: Any, soft: bool, piece: int = 0) -> list[Any]:
        if self._drops:
            place = f"{self._plan.seed} {self._steps}" + (f" {piece}" if piece else "")
            mx.random.seed(zlib.crc32(place.encode()) & 0x7FFFFFFF, ctx=self._lowered.context)
        with mx.autograd.record():
            outputs: list[Any] = self._block(soft)(*inputs, labels)
        if self._names:
            outputs[0].backward()
        return outputs

    def _gradients(self) -> list[Any]:
        return [parameter.grad() for parameter in self._parameters()]

    def _update(self, gradients: list[Any]) -> None:
        plans = [self._plan.parameters[name] for name in self._names]
        self._clip(gradients)
        update(
            self._spec,
            self._steps,
            [parameter.data() for parameter in self._parameters()],
            gradients,
            list(self._slots.values()),
            [self._lr * each.lr_mult for each in plans],
            [self._spec.weight_decay if each.decay else 0.0 for each in plans],
        )

    def _clip(self, gradients: list[Any]) -> None:
        if self._plan.clip_norm is None:
            return
        norm = float(mx.nd.multi_sum_sq(*gradients, num_arrays=len(gradients)).sum().sqrt().asscalar())
        if norm > self._plan.clip_norm:
            for gradient in gradients:
                gradient *= self._plan.clip_norm / norm

    def _move_statistics(self, moments: list[Any]) -> None:
        """Move the statistics of layers that no gradient reaches: running ← a · running + (1 − a) · batch."""
        if moments:
            keeps = [momentum for _, momentum in self._moments]
            running = [parameter.data() for parameter, _ in self._moments]
            combine(running, keeps, moments, [1 - momentum for momentum in keeps])

    def gradients(self, x: Inputs, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return gradients by ONNX name; statistics, which the backward pass moves, are put back."""
        statistics = [p for p in self._lowered.parameters.values() if p.name not in self._plan.parameters]
        with shapes_as_in_numpy():
            before = [parameter.data().copy() for parameter in statistics]
            self._forward_backward(x, y)
            result = {name: p.grad().asnumpy() for name, p in zip(self._names, self._parameters(), strict=True)}
            for parameter, array in zip(statistics, before, strict=True):
                array.copyto(parameter.data())
            mx.nd.waitall()
        return result

    # ---- state

    def set_lr(self, lr: float) -> None:
        """Set the learning rate; no state depends on it."""
        self._lr = lr

    def state(self) -> dict[str, np.ndarray]:
        """Return "<slot>/<parameter>" arrays, "step" (also the random state) and "lr"."""
        arrays = {name: array.asnumpy() for name, array in self._slots_by_name().items()}
        return {**arrays, "step": np.array(self._steps, np.int64), "lr": np.array(self._lr, np.float64)}

    def _slots_by_name(self) -> dict[str, Any]:
        return {
            f"{slot}/{name}": array
            for slot, arrays in self._slots.items()
            for name, array in zip(self._names, arrays, strict=True)
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore; every array is checked before the first is written."""
        slots = self._slots_by_name()
        for name, array in slots.items():
            got = state[name].shape if name in state else None
            if got != tuple(array.shape):
                raise WeightsError(f"optimizer state: {name!r} got shape {got}, expected {tuple(array.shape)}")
        with shapes_as_in_numpy():
            for name, array in slots.items():
                to_mxnet(state[name], self._lowered.context).copyto(array)
        self._steps, self._lr = int(state["step"]), float(state["lr"])


def silent_statistics(model: Model, plan: TrainPlan) -> frozenset[str]:
    """Return running means of BatchNormalization layers that should move but get no gradient under ``plan``."""
    moved: set[Any] = {v for n, v in model.ir.graph.initializers.items() if _trains(plan, n)}
    silent = set()
    for node in model.ir.graph:
        if moved.isdisjoint(node.inputs):
            if node.op_type == "BatchNormalization" and plan.frozen_statistics.isdisjoint(_statistics(node)):
                silent.add(_statistics(node)[0])
        else:
            moved.update(node.outputs)
    return frozenset(silent)


def _trains(plan: TrainPlan, name: str) -> bool:
    return name in plan.parameters and plan.parameters[name].trainable


def _statistics(node: Any) -> list[str]:
    return [value.name for value in node.inputs[3:5]]
