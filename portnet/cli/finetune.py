"""``portnet finetune``."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from portnet.cli.output import Device, Json, print_json

__all__ = ["finetune"]


def finetune(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(help="Folder of class folders; or one with train, val and test folders.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Engine: torch, keras, gluon, or auto for the fastest here.")] = "torch",
    backbone: Annotated[str, typer.Option(help="Name in the zoo (`portnet zoo`), or an .onnx file.")] = "squeezenet1_1",
    weights: Annotated[str, typer.Option(help="imagenet, none, or a weights file.")] = "imagenet",
    head: Annotated[str, typer.Option(help="natural, linear, conv, mlp or mlp:512,256.")] = "natural",
    freeze: Annotated[str, typer.Option(help="none, backbone, first:16, until:fire5, match:REGEX, captured.")] = "none",
    unfreeze: Annotated[
        list[str] | None, typer.Option(help="From an epoch on another policy: 3=until:fire5. May be repeated.")
    ] = None,
    lr_mult: Annotated[
        list[str] | None, typer.Option(help="Learning-rate factor, PATTERN=FACTOR, e.g. head=10. May be repeated.")
    ] = None,
    stage_decay: Annotated[
        float | None, typer.Option(help="Learning-rate factor from each stage to the one before it, e.g. 0.5.")
    ] = None,
    batch_norm: Annotated[
        str, typer.Option(help="Running statistics: auto (frozen where the layer is), frozen or train.")
    ] = "auto",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images computed at once.")] = 32,
    accumulate: Annotated[int, typer.Option(help="Batches that make one step together.")] = 1,
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw or rmsprop.")] = "adam",
    lr: Annotated[float, typer.Option(help="Base learning rate.")] = 1e-3,
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.9,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="Nesterov's form of sgd's momentum.")] = False,
    weight_decay: Annotated[float, typer.Option(help="On weights; not on biases and norms.")] = 0.0,
    schedule: Annotated[str, typer.Option(help="constant, step:SIZE:GAMMA, cosine or one-cycle.")] = "constant",
    warmup: Annotated[int, typer.Option(help="Steps over which the learning rate first rises.")] = 0,
    label_smoothing: Annotated[float, typer.Option(help="Share of each target spread over all classes.")] = 0.0,
    precision: Annotated[str, typer.Option(help="fp32; tf32, bf16 or fp16 where the engine has it.")] = "fp32",
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile for torch's training step.")] = False,
    clip_norm: Annotated[float | None, typer.Option(help="Largest 2-norm of all gradients together.")] = None,
    val: Annotated[float, typer.Option(help="Share of each class held out for validation.")] = 0.2,
    test: Annotated[
        float, typer.Option(help="Share of each class held out first, to evaluate on at the end; 0.3 for 70/30.")
    ] = 0.0,
    val_data: Annotated[str | None, typer.Option(help="Folder of images for validation, in place of a share.")] = None,
    test_data: Annotated[str | None, typer.Option(help="Folder of images to evaluate on at the end.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="Another name for a class, n01514668=chicken. May be repeated.")
    ] = None,
    balance: Annotated[
        str | None, typer.Option(help="oversample: images of small classes come as often as the largest's.")
    ] = None,
    class_weights: Annotated[str | None, typer.Option(help="Weights in the loss: balanced, or 1,2.5,... ")] = None,
    size: Annotated[int | None, typer.Option(help="Input size in pixels. Default: the weights' own.")] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Keep the aspect ratio and crop the centre.")] = False,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="[CHANGES]",
            help="Random changes, e.g. flip,rotate:10,jitter:0.4,resized-crop:0.08,trivial,mixup:0.2,cutmix. "
            "Without any: mirror, shift by 30 px, scale 0.9-1.1.",
        ),
    ] = None,
    val_every: Annotated[str, typer.Option(help="Validate every 5 (steps), '2 epochs', ...")] = "1 epoch",
    early_stop: Annotated[
        int | None,
        typer.Option(metavar="PATIENCE", help="End after so many validations without a lower loss; keep the best."),
    ] = None,
    checkpoint_every: Annotated[
        str, typer.Option(help="Checkpoint every '100 steps', '30 s', '10 min', ... and after each epoch.")
    ] = "1 epoch",
    log: Annotated[list[str] | None, typer.Option(help="tensorboard:DIR or mlflow[:URI]. May be repeated.")] = None,
    decoder: Annotated[str, typer.Option(help="Of images: pillow, fast (portnet[fast]) or auto.")] = "auto",
    augment_views: Annotated[
        int, typer.Option(help="Keep K changed views of each image: epoch e trains on view e mod K. 0: new each epoch.")
    ] = 0,
    cache: Annotated[str, typer.Option(help="Activations of a frozen prefix: auto, disk, memory or off.")] = "auto",
    cache_dtype: Annotated[str, typer.Option(help="float32, or float16 for half the space.")] = "float32",
    cache_limit: Annotated[
        float | None, typer.Option(help="GB that activations may take. Default: 10 on disk, 2 in memory.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="An unreadable image: fail or skip.")] = "fail",
    seed: Annotated[int, typer.Option(help="Decides split, order, augmentation, head and dropout.")] = 0,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Default: runs/BACKBONE-BACKEND[-N].")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(help="Do the run in this folder once more, from its record. Exit 1 where the weights differ."),
    ] = None,
    show_policy: Annotated[bool, typer.Option("--policy", help="Print the freeze policy's table first.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune a pretrained network on a folder of images.

    Example: portnet finetune photos/ --backend keras --freeze until:fire5 --epochs 3 --out runs/pets
    """
    from portnet.finetuning import api
    from portnet.finetuning.folder import RunFolder
    from portnet.finetuning.repeating import is_repeated
    from portnet.loggers import logger

    callbacks = [logger(text) for text in log or []]
    if resume is not None:
        _check_alone(context, "resumed")
        run = api.resume(resume, data=data, progress=not json, callbacks=callbacks)
    elif repeat is not None:
        _check_alone(context, "repeated", "out")
        out = out or _new_folder(repeat.name, "repeated")
        run = api.repeat(repeat, data=data, out=out, progress=not json, callbacks=callbacks)
    else:
        if data is None:
            raise typer.BadParameter(
                "a folder of images is needed, or --resume RUN, or --repeat RUN", param_hint="DATA"
            )
        parts = {"train": data, "val": val_data, "test": test_data}
        run = api.finetune(
            {name: part for name, part in parts.items() if part is not None} if val_data or test_data else data,
            backend=backend,
            backbone=backbone,
            weights=None if weights == "none" else weights,
            head=head,
            freeze=freeze,
            unfreeze=_by_epoch(unfreeze or []),
            lr_mult=_factors(lr_mult or []),
            stage_decay=stage_decay,
            batch_norm=batch_norm,  # type: ignore[arg-type]
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            optimizer=optimizer,  # type: ignore[arg-type]
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
            label_smoothing=label_smoothing,
            clip_norm=clip_norm,
            precision=precision,  # type: ignore[arg-type]
            compile=compile,
            val=val,
            test=test,
            rename=_pairs(rename or [], "--rename", "n01514668=chicken") or None,
            balance=balance,  # type: ignore[arg-type]
            class_weights=_weights(class_weights),
            size=size,
            crop=crop,
            augment=augment,
            val_every=val_every,
            early_stop=early_stop,
            checkpoint_every=checkpoint_every,
            callbacks=callbacks,
            augment_views=augment_views,
            cache=cache,  # type: ignore[arg-type]
            decoder=decoder,  # type: ignore[arg-type]
            cache_dtype=cache_dtype,  # type: ignore[arg-type]
            cache_limit=_bytes(cache_limit),
            on_error=on_error,  # type: ignore[arg-type]
            seed=seed,
            device=device,
            out=out or _new_folder(backbone, backend),
            progress=not json,
            show_policy=show_policy,
        )
    if json:
        print_json({"folder": str(run.folder), "interrupted": run.interrupted, **run.history.to_dict()})
    else:
        folder = shlex.quote(str(run.folder))
        step = f"finetune --resume {folder}" if run.interrupted else f"export {folder} --onnx model.onnx"
        typer.echo(f"run: {run.folder}\nnext: portnet {step}")
    if run.interrupted:
        raise typer.Exit(130)
    if repeat is not None and not is_repeated(RunFolder(repeat).read_record(), run.record):
        raise typer.Exit(1)


