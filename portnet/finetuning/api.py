"""`finetune`: the whole story of a run, each step a call whose name says it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portnet.adapter import OptimizerSpec
from portnet.data.augment import Augment
from portnet.data.dataset import DatasetSource
from portnet.errors import InputError
from portnet.finetuning.backbone import Backbone
from portnet.finetuning.freeze import FreezePolicy
from portnet.finetuning.head import Head
from portnet.finetuning.interval import Interval
from portnet.finetuning.repeating import repeat_run, resume_run
from portnet.finetuning.run import Run
from portnet.finetuning.schedule import Schedule
from portnet.finetuning.settings import Settings
from portnet.finetuning.train import start_run
from portnet.graph.model import Model

__all__ = ["finetune", "repeat", "resume"]


def finetune(
    data: DatasetSource,
    *,
    backbone: str | os.PathLike[str] | Model | Backbone = "squeezenet1_1",
    weights: str | os.PathLike[str] | None = "imagenet",
    backend: str = "torch",
    head: Head | str | None = None,
    freeze: FreezePolicy | str = "none",
    unfreeze: Mapping[int, str] | None = None,
    epochs: int = 5,
    batch_size: int = 32,
    accumulate: int = 1,
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] | OptimizerSpec = "adam",
    lr: float = 1e-3,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    schedule: str | Schedule = "constant",
    warmup: int = 0,
    seed: int = 0,
    val: float = 0.2,
    test: float = 0.0,
    rename: Mapping[str, str] | None = None,
    balance: Literal["oversample"] | None = None,
    size: int | None = None,
    crop: bool = False,
    augment: Augment | str | bool | None = None,
    lr_mult: Mapping[str, float] | None = None,
    stage_decay: float | None = None,
    batch_norm: Literal["auto", "frozen", "train"] | None = None,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Literal["balanced"] | None = None,
    clip_norm: float | None = None,
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32",
    compile: bool = False,
    val_every: int | str = "1 epoch",
    early_stop: int | None = None,
    checkpoint_every: int | str = "1 epoch",
    callbacks: Sequence[Any] = (),
    decoder: Literal["auto", "pillow", "fast"] = "auto",
    cache: Literal["auto", "memory", "disk", "off"] = "auto",
    cache_dtype: Literal["float32", "float16"] = "float32",
    cache_limit: int | None = None,
    augment_views: int = 0,
    on_error: Literal["fail", "skip"] = "fail",
    device: str = "cpu",
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    show_policy: bool = False,
) -> Run:
    """Fine-tune a pretrained network on labelled images, on any engine.

    >>> run = portnet.finetune("pets/", backbone="squeezenet1_1", backend="gluon", epochs=3)  # doctest: +SKIP
    >>> run.history[-1].val_accuracy  # doctest: +SKIP
    0.98

    Args:
        data: a folder of class folders, (path, label) pairs, arrays, or a dataset of Hugging Face, torch or tf.data, as
            `portnet.data.load_dataset` takes it. A folder that has ``train`` and perhaps ``val`` and ``test`` folders,
            or a mapping of these names to any such data, brings its own split.
        backbone: name in the zoo, path of an .onnx file, a `Model` or a `Backbone`.
        weights: "imagenet", a weights file, or None for seeded random weights; of zoo networks.
        backend: engine: "torch", "keras" or "gluon"; or "auto", which times a few steps on each that is installed and
            takes the fastest. The results are the same, so only time is at stake.
        head: the new last layers; None for the kind that the architecture has by nature.
        freeze: what stays as it is: a policy, or "none", "backbone", "first:16", "until:fire5", "match:REGEX".
        unfreeze: policies that take over, by the epoch they begin with, e.g. {3: "until:fire5", 5: "none"}. Each begins
            with a fresh optimizer; the learning-rate schedule goes on.
        epochs: passes over the training images.
        batch_size: images computed at once.
        accumulate: batches that make one step together, as one batch of so many times the size would (but that batch
            norm sees each by itself).
        optimizer: update rule (see `portnet.adapter` for the definitions), or a whole `OptimizerSpec`, which then
            brings its own lr, momentum and weight_decay.
        lr: base learning rate.
        momentum: of sgd.
        nesterov: Nesterov's form of sgd's momentum.
        weight_decay: L2 for sgd and adam, decoupled for adamw; on weights, not on biases and norms.
        schedule: "constant", "cosine", "one-cycle", "step:SIZE:GAMMA" (times gamma every SIZE steps), or a `Schedule`.
        warmup: steps over which the rate first rises to where the schedule begins.
        seed: decides split, order, augmentation, head weights and dropout.
        val: share of each class held out for validation, 0 for none; of what remains when the test's is taken.
        test: share of each class held out for an evaluation at the end, ``run.test``; 0 for none. ``test=0.2, val=0.2``
            trains on 64% of each class.
        rename: other names for classes, {"n01514668": "chicken"}; several may get the same one.
        balance: "oversample" draws images of small classes several times an epoch, as often as the largest class's.
        size: height and width of the input in pixels; None for the weights' own.
        crop: keep the aspect ratio and crop the centre, instead of stretching images to the size.
        augment: random changes to training images: an `Augment`, True for its own defaults, or what the command line
            takes, e.g. "flip,rotate:10,jitter:0.4,mixup:0.2"; see `portnet.data.augment_text`.
        lr_mult: learning-rate factor by stage, layer or regular expression, e.g. {"head": 10}.
        stage_decay: learning-rate factor from each stage of the backbone to the one before it; see `FreezePolicy`.
        batch_norm: what running statistics do; see `FreezePolicy`.
        label_smoothing: ε of the softmax cross-entropy.
        class_weights: weight of each class in the loss, or "balanced": images / (classes · images of the class).
        clip_norm: largest 2-norm of all gradients together.
        precision: "bf16" or "fp16" for mixed precision where the engine and the device have it (torch: bf16 on the CPU
            and on CUDA, fp16 with scaled gradients on CUDA; Keras: bf16 on the CPU); weights stay float32. "tf32"
            lets torch round the factors of float32 products on CUDA; "fp32" does not.
        compile: torch.compile for torch's training step; it needs a C++ compiler, and pays on long runs.
        val_every: when to validate: a count of steps, or "5 steps", "2 epochs"; the end of training always is.
        early_stop: end training after so many validations without a lower loss. Whether it comes to that or not, the
            weights of the best validation are restored: ``run.history.best``.
        checkpoint_every: when to write a checkpoint, besides after each epoch: "100 steps", "30 seconds", "10 min".
        callbacks: objects that are told of the run, see `portnet.finetuning.callbacks.Callback`.
        decoder: who decodes and resizes images: "pillow", "fast" (the extra ``portnet[fast]``), or "auto" for the fast
            one where it is installed; the pixels differ by at most a level. See `portnet.data.decoders`.
        cache: "auto" runs a frozen prefix once and keeps its activations in files below the cache folder, where the
            next run on the same images finds them whatever its head, learning rate or engine; in memory where there is
            no room on disk; "disk" and "memory" insist; "off" runs the whole network each step. What is done is said.
        cache_dtype: "float32", or "float16" for half the space at about 3 significant digits.
        cache_limit: most bytes that all activations in files may take (None: 10 GB), or those of this run in memory
            (None: 2 GB).
        augment_views: keep that many changed views of each training image: epoch e, counted from 0, trains on view
            e mod k. 0 draws new changes in each epoch, and the whole network runs at each step.
        on_error: "fail" or "skip" for an image that cannot be read.
        device: engine's device, e.g. "cpu" or "cuda:0".
        out: folder for checkpoint, record and model; None keeps the run in memory.
        progress: whether to show bars and lines.
        show_policy: whether to print the policy's table, a line a layer, before training.

    Returns:
        The run. Ctrl-C ends it early with what it has, saved; ``run.interrupted`` says so.

    Raises:
        InputError: (and what is below it) anything given that cannot be used; nothing is half-written.
        MissingDependencyError: the engine is not installed.
        TrainingError: the loss became NaN, or a callback failed.
    """
    policy = FreezePolicy.parse(freeze).with_options(
        lr_mult=lr_mult, batch_norm=batch_norm, later=unfreeze, stage_decay=stage_decay
    )
    rule = (
        optimizer
        if isinstance(optimizer, OptimizerSpec)
        else _optimizer(optimizer, lr, momentum, nesterov, weight_decay)
    )
    settings = Settings(
        backbone=_name_of(backbone),
        weights=_path_of("weights", weights),
        backend=backend,
        device=device,
        head=Head.parse(head),
        freeze=policy,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        optimizer=rule,
        schedule=Schedule.parse(schedule, warmup),
        seed=seed,
        val=val,
        test=test,
        rename=_renamed(rename),
        balance=balance,
        size=size,
        crop=crop,
        augment=Augment.of(augment),
        label_smoothing=label_smoothing,
        class_weights=_class_weights(class_weights),
        clip_norm=clip_norm,
        precision=precision,
        compile=compile,
        val_every=str(Interval.parse(val_every, "val_every")),
        early_stop=early_stop,
        checkpoint_every=str(Interval.parse(checkpoint_every, "checkpoint_every")),
        cache=cache,
        decoder=decoder,
        cache_dtype=cache_dtype,
        cache_limit=cache_limit,
        augment_views=augment_views,
        on_error=on_error,
    )
    source = None if isinstance(backbone, (str, os.PathLike)) else backbone
    folder = None if out is None else Path(_path_of("out", out) or "")
    return start_run(
        data,
        settings,
        out=folder,
        progress=progress,
        backbone=source,
        show_policy=show_policy,
        callbacks=callbacks,
    )


def resume(
    path: str | os.PathLike[str],
    *,
    data: DatasetSource | None = None,
    progress: bool = True,
    callbacks: Sequence[Any] = (),
    backbone: Model | Backbone | None = None,
) -> Run:
    """Go on with a run that was stopped, from its last checkpoint, to a result bit-identical to an unstopped one.

    Args:
        path: the run's folder.
        data: the images, where they did not come from a folder.
        progress: whether to show bars and lines.
        callbacks: objects that are told of the rest of the run.
        backbone: the network, where it came neither from the zoo nor from a file.

    Raises:
        InputError: no run, a finished one, or other images than it began with.
    """
    return resume_run(Path(path), data=data, progress=progress, callbacks=callbacks, backbone=backbone)


def repeat(
    path: str | os.PathLike[str],
    *,
    data: DatasetSource | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    callbacks: Sequence[Any] = (),
    backbone: Model | Backbone | None = None,
) -> Run:
    """Do a run once more from its record, and say whether it comes to the same weights, bit for bit.

    Args:
        path: the run's folder; its run.json is enough.
        data: the images, where they lie elsewhere or did not come from a folder.
        out: folder of the new run; None keeps it in memory.
        progress: whether to show bars and lines.
        callbacks: objects that are told of the run.
        backbone: the network, where it came neither from the zoo nor from a file.

    Raises:
        InputError: no record, or other images or weights than the run began with.
    """
    folder = None if out is None else Path(out)
    return repeat_run(Path(path), data=data, out=folder, progress=progress, callbacks=callbacks, backbone=backbone)


def _optimizer(name: str, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> OptimizerSpec:
    if nesterov and (name != "sgd" or not momentum):
        raise InputError(f"nesterov: got {name} with momentum {momentum:g}, expected sgd with a momentum above 0")
    return OptimizerSpec(
        name=name,  # type: ignore[arg-type]
        lr=lr,
        momentum=momentum if name == "sgd" else 0.0,
        nesterov=nesterov,
        weight_decay=weight_decay,
    )


def _path_of(name: str, given: Any) -> str | None:
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise InputError(f"{name}: got {given!r}, expected a path, or None")
    return None if given is None else os.fspath(given)


def _renamed(given: Mapping[str, str] | None) -> dict[str, str] | None:
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"rename: got a {type(given).__name__}, expected a mapping, as in {{'n01514668': 'chicken'}}")
    return None if given is None else dict(given)


def _class_weights(given: Any) -> Any:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise InputError(
            f"class weights: got {given!r}, expected 'balanced' or a number for each class, in their order"
        )
    return tuple(given)


def _name_of(backbone: str | os.PathLike[str] | Model | Backbone) -> str:
    if isinstance(backbone, (str, os.PathLike)):
        return os.fspath(backbone)
    if not isinstance(backbone, (Model, Backbone)):
        raise InputError(
            f"backbone: got a {type(backbone).__name__}, expected a name in the zoo, a path of an .onnx file, a Model "
            "or a Backbone. Another framework's network comes from portnet.capture."
        )
    model = backbone if isinstance(backbone, Model) else backbone.model
    return model.name or "custom"
