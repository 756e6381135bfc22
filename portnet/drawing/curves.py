"""Learning curves: loss and accuracy by epoch, of one run or of several laid over each other."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from portnet.drawing.axes import Axes, top_for
from portnet.drawing.canvas import Canvas, line, save
from portnet.drawing.text import figure, fit, width
from portnet.drawing.theme import SERIES
from portnet.errors import InputError

__all__ = ["HEIGHT", "PANEL", "WIDTH", "Curves", "draw_curves", "draw_panels", "plot_curves"]

WIDTH, HEIGHT = 1024.0, 350.0
# one of the two on its own: narrow, so that a phone has not to reduce it much
PANEL = 412.0
_LEFT, _RIGHT = 52.0, 36.0
_APART = 7.0  # pixels between points that are marked one by one
# points of a curve of steps, of one run alone and of each of several: more would hide the others
_MOST_POINTS, _FEW_POINTS = 600, 100


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
        return _finite((at, loss) for at, loss, _ in self.validations) or _at_ends(self.val_loss)

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
    a colour, training full and validation dashed; where they coincide, earlier ones are thicker, so that all are seen.
    """
    _draw_loss(runs, canvas, 0, WIDTH / 2)
    _draw_accuracy(runs, canvas, WIDTH / 2, WIDTH / 2)
    _legend(canvas, runs)
    if len(runs) > 1:
        group = max(_group(run, _FEW_POINTS) for run in runs)
        steps = "each step" if group == 1 else f"means of up to {group} steps"
        note = f"left: training loss, {steps}; right: training full, validation dashed"
        canvas.text(WIDTH - 36, HEIGHT - 12, note, size=9.5, fill="muted", anchor="end")


def draw_panels(run: Curves, loss: Canvas, accuracy: Canvas) -> None:
    """Draw the curves of one run on two canvases of `PANEL` × `HEIGHT`, for a page that may be narrow."""
    _draw_loss([run], loss, 0, PANEL)
    _draw_accuracy([run], accuracy, 0, PANEL)
    for canvas in (loss, accuracy):
        _legend(canvas, [run])


def _draw_loss(runs: Sequence[Curves], canvas: Canvas, left: float, room: float) -> None:
    axes = _axes(runs, left, room, (0, _top(runs)), "loss (nats)")
    axes.draw(canvas)
    if len(runs) > 1:
        for i, run in enumerate(runs):
            _draw_steps(canvas, run, axes, SERIES[i], thickness=_thickness(runs, i), opacity=1, most=_FEW_POINTS)
        return
    _draw_steps(canvas, runs[0], axes, "series-1", thickness=1.1, opacity=0.4)
    _draw_epochs(canvas, axes, _at_ends(runs[0].loss), "series-1", "training loss", 2.2)
    _draw_epochs(canvas, axes, runs[0].validation_losses, "series-2", "validation loss", 2.2)


def _draw_accuracy(runs: Sequence[Curves], canvas: Canvas, left: float, room: float) -> None:
    axes = _axes(runs, left, room, _accuracy_range(runs), "accuracy", percent=True)
    axes.draw(canvas)
    if len(runs) == 1:
        _draw_epochs(canvas, axes, _at_ends(runs[0].accuracy), "series-1", "training accuracy", 2.2)
        _draw_epochs(canvas, axes, runs[0].validation_accuracies, "series-2", "validation accuracy", 2.2)
        return
    for i, run in enumerate(runs):
        thickness = _thickness(runs, i)
        _draw_epochs(canvas, axes, _at_ends(run.accuracy), SERIES[i], f"{run.name}, training", thickness)
        label = f"{run.name}, validation"
        _draw_epochs(canvas, axes, run.validation_accuracies, SERIES[i], label, thickness, dash=True)


def _axes(
    runs: Sequence[Curves], left: float, room: float, y: tuple[float, float], title: str, *, percent: bool = False
) -> Axes:
    _check(runs)
    epochs = max(run.epochs for run in runs)
    inside = room - _LEFT - _RIGHT
    return Axes(left + _LEFT, 62, inside, 222, (0, epochs), y, percent, whole=True, x_label="epoch", title=title)


