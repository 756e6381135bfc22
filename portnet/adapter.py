"""The contract of an engine, on one page.

An engine is a framework that a network is lowered onto. Its adapter is a distribution of its own
(``adapters/<engine>``, package ``portnet_<engine>``) that registers one `Adapter` under the entry point group
``portnet.engines``. The core never imports it uninvited; it imports this module, `portnet.graph`, `portnet.errors`
and its own framework, nothing else.

What an adapter promises:

* `Adapter.lower` walks the **canonical** graph once, in order (`portnet.graph.lowering.Lowering` does the
  walking), and builds the framework's own network. What it cannot express it refuses there, with
  `UnsupportedError`, in one line that names op, opset, attribute and node; never while the network runs.
* The result is **native and trainable**: a Conv is the framework's convolution layer, MatMul and Gemm weights are
  parameters, BatchNormalization is the framework's batch norm, Dropout its dropout. Names come from ONNX names.
  The count of trainable scalars equals `Model.parameter_count`; `Lowered` asserts it.
* Arrays cross the border in **ONNX's layout** (NCHW, OIHW, ...) under **ONNX's names**. What the engine does inside
  (channels last, transposed kernels) nobody outside sees, but in `Lowered.native`.
* `Adapter.write` puts a lowered network into files that the framework's own loader reads, and `Adapter.reload` reads
  them with it. Nothing of PortNet's graph takes part in what a `Reloaded` computes: so a check of it is a check of the
  files.
* `Adapter.capture` goes the other way: from a living network of its framework to a `Model`, in ONNX's layout and under
  the framework's own names, and it returns a `Source` that runs that very network, so that the capture is proved
  against it. What it cannot translate it lists at once.
* `Trainer` does arithmetic, the core decides: order of data, schedule, freezing and metrics come from
  `portnet.finetune`. Two engines given the same `TrainPlan` and the same batches give the same losses.

Update rules (the core's definition, for parameter w, gradient g, rate r = lr · lr_mult; d = weight_decay where
`ParameterPlan.decay`, else 0; state starts at zero; t counts steps from 1):

* ``sgd``: g ← g + d·w; v ← μ·v + g; w ← w − r·v, or w ← w − r·(g + μ·v) with ``nesterov``  (PyTorch's form, in
  which a changed rate does not rescale v)
* ``adam``: g ← g + d·w; m ← β₁·m + (1−β₁)·g; s ← β₂·s + (1−β₂)·g²;
  w ← w − r · (m / (1−β₁ᵗ)) / (√(s / (1−β₂ᵗ)) + ε)  (Kingma & Ba 2015, algorithm 1)
* ``adamw``: w ← w·(1 − r·d), then adam with d = 0  (Loshchilov & Hutter 2019)
* ``rmsprop``: g ← g + d·w; s ← ρ·s + (1−ρ)·g²; w ← w − r·g / (√s + ε); with momentum v ← μ·v + g/(√s + ε), w ← w − r·v

BatchNormalization in training normalises by the batch's biased variance and keeps
running ← momentum · running + (1 − momentum) · batch, mean and **biased** variance both (ONNX opset 15).
"""

from __future__ import annotations

import abc
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from portnet.errors import InputError, ModelError, PortNetError, UnsupportedError
from portnet.formats.captured import Captured, Source
from portnet.graph.garbage import no_collection
from portnet.graph.model import Model, Signature

__all__ = [
    "Adapter",
    "CaptureOptions",
    "FileFormat",
    "Inputs",
    "Lowered",
    "OptimizerSpec",
    "ParameterPlan",
    "Reloaded",
    "Source",
    "StepResult",
    "TrainPlan",
    "Trainer",
    "as_inputs",
    "lowered_of",
    "pieces",
]

