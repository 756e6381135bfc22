"""``portnet demo``: the main job on real input, offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from portnet.cli.output import print_table
from portnet.errors import InputError, OutputError

__all__ = ["demo"]

BACKBONE = "squeezenet1_1"
SIZE = 96
EPOCHS = 6
FREEZE = "until:fire5"


def demo(
    backend: Annotated[str, typer.Option(help="Engine: torch, keras, gluon, or all.")] = "torch",
    out: Annotated[Path, typer.Option(help="Folder for images, runs and networks.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
) -> None:
    """Fine-tune SqueezeNet's real ImageNet weights on 1,797 real handwritten digits, prove the result, use it.

    Example: portnet demo --backend all
    """
    from portnet.engines import engine, installed
    from portnet.finetuning.settings import LARGEST_SEED

    started = time.perf_counter()
    names = (installed() or ["torch"]) if backend == "all" else [backend]
    for name in names:
        engine(name)  # an engine that is not there is said before any work
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed: got {seed}, expected an integer from 0 to {LARGEST_SEED:,}")
    _make_folder(out)
    train, test = _write_digits(out / "digits")
    trained = {name: _train(name, train, test, _new(out / f"run-{name}"), seed) for name in names}
    for name, run in trained.items():
        _prove(run, out / f"digits-{name}.onnx")
    _predict_digits(out / f"digits-{names[0]}.onnx", test)
    _predict_photos(out)
    typer.echo(f"\nEverything lies in {out.resolve()}: digits/ (images), run-*/ (runs), digits-*.onnx (networks)")
    typer.echo(f"done in {time.perf_counter() - started:.0f} s")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose another folder with --out.") from error


def _write_digits(folder: Path) -> tuple[Path, Path]:
    """Write scikit-learn's digits once as class folders, a fifth of each class held out for the test."""
    from portnet.data.samples import write_digits

    is_new = not (folder / ".complete").exists()
    write_digits(folder, held_out=5)
    if is_new:
        typer.echo(f"wrote {len(list(folder.rglob('*.png'))):,} digits to {folder}")
    return folder / "train", folder / "test"


def _new(folder: Path) -> Path:
    number, path = 1, folder
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    return path


def _train(name: str, train: Path, test: Path, out: Path, seed: int) -> Any:
    from portnet.finetuning.api import finetune
    from portnet.finetuning.folder import RunFolder

    typer.echo(f"\n== fine-tune on {name}")
    run = finetune(
        train,
        backbone=BACKBONE,
        backend=name,
        size=SIZE,
        freeze=FREEZE,
        epochs=EPOCHS,
        optimizer="adam",
        lr=5e-4,
        schedule="cosine",
        val=0.1,
        seed=seed,
        out=out,
    )
    if run.interrupted:
        typer.echo(f"next: {RunFolder(out).resume_command}")
        raise typer.Exit(130)
    result = run.evaluate(test)
    typer.echo(f"test accuracy {result.accuracy:.2%} on {result.count} images never seen in training ({out})")
    return run


def _prove(run: Any, path: Path) -> None:
    """Export, then compare onnxruntime with every installed engine on the exported file."""
    from portnet.engines import engine, installed
    from portnet.graph.model import Model
    from portnet.parity.check import check

    run.export(path)
    exported = Model.load(path)
    reports = [check(run.lowered, exported)]
    reports += [check(engine(name).lower(exported), exported) for name in installed()]
    labels = [f"{run.settings.backend}, as trained", *(f"{name}, lowered again" for name in installed())]
    rows = [
        (label, f"{report.max_abs:.1e}", "agrees" if report.passed else "DIFFERS")
        for label, report in zip(labels, reports, strict=True)
    ]
    print_table(("network", "largest difference", "with onnxruntime"), rows, title=f"\n== proof of {path}")
    for report in reports:
        report.raise_if_failed()


def _predict_digits(path: Path, test: Path) -> None:
    from portnet.runtime.session import load

    images = [sorted((test / str(digit)).iterdir())[0] for digit in range(10)]
    predictions = load(path).predict(images, top=1)
    rows = [
        (f"{image.parent.name}/{image.name}", prediction.label, f"{prediction.probability:.1%}")
        for image, prediction in zip(images, predictions, strict=True)
    ]
    print_table(("held-out image", "called", "probability"), rows, title="\n== ten held-out digits, in onnxruntime")


def _predict_photos(out: Path) -> None:
    """Classify two real photos with the network as ImageNet left it."""
    try:
        from skimage import data
    except ImportError:
        typer.echo("scikit-image is not installed, so its two photos are left out: pip install 'portnet[demo]'")
        return
    from PIL import Image

    from portnet import zoo
    from portnet.runtime.session import Session

    session = Session(zoo.load(BACKBONE))
    photos = {"chelsea": data.chelsea(), "coffee": data.coffee()}
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(out / f"{name}.png")
    predictions = session.predict([out / f"{name}.png" for name in photos], top=3)
    rows = [
        (f"{name}.png", ", ".join(f"{label} {p:.0%}" for label, p in prediction.top))
        for name, prediction in zip(photos, predictions, strict=True)
    ]
    print_table(("photo", "called"), rows, title=f"\n== two real photos, {BACKBONE} as ImageNet trained it")