def _thickness(runs: Sequence[Curves], index: int) -> float:
    extra = min(2.8, 8 / max(len(runs) - 1, 1)) if _coincide(runs) else 0.0
    return 1.8 + extra * (len(runs) - 1 - index)


def _coincide(runs: Sequence[Curves]) -> bool:
    """Whether runs took the same steps but for rounding, so that a line would hide what lies below it."""
    if any(len(run.steps) != len(runs[0].steps) for run in runs):
        return False
    largest = max((value for run in runs for value in run.steps), default=0.0)
    steps = zip(*(run.steps for run in runs), strict=True)
    return all(max(values) - min(values) <= 0.02 * largest for values in steps)


def _check(runs: Sequence[Curves]) -> None:
    if not 1 <= len(runs) <= len(SERIES):
        raise InputError(f"curves: got {len(runs)} runs, expected 1 to {len(SERIES)}")
    for run in runs:
        if not run.steps and not run.loss:
            raise InputError(f"curves: the run {run.name!r} has not taken one step")


def _top(runs: Sequence[Curves]) -> float:
    """Return where the loss axis ends: above every epoch's loss; of many steps, single ones may reach beyond."""
    epochs = [value for run in runs for _, value in (*_at_ends(run.loss), *run.validation_losses)]
    steps = sorted(value for run in runs for value in run.steps)
    usual = steps[math.ceil(0.98 * (len(steps) - 1))] if steps else 0.0
    return top_for(max([*epochs, usual]))


def _accuracy_range(runs: Sequence[Curves]) -> tuple[float, float]:
    """Return the accuracies to show: up to 100%, from 0 unless all are high."""
    values = [value for run in runs for value in (*run.accuracy, *(v for _, v in run.validation_accuracies))]
    lowest = min(values, default=0.0)
    return (math.floor(20 * (lowest - 0.02)) / 20 if lowest > 0.7 else 0.0), 1.0


def _group(run: Curves, most: int) -> int:
    """Return how many steps are drawn as one point."""
    return max(-(-len(run.steps) // most), 1)


def _draw_steps(
    canvas: Canvas,
    run: Curves,
    axes: Axes,
    colour: str,
    *,
    thickness: float,
    opacity: float,
    most: int = _MOST_POINTS,
) -> None:
    """Draw the loss of every step, at the place of its end in its epoch; of very many, the means of groups."""
    group = _group(run, most)
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
    apart = (points[-1][0] - points[0][0]) / (len(points) - 1) if len(points) > 1 else _APART
    radius = 0.9 + 1.1 * min(thickness, 2.2) if apart >= _APART else 0
    for (x, y), (epoch, value) in zip(points, values, strict=True) if radius else ():
        text = f"{value:.2%}" if axes.percent else figure(value)
        title = f"epoch {epoch:.4g}: {name} {text}"
        canvas.rect(x - radius, y - radius, 2 * radius, 2 * radius, fill=colour, radius=radius, title=title)


def _at_ends(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the known values with their places: the end of each epoch."""
    return _finite((epoch, value) for epoch, value in enumerate(values, start=1) if value is not None)


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out what is not a number: a network that diverges has such losses, and a drawing has no place for them."""
    return [(at, value) for at, value in points if math.isfinite(value)]


def _legend(canvas: Canvas, runs: Sequence[Curves]) -> None:
    names = [run.name for run in runs]
    if len(runs) == 1:
        names = ["training", *(["validation"] if runs[0].validations or runs[0].validation_losses else [])]
    x, room = _LEFT, (canvas.width - _LEFT - _RIGHT) / len(names) - 47
    for name, colour in zip(names, SERIES, strict=False):
        name = fit(name, 11, min(room, 220))
        canvas.path(line([(x, 18), (x + 18, 18)]), stroke=colour, thickness=3)
        canvas.text(x + 25, 22, name, size=11)
        x += 25 + width(name, 11) + 22