# one array, or one for each input of the network, in their order
Inputs = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer by its definition at the top of this module.

    Attributes:
        name: the update rule.
        lr: learning rate to start with; `Trainer.set_lr` changes it.
        momentum: μ of sgd and rmsprop.
        nesterov: sgd only.
        betas: β₁ and β₂ of adam and adamw.
        rho: ρ of rmsprop.
        eps: ε.
        weight_decay: d.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    rho: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class ParameterPlan:
    """What training may do to one trainable initializer.

    Attributes:
        trainable: False: no gradient is computed, the bytes stay what they are.
        lr_mult: factor on the learning rate.
        decay: whether weight decay applies.
    """

    trainable: bool = True
    lr_mult: float = 1.0
    decay: bool = True


@dataclass(frozen=True)
class TrainPlan:
    """Everything a trainer needs to know, by ONNX names.

    Attributes:
        optimizer: the update rule and its numbers.
        parameters: plan of every trainable initializer (`Role.trainable`), complete.
        frozen_statistics: names of running means and variances that must not move: the BatchNormalization that
            reads them runs on its running statistics. Those not named normalise by the batch and update.
        label_smoothing: ε of the softmax cross-entropy: target (1−ε)·t + ε/classes, where t is one-hot at a class
            index, or the distribution that was given.
        class_weights: weight of each class in the loss, shape (classes,), or None; the loss is then the weighted mean
            Σ wᵢ·lossᵢ / Σ wᵢ of the examples' (smoothed) losses, wᵢ = class_weights · tᵢ, which is w[yᵢ] for an index.
        clip_norm: largest allowed 2-norm over all gradients together, or None.
        seed: seed of the engine's own generator (Dropout masks).
        accumulate: pieces that a step computes a batch in, one after the other, to need less memory: loss, gradients
            and update are the whole batch's but for rounding. Batch norm sees each piece as a batch of its own.
        precision: "fp32", or "bf16" or "fp16" for mixed precision: weights, statistics and optimizer stay float32,
            layers compute in the smaller type where the framework deems that safe. Prediction stays float32.
        compile: have the framework compile the training step ahead, where it can and does not anyway.
    """

    optimizer: OptimizerSpec
    parameters: Mapping[str, ParameterPlan]
    frozen_statistics: frozenset[str] = frozenset()
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    clip_norm: float | None = None
    seed: int = 0
    accumulate: int = 1
    precision: str = "fp32"
    compile: bool = False


@dataclass(frozen=True)
class StepResult:
    """One training step: mean softmax cross-entropy of the batch, and how many were right."""

    loss: float
    correct: int


def as_inputs(x: Inputs) -> tuple[np.ndarray, ...]:
    """Return what a step is given as one array for each input."""
    return x if isinstance(x, tuple) else (x,)


def pieces(plan: TrainPlan, x: Inputs, y: np.ndarray) -> list[tuple[Inputs, np.ndarray, float]]:
    """Return the pieces that ``plan.accumulate`` cuts a batch into, each with its share of the batch's mean loss.

    The batch's loss is Σ share · loss(piece): a piece counts by its examples, or by their class weights.
    """
    count = min(plan.accumulate, len(y))
    if count <= 1:
        return [(x, y, 1.0)]
    weight = np.ones(len(y))
    if plan.class_weights is not None:
        by_class = np.asarray(plan.class_weights, np.float64)
        weight = y @ by_class if y.ndim == 2 else by_class[y]
    if not weight.sum():
        return [(x, y, 1.0)]
    parts = [tuple(np.array_split(array, count)) for array in as_inputs(x)]
    shares = [float(part.sum() / weight.sum()) for part in np.array_split(weight, count)]
    inputs = [part if isinstance(x, tuple) else part[0] for part in zip(*parts, strict=True)]
    # a piece of weight 0 has no mean loss of its own, and adds nothing
    return [part for part in zip(inputs, np.array_split(y, count), shares, strict=True) if part[2] > 0]


