"""Training a lowered network with torch.optim, by the core's definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from portnet.adapter import Inputs, StepResult, Trainer, TrainPlan, as_inputs, pieces
from portnet.errors import TrainingError
from portnet_torch.allocator import keep_freed_memory
from portnet_torch.binding import Binding
from portnet_torch.compiling import compiled
from portnet_torch.dtypes import to_tensor
from portnet_torch.exact import exact, repeatable
from portnet_torch.optimizers import MOMENTS, make_optimizer, set_lr
from portnet_torch.randomness import RandomState
from portnet_torch.statistics import BiasedVariance

if TYPE_CHECKING:
    from portnet_torch.network import TorchLowered

__all__ = ["TorchTrainer"]

_DTYPES = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchTrainer(Trainer):
    """Trains ``lowered.native`` in place.

    Frozen parameters have ``requires_grad`` off, so autograd stops at the freeze frontier. A batch norm whose
    statistics are frozen stays in eval mode. Dropout draws from a random state of the trainer's own.
    """

    def __init__(self, lowered: TorchLowered, plan: TrainPlan) -> None:
        self.lowered, self.plan = lowered, plan
        self._native = lowered.native
        self._ports = lowered.model.inputs
        if lowered.device == "cpu":
            keep_freed_memory()
        self._trainable = [b for b in lowered.bindings.values() if self._freeze(b)]
        groups = [(plan.parameters[b.name], lowered.tensors(b)) for b in self._trainable]
        self._optimizer = make_optimizer(plan.optimizer, groups)
        self._frozen_norms, live = self._split_norms()
        if lowered.variance is not None:
            lowered.variance.remove()
        self._variance = lowered.variance = BiasedVariance(live)
        # torch's batch norm refuses one example; two equal ones have the same mean, biased variance, loss and gradients
        self._is_live = bool(live)
        self._random = RandomState(plan.seed, lowered.device) if self._draws() else None
        self._class_weights = (
            None if plan.class_weights is None else torch.tensor(plan.class_weights, device=lowered.device)
        )
        self._steps = 0
        self._type = torch.device(lowered.device).type
        self._scaler = torch.amp.GradScaler(self._type, enabled=plan.precision == "fp16")
        self._call = compiled(self._native) if plan.compile else self._native

    def step(self, x: Inputs, y: np.ndarray) -> StepResult:
        """Take one optimizer step; see `portnet.adapter.Trainer.step`."""
        done = []
        with self._computing(), self._drawing(keep=True):
            for piece_x, piece_y, share in pieces(self.plan, x, y):
                loss, correct = self._forward(piece_x, piece_y)
                if loss.requires_grad:
                    self._scaler.scale(loss if share == 1 else share * loss).backward()
                self._variance.correct()
                done.append((share, loss.detach(), correct))
        self._update()
        self._steps += 1
        return StepResult(sum(share * float(loss) for share, loss, _ in done), sum(int(right) for *_, right in done))

    def _update(self) -> None:
        if self._optimizer is None:
            return
        if self.plan.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            self._clip(self.plan.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    def gradients(self, x: Inputs, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of a batch by ONNX name and change nothing, the random state included."""
        buffers = {name: buffer.clone() for name, buffer in self._native.named_buffers()}
        with self._computing(), self._drawing(keep=False):
            loss, _ = self._forward(x, y)
            loss.backward()
        found = {b.name: self.lowered.join(b, [_gradient(t) for t in self.lowered.tensors(b)]) for b in self._trainable}
        self._native.zero_grad(set_to_none=True)
        for name, buffer in self._native.named_buffers():
            buffer.copy_(buffers[name])
        return found

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""
        if self._optimizer is not None:
            set_lr(self._optimizer, lr)

    def state(self) -> dict[str, np.ndarray]:
        """Return "step", "random" and each moment as "<moment>/<ONNX name>", in ONNX's layout."""
        arrays = {"step": np.array(self._steps, np.int64)}
        if self._random is not None:
            arrays["random"] = self._random.state.numpy().copy()
        if self._scaler.is_enabled():
            scale = self._scaler.state_dict()
            # a step whose gradients overflow updates nothing, and the rule does not count it
            arrays["scale"] = np.array([scale["scale"], scale["_growth_tracker"], self._updates()], np.float64)
        for binding in self._trainable:
            for ours, theirs in self._moments():
                moments = [self._moment(tensor, theirs) for tensor in self.lowered.tensors(binding)]
                arrays[f"{ours}/{binding.name}"] = self.lowered.join(binding, moments)
        return arrays

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            TrainingError: it belongs to another plan.
        """
        try:
            self._load_state(state)
        except KeyError as error:
            raise TrainingError(f"optimizer state: got no {error.args[0]!r}, so it is of another plan") from error

    # ---- one step

    def _forward(self, x: Inputs, y: np.ndarray) -> tuple[Tensor, Tensor]:
        self._native.train()
        for norm in self._frozen_norms:
            norm.eval()
        self._variance.remember()
        is_alone = len(y) == 1 and self._is_live
        if is_alone:
            x, y = tuple(np.repeat(array, 2, axis=0) for array in as_inputs(x)), np.repeat(y, 2, axis=0)
        try:
            with self._precision():
                logits = self._call(*self._tensors(x)).float()
        except ValueError as error:
            raise TrainingError(f"batch of {len(y)}: {error}") from error
        soft = y.ndim == 2
        target = torch.from_numpy(np.ascontiguousarray(y, np.float32 if soft else np.int64)).to(self.lowered.device)
        right = logits.detach().argmax(1) == (target.argmax(1) if soft else target)
        return self._loss(logits, target), right[:1].sum() if is_alone else right.sum()

    def _tensors(self, x: Inputs) -> list[Tensor]:
        named = {port.name: array for port, array in zip(self._ports, as_inputs(x), strict=True)}
        return [self.lowered.tensor(port, named) for port in self._ports]

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        smoothing = self.plan.label_smoothing
        if self._class_weights is None:
            return F.cross_entropy(logits, target, label_smoothing=smoothing)
        weights = target @ self._class_weights if target.ndim == 2 else self._class_weights[target]
        losses = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def _clip(self, limit: float) -> None:
        gradients = [p.grad for p in self._native.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with exact(self.lowered.device, tf32=self.plan.precision == "tf32"), repeatable(self.lowered.device):
            yield

    def _precision(self) -> AbstractContextManager[None]:
        dtype = _DTYPES[self.plan.precision]
        return nullcontext() if dtype is None else torch.autocast(self._type, dtype)

    def _drawing(self, *, keep: bool) -> AbstractContextManager[None]:
        return nullcontext() if self._random is None else self._random.active(keep=keep)

    # ---- the plan

    def _freeze(self, binding: Binding) -> bool:
        if binding.is_statistic:
            return False
        trainable = self.plan.parameters[binding.name].trainable
        for tensor in self.lowered.tensors(binding):
            tensor.requires_grad_(trainable)
        return trainable

    def _split_norms(self) -> tuple[list[_BatchNorm], list[_BatchNorm]]:
        """Return the batch norms whose statistics are frozen, and the others."""
        norms = {name: m for name, m in self._native.named_modules() if isinstance(m, _BatchNorm)}
        statistics = [b for b in self.lowered.bindings.values() if b.is_statistic]
        frozen = {_owner(b) for b in statistics if b.name in self.plan.frozen_statistics}
        live = {_owner(b) for b in statistics} - frozen
        if not live <= norms.keys():
            raise TrainingError(
                f"batch statistics: got {', '.join(sorted(live - norms.keys()))} shared by several nodes, expected "
                "one BatchNormalization each. Freeze them with batch_norm='frozen'"
            )
        return [m for name, m in norms.items() if name not in live], [norms[name] for name in sorted(live)]

    def _draws(self) -> bool:
        return any(isinstance(module, nn.Dropout) and module.p > 0 for module in self._native.modules())

    # ---- optimizer state

    def _moments(self) -> list[tuple[str, str]]:
        spec = self.plan.optimizer
        without = {"momentum"} if spec.momentum == 0 else set()
        return [(ours, theirs) for theirs, ours in MOMENTS[spec.name].items() if ours not in without]

    def _moment(self, tensor: Tensor, name: str) -> Tensor:
        found = self._optimizer.state[tensor].get(name) if self._optimizer is not None else None
        return torch.zeros_like(tensor) if found is None else found

    def _load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._steps = updates = int(state["step"])
        if self._random is not None:
            self._random.state = torch.from_numpy(np.array(state["random"]))
        if self._scaler.is_enabled():
            if state["scale"].shape != (3,):
                raise TrainingError(f"optimizer state: got a scale of shape {state['scale'].shape}, expected (3,)")
            scale, tracker, updates = state["scale"]
            loaded = {**self._scaler.state_dict(), "scale": float(scale), "_growth_tracker": int(tracker)}
            self._scaler.load_state_dict(loaded)
        for binding in self._trainable:
            for ours, theirs in self._moments():
                self._load_moment(binding, theirs, state[f"{ours}/{binding.name}"], float(updates))

    def _updates(self) -> float:
        """Return how many steps the rule has counted."""
        states = list(self._optimizer.state.values()) if self._optimizer is not None else []
        return float(states[0].get("step", self._steps)) if states else 0.0

    def _load_moment(self, binding: Binding, name: str, array: np.ndarray, updates: float) -> None:
        assert self._optimizer is not None
        parts = binding.layout.split(to_tensor(array))
        for tensor, part in zip(self.lowered.tensors(binding), parts, strict=True):
            own = self._optimizer.state[tensor]
            own[name] = torch.empty_like(tensor, requires_grad=False).copy_(part)
            if self.plan.optimizer.name != "sgd":
                # fused rules count on the device
                where = tensor.device if self._optimizer.defaults.get("fused") else "cpu"
                own["step"] = torch.tensor(updates, device=where)


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _owner(binding: Binding) -> str:
    return binding.paths[0].rpartition(".")[0]
