"""Learning curves: loss and accuracy by epoch, of one run or of several laid over each other."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portnet.drawing.axes import Axes
from portnet.drawing.canvas import Canvas, line, save
from portnet.drawing.text import fit, width
from portnet.drawing.theme import SERIES
from portnet.errors import InputError

__all__ = ["HEIGHT", "WIDTH", "Curves", "draw_curves", "plot_curves"]

WIDTH, HEIGHT = 1024.0, 350.0
_MOST_POINTS = 600


@dataclass(frozen=True)
class Curves:
    """What one run's curves are drawn from. Losses in nats, accuracies 0..1; an entry an epoch, but for ``steps``.

    Attributes:
        name: what the legend calls the run.
        loss: mean training loss.
        accuracy: training accuracy.
        val_loss: validation loss, None where there was no validation.
        val_accuracy: validation accuracy, likewise.
        steps: training loss of every step.
        steps_per_epoch: steps of an epoch.
        validations: (epochs trained before it, loss, accuracy) of every validation, where they are known one by one;
            they are drawn in place of ``val_loss`` and ``val_accuracy``.
    """

    name: str
    loss: Sequence[float]
    accuracy: Sequence[float]
    val_loss: Sequence[float | None]
    val_accuracy: Sequence[float | None]
    steps: Sequence[float]
    steps_per_epoch: int
    validations: Sequence[tuple[float, float, float]] = ()

    @property
    def epochs(self) -> float:
        """Epochs run, the last perhaps in part."""
        return max(len(self.loss), len(self.steps) / self.steps_per_epoch)

    @property
    def validation_losses(self) -> list[tuple[float, float]]:
        """Places in epochs and losses of the validations."""
        return [(at, loss) for at, loss, _ in self.validations] or _at_ends(self.val_loss)

    @property
    def validation_accuracies(self) -> list[tuple[float, float]]:
        """Places in epochs and accuracies of the validations."""
        return [(at, accuracy) for at, _, accuracy in self.validations] or _at_ends(self.val_accuracy)


def plot_curves(runs: Sequence[Curves], path: str | os.PathLike[str]) -> Path:
    """Draw the curves of one run or several into an .svg or .png file.

    Raises:
        InputError: no run, more than six, or nothing in them.
        UnknownNameError: another suffix.
        OutputError: the path cannot be written.
    """
    _check(runs)
    return save(path, WIDTH, HEIGHT, lambda canvas: draw_curves(runs, canvas))


def draw_curves(runs: Sequence[Curves], canvas: Canvas) -> None:
    """Draw loss and accuracy side by side on a canvas of `WIDTH` × `HEIGHT`.

    One run has a colour each for training and validation, and every step's loss behind them. Of several runs each has
    a colour, training full and validation dashed; earlier ones are thicker, so that curves that coincide are seen.
    """
    _check(runs)
    epochs = max(run.epochs for run in runs)
    loss_axes = Axes(52, 62, 424, 222, (0, epochs), (0, _top(runs)), whole=True, x_label="epoch", title="loss (nats)")
    accuracy_axes = Axes(
        564, 62, 424, 222, (0, epochs), _accuracy_range(runs), True, whole=True, x_label="epoch", title="accuracy"
    )
    for axes in (loss_axes, accuracy_axes):
        axes.draw(canvas)
    if len(runs) == 1:
        _draw_one(canvas, runs[0], loss_axes, accuracy_axes)
    else:
        _draw_many(canvas, runs, loss_axes, accuracy_axes)


def _check(runs: Sequence[Curves]) -> None:
    if not 1 <= len(runs) <= len(SERIES):
        raise InputError(f"curves: got {len(runs)} runs, expected 1 to {len(SERIES)}")
    for run in runs:
        if not run.steps and not run.loss:
            raise InputError(f"curves: the run {run.name!r} has not taken one step")


def _top(runs: Sequence[Curves]) -> float:
    """Return where the loss axis ends: above every epoch's loss; single steps may reach beyond."""
    epochs = [value for run in runs for value in (*run.loss, *(loss for _, loss in run.validation_losses))]
    steps = sorted(value for run in runs for value in run.steps)
    usual = steps[int(0.98 * (len(steps) - 1))] if steps else 0.0
    largest = max([*epochs, usual])
    return 1.08 * largest if largest > 0 else 1.0


