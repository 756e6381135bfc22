"""Sampling, detection and patches of images, as ONNX defines them."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor


def _unnormalise(grid: Tensor, length: int, aligned: bool) -> Tensor:
    return (grid + 1) / 2 * (length - 1) if aligned else ((grid + 1) * length - 1) / 2


def _fold(places: Tensor, length: int, padding: str, aligned: bool) -> Tensor:
    """Bring coordinates into the image: clamped for ``border``, mirrored for ``reflection``."""
    if padding == "border":
        return places.clamp(0, length - 1)
    if padding == "reflection":
        low, span = (0.0, length - 1.0) if aligned else (-0.5, float(length))
        if span <= 0:
            return torch.zeros_like(places)
        offset = torch.remainder(places - low, 2 * span)
        return torch.where(offset > span, 2 * span - offset, offset) + low
    return places


def _cubic_weights(t: Tensor) -> list[Tensor]:
    a = -0.75
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


def grid_sample(x: Tensor, grid: Tensor, mode: str, padding: str, aligned: bool) -> Tensor:
    """Sample x (N, C, spatial…) at grid (N, out…, dims), whose last axis counts x first; any number of axes."""
    dims = x.ndim - 2
    places = [_unnormalise(grid[..., dims - 1 - d], x.size(d + 2), aligned) for d in range(dims)]
    if mode != "cubic":
        places = [_fold(p, x.size(d + 2), padding, aligned) for d, p in enumerate(places)]
    if mode == "nearest":
        return _pick(x, [torch.round(p) for p in places], padding, aligned)
    bases = [torch.floor(p) for p in places]
    parts = [p - b for p, b in zip(places, bases, strict=True)]
    offsets = range(2) if mode == "linear" else range(-1, 3)
    weights = [[1 - t, t] if mode == "linear" else _cubic_weights(t) for t in parts]
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for taps in itertools.product(range(len(offsets)), repeat=dims):
        weight = torch.ones_like(parts[0])
        for d, tap in enumerate(taps):
            weight = weight * weights[d][tap]
        corner = [bases[d] + offsets[tap] for d, tap in enumerate(taps)]
        total = total + _pick(x, corner, padding, aligned) * weight.unsqueeze(1)
    return total


def _pick(x: Tensor, places: list[Tensor], padding: str, aligned: bool) -> Tensor:
    """Return x (N, C, …) at whole coordinates (N, out…); zero outside where the padding is zeros."""
    inside = torch.ones_like(places[0], dtype=torch.bool)
    flat = torch.zeros_like(places[0], dtype=torch.int64)
    for d, place in enumerate(places):
        length = x.size(d + 2)
        place = _fold(place, length, padding, aligned)
        inside = inside & (place >= 0) & (place <= length - 1)
        flat = flat * length + place.clamp(0, length - 1).long()
    index = flat.flatten(1).unsqueeze(1).expand(-1, x.size(1), -1)
    values = x.flatten(2).gather(2, index).reshape(x.size(0), x.size(1), *flat.shape[1:])
    return values * inside.unsqueeze(1) if padding == "zeros" else values


def non_max_suppression(
    boxes: Tensor, scores: Tensor, most: Tensor | None, iou: Tensor | None, threshold: Tensor | None, centred: bool
) -> Tensor:
    """Return (K, 3) of batch, class and box, the best of each class first, none overlapping a better one."""
    limit = 0 if most is None else max(int(most), 0)
    overlap = 0.0 if iou is None else float(iou)
    if centred:
        half = boxes[..., 2:] / 2
        low, high = boxes[..., :2] - half, boxes[..., :2] + half
    else:
        low, high = torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])
    area = (high - low).prod(-1)
    chosen: list[tuple[int, int, int]] = []
    for batch in range(scores.size(0)):
        for label in range(scores.size(1)):
            order = torch.sort(scores[batch, label], descending=True, stable=True).indices
            if threshold is not None:
                order = order[scores[batch, label][order] > threshold.reshape(())]
            kept = 0
            while order.numel() and kept < limit:
                best, order = order[0], order[1:]
                chosen.append((batch, label, int(best)))
                kept += 1
                corner = torch.maximum(low[batch, best], low[batch, order])
                common = (torch.minimum(high[batch, best], high[batch, order]) - corner).clamp(min=0).prod(-1)
                union = area[batch, best] + area[batch, order] - common
                order = order[~((common > 0) & (union > 0) & (common / union > overlap))]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def roi_align(
    x: Tensor, rois: Tensor, batches: Tensor, height: int, width: int, ratio: int, scale: float,
    half_pixel: bool, take_max: bool,
) -> Tensor:  # fmt: skip
    """Average (or take the maximum of) bilinear samples in each bin of each region of interest."""
    results = []
    for roi, batch in zip(rois, batches, strict=True):
        x1, y1, x2, y2 = (roi * scale - (0.5 if half_pixel else 0.0)).unbind()
        w, h = x2 - x1, y2 - y1
        if not half_pixel:
            w, h = w.clamp(min=1.0), h.clamp(min=1.0)
        rows = ratio if ratio > 0 else int(torch.ceil(h / height))
        columns = ratio if ratio > 0 else int(torch.ceil(w / width))
        ys = y1 + (torch.arange(height * rows, device=x.device) + 0.5) * h / (height * rows)
        xs = x1 + (torch.arange(width * columns, device=x.device) + 0.5) * w / (width * columns)
        corners = _bilinear_corners(x[batch], ys.to(x.dtype), xs.to(x.dtype))
        bins = [c.reshape(x.size(1), height, rows, width, columns) for c in corners]
        if take_max:
            results.append(torch.stack([b.amax((2, 4)) for b in bins]).amax(0))
        else:
            results.append(torch.stack([b.mean((2, 4)) for b in bins]).sum(0))
    return torch.stack(results) if results else x.new_zeros(0, x.size(1), height, width)


def _bilinear_corners(image: Tensor, ys: Tensor, xs: Tensor) -> list[Tensor]:
    """Return the four weighted neighbours (C, H, W) of each point; zero more than a pixel outside."""
    height, width = image.size(1), image.size(2)
    outside = ((ys < -1) | (ys > height)).unsqueeze(1) | ((xs < -1) | (xs > width)).unsqueeze(0)
    ys, xs = ys.clamp(0, height - 1), xs.clamp(0, width - 1)
    y0, x0 = ys.floor().long(), xs.floor().long()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    dy, dx = (ys - y0).unsqueeze(1), (xs - x0).unsqueeze(0)
    pairs = [(y0, x0, (1 - dy) * (1 - dx)), (y0, x1, (1 - dy) * dx), (y1, x0, dy * (1 - dx)), (y1, x1, dy * dx)]
    return [image[:, y][:, :, x] * torch.where(outside, torch.zeros_like(w), w) for y, x, w in pairs]


def max_roi_pool(x: Tensor, rois: Tensor, size: list[int], scale: float) -> Tensor:
    """Take the maximum of each bin of each region of interest (batch, x1, y1, x2, y2)."""
    results = []
    for roi in rois:
        image = x[int(roi[0])]
        x1, y1, x2, y2 = (int(torch.round(n * scale)) for n in roi[1:])
        bins = [_bins(y1, y2, size[0], image.size(1)), _bins(x1, x2, size[1], image.size(2))]
        rows = []
        for top, bottom in bins[0]:
            row = [image[:, top:bottom, left:right].flatten(1) for left, right in bins[1]]
            rows.append(torch.stack([c.amax(1) if c.size(1) else image.new_zeros(image.size(0)) for c in row], 1))
        results.append(torch.stack(rows, 1))
    return torch.stack(results)


def _bins(start: int, end: int, count: int, length: int) -> list[tuple[int, int]]:
    span = max(end - start + 1, 1)
    edges = [(start + i * span // count, start - (-(i + 1) * span // count)) for i in range(count)]
    return [(min(max(low, 0), length), min(max(high, 0), length)) for low, high in edges]


def col2im(
    x: Tensor, image: list[int], block: list[int], strides: list[int], dilations: list[int], pads: list[int]
) -> Tensor:
    """Add blocks (N, C·∏block, L) up to an image (N, C, image…)."""
    dims, total = len(block), 1
    for size in block:
        total *= size
    sizes = [image[d] + pads[d] + pads[d + dims] for d in range(dims)]
    counts = [(sizes[d] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in range(dims)]
    columns = x.reshape(x.size(0), x.size(1) // total, *block, *counts)
    result = x.new_zeros(x.size(0), x.size(1) // total, *sizes)
    every = (slice(None), slice(None))
    for place in itertools.product(*(range(size) for size in block)):
        starts = [place[d] * dilations[d] for d in range(dims)]
        ends = [starts[d] + (counts[d] - 1) * strides[d] + 1 for d in range(dims)]
        window = tuple(slice(start, end, step) for start, end, step in zip(starts, ends, strides, strict=True))
        result[every + window] += columns[every + place]
    return result[every + tuple(slice(pads[d], pads[d] + image[d]) for d in range(dims))]


def deform_conv(
    x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None, mask: Tensor | None,
    strides: list[int], pads: list[int], dilations: list[int], groups: int, offset_groups: int,
) -> Tensor:  # fmt: skip
    """Convolve samples taken at learned offsets (Dai et al. 2017), scaled by a mask (Zhu et al. 2018)."""
    n, channels, height, width = x.shape
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    offset = offset.reshape(n, offset_groups, kh, kw, 2, oh, ow)
    rows = torch.arange(kh, device=x.device).reshape(kh, 1, 1, 1) * dilations[0] - pads[0]
    columns = torch.arange(kw, device=x.device).reshape(1, kw, 1, 1) * dilations[1] - pads[1]
    y = offset[:, :, :, :, 0] + rows + torch.arange(oh, device=x.device).reshape(1, 1, oh, 1) * strides[0]
    z = offset[:, :, :, :, 1] + columns + torch.arange(ow, device=x.device).reshape(1, 1, 1, ow) * strides[1]
    grid = torch.stack([2 * z / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    grid = grid.reshape(n * offset_groups, kh * kw, oh * ow, 2)
    grouped = x.reshape(n * offset_groups, channels // offset_groups, height, width)
    samples = F.grid_sample(grouped, grid, "bilinear", "zeros", True)
    samples = samples.reshape(n, offset_groups, channels // offset_groups, kh * kw, oh * ow)
    if mask is not None:
        samples = samples * mask.reshape(n, offset_groups, 1, kh * kw, oh * ow)
    samples = samples.reshape(n, groups, (channels // groups) * kh * kw, oh * ow)
    kernel = weight.reshape(groups, weight.size(0) // groups, -1)
    result = torch.einsum("ngkp,gok->ngop", samples, kernel).reshape(n, weight.size(0), oh, ow)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)