class Trainer(abc.ABC):
    """Trains one lowered network in place. The network's single output is the logits, (N, classes) float32.

    A network may have several inputs: what follows a frozen part that was cut at several tensors has.
    """

    @abc.abstractmethod
    def step(self, x: Inputs, y: np.ndarray) -> StepResult:
        """Take one optimizer step on inputs x and their targets y.

        Args:
            x: (N, C, H, W) or as the input says, float32; a tuple of such arrays, in the order of the network's
                inputs, where it has several. The caller may write over them once the step is done.
            y: int64 (N,) class indices, or float32 (N, classes) distributions over the classes (mixup, cutmix), each
                row from 0 on and of sum 1. An example counts as right when its largest logit is its largest target's.
        """

    def steps(self, x: Inputs, y: np.ndarray, rates: Sequence[float]) -> list[StepResult]:
        """Take several steps in a row, each with its own learning rate; return the result of each.

        An engine may take them in one call of its framework, which spares small networks what a call costs. They must
        be those of `set_lr` and `step`, and a run that is taken apart in another way must come out bit-identical.

        Args:
            x: as for `step`, with the steps as one more axis in front: (K, N, ...).
            y: (K, N) or (K, N, classes).
            rates: K learning rates.
        """
        results = []
        for index, rate in enumerate(rates):
            self.set_lr(rate)
            part = tuple(array[index] for array in x) if isinstance(x, tuple) else x[index]
            results.append(self.step(part, y[index]))
        return results

    @abc.abstractmethod
    def gradients(self, x: Inputs, y: np.ndarray) -> dict[str, np.ndarray]:
        """Return d loss / d parameter by ONNX name, in ONNX's layout, for what is trainable, and change nothing:
        no weight, no statistic, no optimizer state. Batch norm and dropout behave as in training.
        """

    @abc.abstractmethod
    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come; optimizer state stays as the definition says."""

    @abc.abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return optimizer state, step count and random state as arrays: enough for a bit-identical resume."""

    @abc.abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""