def _accuracy_range(runs: Sequence[Curves]) -> tuple[float, float]:
    """Return the accuracies to show: up to 100%, from 0 unless all are high."""
    values = [value for run in runs for value in (*run.accuracy, *(v for _, v in run.validation_accuracies))]
    lowest = min(values, default=0.0)
    return (math.floor(20 * (lowest - 0.02)) / 20 if lowest > 0.7 else 0.0), 1.0


def _draw_one(canvas: Canvas, run: Curves, loss_axes: Axes, accuracy_axes: Axes) -> None:
    _draw_steps(canvas, run, loss_axes, "series-1", thickness=1.1, opacity=0.4)
    _draw_epochs(canvas, loss_axes, _at_ends(run.loss), "series-1", "training loss", 2.2)
    _draw_epochs(canvas, loss_axes, run.validation_losses, "series-2", "validation loss", 2.2)
    _draw_epochs(canvas, accuracy_axes, _at_ends(run.accuracy), "series-1", "training accuracy", 2.2)
    _draw_epochs(canvas, accuracy_axes, run.validation_accuracies, "series-2", "validation accuracy", 2.2)
    names = ["training", *(["validation"] if run.validation_losses else [])]
    _legend(canvas, names)


def _draw_many(canvas: Canvas, runs: Sequence[Curves], loss_axes: Axes, accuracy_axes: Axes) -> None:
    for i, run in enumerate(runs):
        thickness = 1.6 + 2.8 * (len(runs) - 1 - i)
        _draw_steps(canvas, run, loss_axes, SERIES[i], thickness=thickness, opacity=1)
        _draw_epochs(canvas, accuracy_axes, _at_ends(run.accuracy), SERIES[i], f"{run.name}, training", thickness)
        label = f"{run.name}, validation"
        _draw_epochs(canvas, accuracy_axes, run.validation_accuracies, SERIES[i], label, thickness, dash=True)
    _legend(canvas, [run.name for run in runs])
    note = "left: training loss of each step; right: training full, validation dashed"
    canvas.text(WIDTH - 36, HEIGHT - 12, note, size=9.5, fill="muted", anchor="end")


def _draw_steps(canvas: Canvas, run: Curves, axes: Axes, colour: str, *, thickness: float, opacity: float) -> None:
    """Draw the loss of every step, at the place of its end in its epoch; of very many, the means of groups."""
    group = -(-len(run.steps) // _MOST_POINTS) if run.steps else 1
    groups = [run.steps[i : i + group] for i in range(0, len(run.steps), group)]
    xs = [(i * group + len(part)) / run.steps_per_epoch for i, part in enumerate(groups)]
    points = axes.points(xs, [sum(part) / len(part) for part in groups])
    if len(points) > 1:
        canvas.path(line(points), stroke=colour, thickness=thickness, opacity=opacity)


def _draw_epochs(
    canvas: Canvas,
    axes: Axes,
    values: Sequence[tuple[float, float]],
    colour: str,
    name: str,
    thickness: float,
    *,
    dash: bool = False,
) -> None:
    points = axes.points([epoch for epoch, _ in values], [value for _, value in values])
    if len(points) > 1:
        canvas.path(line(points), stroke=colour, thickness=thickness, dash=dash)
    radius = 0.9 + 1.1 * min(thickness, 2.2) if len(points) <= 60 else 0
    for (x, y), (epoch, value) in zip(points, values, strict=True) if radius else ():
        text = f"{value:.2%}" if axes.percent else f"{value:.4f}"
        title = f"epoch {epoch:.4g}: {name} {text}"
        canvas.rect(x - radius, y - radius, 2 * radius, 2 * radius, fill=colour, radius=radius, title=title)


def _at_ends(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the known values with their places: the end of each epoch."""
    return [(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None]


def _legend(canvas: Canvas, names: Sequence[str]) -> None:
    x = 52.0
    for name, colour in zip(names, SERIES, strict=False):
        name = fit(name, 11, 220)
        canvas.path(line([(x, 18), (x + 18, 18)]), stroke=colour, thickness=3)
        canvas.text(x + 25, 22, name, size=11)
        x += 25 + width(name, 11) + 22