def _check_alone(context: typer.Context, what: str, *others: str) -> None:
    """Refuse options that a resumed or repeated run would not follow: its settings are in its folder."""
    sources = {parameter: context.get_parameter_source(parameter.name or "") for parameter in context.command.params}
    option = "resume" if what == "resumed" else "repeat"
    given = [
        parameter.opts[0]
        for parameter, source in sources.items()
        if source is not None
        and source.name == "COMMANDLINE"
        and parameter.name not in ("data", option, "log", "json", *others)
    ]
    if given:
        raise typer.BadParameter(
            f"a {what} run keeps the settings it began with. Leave {', '.join(given)} out.", param_hint=f"--{option}"
        )


def _pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        old, _, new = text.partition("=")
        if not old or not new or old in pairs:
            raise typer.BadParameter(f"got {text!r}, expected each name once, as in {example}", param_hint=option)
        pairs[old] = new
    return pairs


def _weights(text: str | None) -> Any:
    if text is None or text == "balanced":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = f"got {text!r}, expected 'balanced' or a number for each class, as in 1,2.5,1"
        raise typer.BadParameter(message, param_hint="--class-weights") from None


def _bytes(gigabytes: float | None) -> int | None:
    if gigabytes is None:
        return None
    if not 0 <= gigabytes < math.inf:
        raise typer.BadParameter(f"got {gigabytes:g}, expected GB from 0 on", param_hint="--cache-limit")
    return int(gigabytes * 1e9)


def _factors(texts: list[str]) -> dict[str, float]:
    factors = {}
    for text in texts:
        pattern, _, factor = text.rpartition("=")
        try:
            factors[pattern] = float(factor)
        except ValueError:
            pattern = ""
        if not pattern:
            raise typer.BadParameter(f"got {text!r}, expected PATTERN=FACTOR, e.g. head=10", param_hint="--lr-mult")
    return factors


def _by_epoch(texts: list[str]) -> dict[int, str]:
    policies = {}
    for text in texts:
        epoch, _, policy = text.partition("=")
        if not epoch.isdigit() or not policy:
            raise typer.BadParameter(
                f"got {text!r}, expected EPOCH=POLICY, e.g. 3=until:fire5", param_hint="--unfreeze"
            )
        policies[int(epoch)] = policy
    return policies


def _new_folder(backbone: str, backend: str) -> Path:
    base = Path("runs") / f"{Path(backbone).stem}-{backend}"
    number = 1
    while (folder := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return folder
