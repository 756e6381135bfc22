"""PriorBox of SSD: boxes that depend on sizes alone, so that they are a constant."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe
from portnet.formats.caffe.text import Message
from portnet.formats.writer import sizes_of

MAX_BOXES = 1 << 20


@caffe("PriorBox")
def prior_box(layer: Layer) -> ir.Value:
    """Corners of boxes as shares of the image, and their variances, (1, 2, height · width · boxes · 4).

    After PriorBoxLayer of https://github.com/weiliu89/caffe/tree/ssd.
    """
    options = layer.options("prior_box_param")
    if len(layer.bottoms) != 2 or len(layer.sizes) != 4 or len(sizes_of(layer.bottoms[1])) != 4:
        raise NotExpressible(f"of {len(layer.bottoms)} tensors")
    places = [layer.size(2), layer.size(3)]
    image = _pair(options, "img_size", "img_h", "img_w") or [float(n or 0) for n in sizes_of(layer.bottoms[1])[2:]]
    steps = _pair(options, "step", "step_h", "step_w") or [n / count for n, count in zip(image, places, strict=True)]
    shapes = _shapes(options)
    variances = options.numbers("variance") or [0.1]
    if not shapes or math.prod(places) * len(shapes) > MAX_BOXES or len(variances) not in (1, 4) or min(image) <= 0:
        raise NotExpressible(f"of {len(shapes)} boxes at {places}")
    offset = options.number("offset", 0.5)
    centres = [(np.arange(count) + offset) * step for count, step in zip(places, steps, strict=True)]
    boxes = np.empty((*places, len(shapes), 4))
    for number, (width, height) in enumerate(shapes):
        for place, centre, half, size in ((0, centres[1], width / 2, image[1]), (1, centres[0], height / 2, image[0])):
            line = centre if place == 0 else centre[:, None]
            boxes[:, :, number, place] = (line - half) / size
            boxes[:, :, number, place + 2] = (line + half) / size
    if options.flag("clip", False):
        boxes = boxes.clip(0, 1)
    spread = np.broadcast_to(np.array(variances), boxes.shape)
    array = np.stack([boxes.reshape(-1), spread.reshape(-1)])[None].astype(np.float32)
    return layer.graph.constant(array, layer.name)


def _pair(options: Message, both: str, first: str, second: str) -> list[float] | None:
    """Return a height and a width, from one option for both or from one each; None where there are none."""
    one = options.number(both, 0)
    pair = [options.number(name, one) for name in (first, second)]
    return pair if all(pair) else None


def _shapes(options: Message) -> list[tuple[float, float]]:
    """Return width and height of the boxes at a place, in Caffe's order."""
    ratios = [1.0]
    for ratio in options.numbers("aspect_ratio"):
        if ratio <= 0:
            raise NotExpressible(f"of aspect ratio {ratio}")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if options.flag("flip", True) else [ratio]
    options.flag("flip", True)
    smallest, largest = options.numbers("min_size"), options.numbers("max_size")
    if largest and len(largest) != len(smallest):
        raise NotExpressible(f"of {len(smallest)} sizes up to {len(largest)}")
    found: list[tuple[float, float]] = []
    for least, most in itertools.zip_longest(smallest, largest):
        found.append((least, least))
        if most is not None:
            found.append((math.sqrt(least * most),) * 2)
        found += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    return found
