"""The reliability diagram: how often a network is right, by how sure it says it is."""

from __future__ import annotations

from collections.abc import Sequence

from portnet.drawing.axes import Axes
from portnet.drawing.canvas import Canvas, line

__all__ = ["HEIGHT", "WIDTH", "draw_reliability"]

WIDTH, HEIGHT = 440.0, 380.0


def draw_reliability(
    canvas: Canvas, count: Sequence[int], confidence: Sequence[float], accuracy: Sequence[float]
) -> None:
    """Draw the diagram on a canvas of `WIDTH` × `HEIGHT`.

    A bar a bin, as high as the bin's accuracy; a dot at its mean confidence and accuracy, on the diagonal where the
    network is calibrated; below, how many images each bin holds.

    Args:
        canvas: where to draw.
        count: images in each bin of equal width from 0 to 1.
        confidence: mean probability of the likeliest class in each.
        accuracy: share of right answers in each.
    """
    axes = Axes(56, 34, 360, 222, (0, 1), (0, 1), percent=True, title="right answers by confidence")
    axes.draw(canvas)
    bins = len(count)
    for i in range(bins):
        if not count[i]:
            continue
        (left, bottom), (right, top) = axes.at(i / bins, 0), axes.at((i + 1) / bins, accuracy[i])
        title = f"{count[i]:,} images, sure to {confidence[i]:.1%}, right {accuracy[i]:.1%}"
        canvas.rect(left + 1, top, right - left - 2, bottom - top, fill="series-1", opacity=0.3, title=title)
    canvas.path(line([axes.at(0, 0), axes.at(1, 1)]), stroke="muted", dash=True)
    for i in range(bins):
        if count[i]:
            x, y = axes.at(confidence[i], accuracy[i])
            canvas.rect(x - 3.5, y - 3.5, 7, 7, fill="series-1", radius=3.5)
    _draw_counts(canvas, axes, count)


def _draw_counts(canvas: Canvas, axes: Axes, count: Sequence[int]) -> None:
    base, most = axes.top + axes.height + 84, max(count)
    canvas.text(axes.left, base - 50, f"images (up to {most:,} in a bin)", size=10.5, fill="muted")
    for i, n in enumerate(count):
        if n:
            left, _ = axes.at(i / len(count), 0)
            height = max(40 * n / most, 1)
            canvas.rect(
                left + 1,
                base - height,
                axes.width / len(count) - 2,
                height,
                fill="muted",
                opacity=0.55,
                title=f"{n:,} images",
            )
    canvas.path(line([(axes.left, base), (axes.left + axes.width, base)]), stroke="line")