class Lowered(abc.ABC):
    """A network in an engine's own form.

    Attributes:
        model: the canonical model it was lowered from; its weights are those of the moment of lowering.
        native: the framework's network (torch.fx.GraphModule, keras.Model, mxnet.gluon.SymbolBlock).
        engine: the adapter's name.
        device: where it runs.
    """

    model: Model
    native: Any
    engine: str
    device: str

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode: arrays by input name in, arrays by output name out, in ONNX's layout and dtypes."""

    @abc.abstractmethod
    def weights(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters and statistics as they are now, by ONNX name, in ONNX's layout and dtype."""

    @abc.abstractmethod
    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays, by ONNX name and in ONNX's layout, into the network.

        Raises:
            WeightsError: an unknown name or another shape.
        """

    @property
    @abc.abstractmethod
    def trainable_count(self) -> int:
        """Count of scalars that the framework itself says are trainable (asked of ``native``)."""

    @abc.abstractmethod
    def trainer(self, plan: TrainPlan) -> Trainer:
        """Return a trainer of this network. One at a time: an earlier one is no longer valid."""

    def __repr__(self) -> str:
        return f"<{self.model.name or 'network'} on {self.engine} ({self.device}): {self.trainable_count:,} trainable>"

    def predict(self, *inputs: Any) -> Any:
        """Run in inference mode on arrays in the order of the model's inputs (images: float32 NCHW).

        Returns:
            An array for a network of one output, else a list of arrays in the order of the outputs.
        """
        names = [port.name for port in self.model.inputs]
        if len(inputs) != len(names):
            raise ModelError(f"predict: got {len(inputs)} inputs, expected {len(names)}: {', '.join(names)}")
        for port, array in zip(self.model.inputs, inputs, strict=True):
            _check_shape(port, array)
        results = self.run(dict(zip(names, inputs, strict=True)))
        values = [results[port.name] for port in self.model.outputs]
        return values[0] if len(values) == 1 else values

    def check_trainable_count(self) -> None:
        """Assert that nothing trainable was lost or added on the way.

        Raises:
            ModelError: the framework counts other than the graph does.
        """
        expected = self.model.parameter_count
        if self.trainable_count != expected:
            raise ModelError(
                f"lowering {self.model.name!r} onto {self.engine}: got {self.trainable_count:,} trainable scalars, "
                f"expected {expected:,}. This is a bug in the adapter."
            )


def _check_shape(port: Signature, array: Any) -> None:
    """Raise ModelError where an array has another rank, or another size than a fixed one."""
    got, expected = getattr(array, "shape", None), port.shape
    if got is None or expected is None:
        return
    fits = len(got) == len(expected) and all(
        not isinstance(size, int) or size == n for n, size in zip(got, expected, strict=True)
    )
    if not fits:
        raise ModelError(f"predict: got shape {tuple(got)}, expected {port}")


# the way back from a native network to what it was lowered from, as long as that is alive
_LOWERED: weakref.WeakValueDictionary[int, Lowered] = weakref.WeakValueDictionary()


def lowered_of(native: Any) -> Lowered | None:
    """Return what a native network belongs to, or None if no engine of this process made it."""
    lowered = _LOWERED.get(id(native))
    return lowered if lowered is not None and lowered.native is native else None


@dataclass(frozen=True)
class FileFormat:
    """A form in which a framework's community keeps networks in files.

    Attributes:
        suffixes: endings that an output path of this form may have; "" for a path without one, which names a folder
            or the beginning of several files' names.
        description: what it is, and what loads it.
    """

    suffixes: tuple[str, ...]
    description: str


class Reloaded(abc.ABC):
    """A network as its framework read it from files.

    Attributes:
        notes: what whoever loads the files must know: an order of axes that is not ONNX's, code that must be installed.
    """

    notes: tuple[str, ...] = ()

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode: arrays by ONNX input name in, arrays by output name out, in ONNX's layout and dtypes.

        Whatever the framework raises may pass; the caller turns it into a failed check.
        """


@dataclass(frozen=True)
class CaptureOptions:
    """What a caller wants of a capture.

    Attributes:
        examples: example inputs in the framework's own layout, in order; None where the network itself says what
            it takes.
        dynamic_batch: whether the batch, axis 0 of each input, stays free.
        keep_layout: whether inputs and outputs stay channels last where the framework has them so; else they become
            channels first, with no transpose left inside.
    """

    examples: tuple[Any, ...] | None = None
    dynamic_batch: bool = True
    keep_layout: bool = False


class Adapter(abc.ABC):
    """An engine. Stateless; creating one imports no framework, its methods may.

    Attributes:
        name: what users type, e.g. "torch".
        framework: what people call it, e.g. "PyTorch".
        ops: names of the ops ("Relu", "com.microsoft.Gelu") that it lowers itself; what is not here is expanded
            into the standard's function body, or refused.
        formats: forms of file that it writes, by the name that users type.
        fixed_ranks: whether it must know the rank of every tensor while the network is built.
        sources: what it opens for capture, for help and messages: the beginning ("torchvision:") or the ending (".pt2")
            of what users type → a description.
    """

    name: str
    framework: str
    formats: ClassVar[Mapping[str, FileFormat]] = {}
    compiles: ClassVar[bool] = False
    fixed_ranks: ClassVar[bool] = True
    sources: ClassVar[Mapping[str, str]] = {}

    def __repr__(self) -> str:
        return f"<engine {self.name}: {self.framework}>"

    @property
    @abc.abstractmethod
    def ops(self) -> frozenset[str]:
        """Names of the ops it lowers itself."""

    @abc.abstractmethod
    def version(self) -> str:
        """Version of the framework, imported to find out."""

    @abc.abstractmethod
    def devices(self) -> list[str]:
        """Devices that work here, best first, e.g. ["cuda:0", "cpu"]."""

    @abc.abstractmethod
    def lower_canonical(self, model: Model, device: str) -> Lowered:
        """Lower a model that is in canonical form already. Implemented by each engine; callers use `lower`."""

    def lower(self, model: Model, *, device: str | None = None) -> Lowered:
        """Lower any model onto this engine.

        Args:
            model: any valid network; it is brought to canonical form first and not changed.
            device: one of `devices`; None for "cpu".

        Raises:
            UnsupportedError: an op, attribute or type that the engine cannot express, named with its node.
            ModelError: a graph that is broken.
            InputError: no `Model`.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"engine {self.name}: got a {type(model).__name__} to lower, expected a portnet.Model. Open files with "
                "portnet.Model.load, or ask portnet.convert."
            )
        device = device or "cpu"
        self.check_device(device)
        try:
            with no_collection():
                lowered = self.lower_canonical(model.canonical(self.ops, fixed_ranks=self.fixed_ranks), device)
        except Exception as error:
            if isinstance(error, PortNetError) or not self.is_out_of_memory(error):
                raise
            raise UnsupportedError(
                f"engine {self.name}: network {model.name!r} does not fit into memory: {error}", engine=self.name
            ) from error
        lowered.check_trainable_count()
        _LOWERED[id(lowered.native)] = lowered
        return lowered

    def precisions(self, device: str) -> tuple[str, ...]:
        """Precisions that training on a device can have; see `TrainPlan.precision`."""
        return ("fp32",)

    def check_training(self, device: str, precision: str, compile: bool) -> None:
        """Make sure that training can be had in this form.

        Raises:
            UnsupportedError: the engine has no such precision on the device, or nothing to compile with.
        """
        known = self.precisions(device)
        if precision not in known:
            raise UnsupportedError(
                f"engine {self.name}: got precision {precision!r}, expected {' or '.join(known)} on {device}",
                engine=self.name,
            )
        if compile and not self.compiles:
            raise UnsupportedError(
                f"engine {self.name}: got compile=True, but it has nothing to turn on. Leave it out.", engine=self.name
            )

    def check_device(self, device: str) -> None:
        """Make sure that a device is there.

        Raises:
            UnsupportedError: it is not among `devices`.
        """
        if device not in self.devices():
            raise UnsupportedError(
                f"engine {self.name}: got device {device!r}, expected one of {', '.join(self.devices())}",
                engine=self.name,
            )

    def write(self, lowered: Lowered, path: Path, form: str) -> list[Path]:
        """Write a network that this engine lowered, with the weights that it has now.

        Args:
            lowered: the network; it is not changed.
            path: what the user asked for, ending as ``formats[form]`` says. Nothing is there yet, and nothing else is
                written in its folder but what belongs to the network.
            form: a name in `formats`.

        Returns:
            The files and folders written, the one to open first.

        Raises:
            UnsupportedError: the form cannot express the network.
        """
        raise UnsupportedError(f"engine {self.name}: it writes no files", engine=self.name)

    def reload(self, lowered: Lowered, path: Path, form: str) -> Reloaded:
        """Read what `write` wrote, with the framework's own loader.

        Args:
            lowered: tells the border: names, dtypes and order of axes. A form that holds weights alone is read into a
                network of its architecture; no number is taken from it.
            path: as in `write`.
            form: as in `write`.
        """
        raise UnsupportedError(f"engine {self.name}: it reads no files", engine=self.name)

    def owns(self, native: Any) -> bool:
        """Whether ``native`` is a network of this framework, told by its classes' modules: nothing is imported."""
        return False

    def open(self, source: str, weights: Path | None = None) -> Any:
        """Return the network that a word or path means (``torchvision:resnet18``, ``model.pt2``), in inference mode.

        Args:
            source: the word or path.
            weights: the file that holds its weights, where it is another.

        Raises:
            UnknownNameError: the collection has no such network.
            MissingDependencyError: the collection's package is not installed.
            InputError: a file that is broken or hostile; none of its code is run.
        """
        raise UnsupportedError(f"engine {self.name}: it opens no networks", engine=self.name)

    def capture(self, native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
        """Return a network of this framework as a `Model`, trainable, and what runs the original.

        BatchNormalization stays what it is, parameters bear the framework's names, Dropout stays. ``native`` is not
        changed: neither weights, nor its mode of training or inference, nor what requires gradients.

        Raises:
            UnsupportedError: names every layer that has no translation.
            InputError: examples that are missing or do not fit.
        """
        raise UnsupportedError(f"engine {self.name}: it captures no networks", engine=self.name)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether what the framework raised says that the memory of a device, or of the machine, ran out."""
        return isinstance(error, MemoryError)

    def limit_threads(self, count: int) -> int | None:
        """Use at most ``count`` threads for arithmetic from now on.

        Returns:
            The count before, to be given back; None, and nothing is done, where the framework does not let itself be
            told again and again.
        """
        return None
