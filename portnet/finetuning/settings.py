"""`Settings`: everything that decides a run besides the images, as plain data that is written into its record."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal

from portnet.adapter import OptimizerSpec
from portnet.data.augment import Augment
from portnet.data.balance import balanced_weights
from portnet.data.decoders import DECODERS
from portnet.errors import InputError, UnknownNameError
from portnet.finetuning.freeze import FreezePolicy
from portnet.finetuning.head import Head
from portnet.finetuning.interval import Interval
from portnet.finetuning.schedule import Schedule

__all__ = ["OPTIMIZERS", "Settings"]

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
# above it, engines no longer tell one seed from another
LARGEST_SEED = 2**32 - 1
BALANCES = (None, "oversample")
CACHES = ("auto", "memory", "disk", "off")
CACHE_DTYPES = ("float32", "float16")
# numbers that may be None, and what messages call a number that is known by another name
_OPTIONAL = frozenset(["early_stop", "cache_limit", "clip_norm"])
_NO_DECISIONS = frozenset(["backbone", "weights", "device", "checkpoint_every", "cache_limit", "on_error"])
_LABELS = {"lr": "learning rate"}


@dataclass(frozen=True)
class Settings:
    """The decisions of one run; the same settings, images and engine give the same weights.

    Attributes:
        backbone: name in the zoo, or path of an .onnx file.
        weights: "imagenet", a path, or None for seeded random weights.
        backend: engine's name, or "auto" for the one that is fastest here.
        device: engine's device.
        head: the new last layers.
        freeze: what training may move.
        epochs: passes over the training images.
        batch_size: images computed at once.
        accumulate: such batches that make one step together.
        optimizer: update rule and its numbers, the base learning rate among them.
        schedule: factor on the learning rate by step.
        seed: decides split, order, augmentation, head weights and dropout.
        val: share of each class held out for validation, of what the test leaves; 0 for none.
        test: share of each class held out for an evaluation at the end; 0 for none.
        rename: other names for classes, or None.
        balance: "oversample" draws each class as often as the largest, None each image once.
        size: height and width of the input in pixels, or None for the weights' own.
        crop: keep the aspect ratio and crop the centre, instead of stretching the image to the size.
        augment: random changes to training images, or None.
        label_smoothing: ε of the cross-entropy.
        class_weights: weight of each class in the loss, "balanced" (images / (classes · images of the class)) or None.
        clip_norm: largest 2-norm of all gradients together, or None.
        precision: "fp32", "tf32", "bf16" or "fp16": what layers compute in while they train.
        compile: have the engine compile the training step ahead.
        val_every: when to validate: "1 epoch", "5 steps", ...; the end of training always is.
        early_stop: validations without a lower loss after which training ends, and the weights of the best one are
            restored, however it ends; None to train to the end and keep the last weights.
        checkpoint_every: when to write a checkpoint: "100 steps", "30 seconds", ...; the end of every epoch always is.
        decoder: who decodes and resizes images: "pillow", "fast", or "auto" for the fast one where it is installed; see
            `portnet.data.decoders`.
        cache: whether a frozen prefix runs once and its activations are kept: "auto", "memory", "disk" or "off".
        cache_dtype: type that they are kept in: "float32" or "float16".
        cache_limit: most bytes that they may take, or None for `portnet.finetuning.prefix.keep`'s own limits.
        augment_views: changed views of each training image that are kept: epoch e trains on view e mod k, epochs
            counted from 0. 0 draws new changes each epoch, which leaves nothing to keep.
        on_error: what an unreadable image does: "fail" or "skip".
    """

    backbone: str
    weights: str | None = "imagenet"
    backend: str = "torch"
    device: str = "cpu"
    head: Head = field(default_factory=Head.natural)
    freeze: FreezePolicy = field(default_factory=FreezePolicy.none)
    epochs: int = 5
    batch_size: int = 32
    accumulate: int = 1
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    val: float = 0.2
    test: float = 0.0
    rename: Mapping[str, str] | None = None
    balance: Literal["oversample"] | None = None
    size: int | None = None
    crop: bool = False
    augment: Augment | None = None
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    clip_norm: float | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    val_every: str = "1 epoch"
    early_stop: int | None = None
    checkpoint_every: str = "1 epoch"
    decoder: Literal["auto", "pillow", "fast"] = "auto"
    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    cache_dtype: Literal["float32", "float16"] = "float32"
    cache_limit: int | None = None
    augment_views: int = 0
    on_error: Literal["fail", "skip"] = "fail"

    def __post_init__(self) -> None:
        _settle(self, ("epochs", "batch_size", "accumulate", "seed", "early_stop", "cache_limit", "augment_views"), int)
        _settle(self, ("val", "test", "label_smoothing", "clip_norm"), float)
        if self.epochs < 1:
            raise InputError(f"epochs: got {self.epochs}, expected at least 1")
        if self.batch_size < 1:
            raise InputError(f"batch size: got {self.batch_size}, expected at least 1")
        if self.accumulate < 1:
            raise InputError(f"accumulate: got {self.accumulate}, expected a count of batches of at least 1")
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed: got {self.seed}, expected an integer from 0 to {LARGEST_SEED:,}")
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share < 1:
                raise InputError(f"{name}: got {share}, expected a share 0 ≤ {name} < 1")
        if self.balance not in BALANCES:
            raise UnknownNameError("balance", str(self.balance), BALANCES[1:])
        if self.balance and self.class_weights == "balanced":
            raise InputError("balance: oversampled classes and balanced class weights correct the same. Choose one.")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label smoothing: got {self.label_smoothing}, expected 0 ≤ ε < 1")
        if self.optimizer.name not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.optimizer.name, OPTIMIZERS)
        _check_numbers(self.optimizer)
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise InputError(f"clip norm: got {self.clip_norm}, expected a positive number, or None")
        if self.cache not in CACHES:
            raise UnknownNameError("cache", self.cache, CACHES)
        if self.decoder not in DECODERS:
            raise UnknownNameError("decoder", self.decoder, DECODERS)
        if self.cache_dtype not in CACHE_DTYPES:
            raise UnknownNameError("cache dtype", self.cache_dtype, CACHE_DTYPES)
        if self.cache_limit is not None and self.cache_limit < 0:
            raise InputError(f"cache limit: got {self.cache_limit}, expected a count of bytes, or None")
        if self.augment_views < 0 or (self.augment_views and self.augment is None):
            raise InputError(f"augment views: got {self.augment_views}, expected 0, or a count with augment")
        if self.augment_views and self.augment is not None and self.augment.mixes:
            raise InputError("augment views: mixup and CutMix mix anew in each step, expected augment without them")
        if any(epoch > self.epochs for epoch in self.freeze.later):
            raise InputError(
                f"unfreeze: got epoch {max(self.freeze.later)}, expected at most {self.epochs}, the epochs"
            )
        self._check_intervals()

    def _check_intervals(self) -> None:
        if Interval.parse(self.val_every, "val_every").unit == "seconds":
            raise InputError(f"val_every: got {self.val_every!r}, expected steps or epochs: a run must repeat itself")
        Interval.parse(self.checkpoint_every, "checkpoint_every")
        if self.early_stop is not None and self.early_stop < 1:
            raise InputError(f"early stop: got {self.early_stop}, expected a count of validations of at least 1")

    @property
    def images_per_step(self) -> int:
        """Images that one step of the optimizer learns from."""
        return self.batch_size * self.accumulate

    def check_classes(self, classes: Sequence[str]) -> None:
        """Check what depends on the classes.

        Raises:
            InputError: class weights of another count, negative, or none above 0.
        """
        weights = self.class_weights
        if isinstance(weights, str) and weights != "balanced":
            raise InputError(f"class weights: got {weights!r}, expected 'balanced' or a number for each class")
        if weights is None or isinstance(weights, str):
            return
        if len(weights) != len(classes):
            raise InputError(f"class weights: got {len(weights)}, expected {len(classes)}, one for each class")
        if not all(isinstance(weight, Real) and 0 <= weight < math.inf for weight in weights) or not any(weights):
            raise InputError(f"class weights: got {weights}, expected numbers from 0 on, not all 0")

    def loss_weights(self, counts: Mapping[str, int]) -> tuple[float, ...] | None:
        """Return the weight of each class in the loss, given the training images of each, or None."""
        return balanced_weights(counts) if isinstance(self.class_weights, str) else self.class_weights

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Settings:
        """Read what `to_dict` returned.

        Raises:
            InputError: it is not a run's settings.
        """
        known = {f.name for f in fields(cls)}
        try:
            plain = {name: value for name, value in data.items() if name in known}
            plain["head"] = Head(**{**data["head"], "hidden": tuple(data["head"]["hidden"])})
            plain["freeze"] = FreezePolicy(**data["freeze"])
            plain["optimizer"] = OptimizerSpec(**{**data["optimizer"], "betas": tuple(data["optimizer"]["betas"])})
            plain["schedule"] = Schedule(**data["schedule"])
            plain["augment"] = _augment(data.get("augment"))
            if isinstance(data.get("class_weights"), list):
                plain["class_weights"] = tuple(data["class_weights"])
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise InputError(f"the run's settings are damaged: {error}") from error

    def digest(self) -> str:
        """Return SHA-256 of all that decides weights, but for where files lie and on which device it is computed."""
        data = {name: value for name, value in self.to_dict().items() if name not in _NO_DECISIONS}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def but(self, **changes: Any) -> Settings:
        """Return a copy with other values."""
        return replace(self, **changes)


def _settle(holder: Any, names: Iterable[str], kind: Callable[[Any], Any]) -> None:
    """Make Python's own numbers of numpy's, which JSON does not know; what is no number at all is refused."""
    accepted, expected = (Integral, "an integer") if kind is int else (Real, "a number")
    for name in names:
        value = getattr(holder, name)
        if value is None and name in _OPTIONAL:
            continue
        if isinstance(value, bool) or not isinstance(value, accepted):
            label = _LABELS.get(name, name.replace("_", " "))
            raise InputError(f"{label}: got {value!r} ({type(value).__name__}), expected {expected}")
        if type(value) not in (int, float):
            object.__setattr__(holder, name, kind(value))


def _check_numbers(rule: OptimizerSpec) -> None:
    _settle(rule, ("lr", "momentum", "weight_decay"), float)
    if not 0 < rule.lr < math.inf:
        raise InputError(f"learning rate: got {rule.lr}, expected a positive number")
    if not 0 <= rule.momentum < 1:
        raise InputError(f"momentum: got {rule.momentum}, expected 0 ≤ μ < 1")
    if not 0 <= rule.weight_decay < math.inf:
        raise InputError(f"weight decay: got {rule.weight_decay}, expected a number from 0 on")


def _augment(data: dict[str, Any] | None) -> Augment | None:
    if data is None:
        return None
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return Augment(**plain)
