"""Draws single layers: norms, attention, embeddings of places, Einsum, sampling and boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from op_cases import Op, Rng, array, pick, sizes


def norm(rng: Rng) -> Op:
    """Every normalisation of the standard."""
    name = pick(
        rng,
        "LayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "RMSNormalization",
        "BatchNormalization",
        "LpNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "Softmax",
        "LogSoftmax",
        "Hardmax",
    )
    dtype, rank = pick(rng, "float32", "float32", "float64", "float16"), int(rng.integers(2, 5))
    batch = 2
    if name == "LRN":  # the reference goes over as many channels as there are samples
        rank, batch = 4, 4
    elif name == "Hardmax":  # the reference knows one meaning, onnxruntime one dtype
        dtype = "float32"
    x, axis = array(rng, [batch, 4, *sizes(rng, rank - 2, 1, 5)], dtype), int(rng.integers(-rank, rank))
    epsilon = {"epsilon": pick(rng, 1e-5, 1e-2)}
    if name in ("LayerNormalization", "RMSNormalization"):
        tail = x.shape[axis:]
        shapes = [pick(rng, tail, tail[-1:], [1] * len(tail)) for _ in range(2)]
        weights = [array(rng, shape, dtype) for shape in shapes]
        if name[0] == "R":
            return Op(name, [x, weights[0]], {"axis": axis, **epsilon}, opset=23)
        weights = weights if rng.random() < 0.7 else weights[:1]
        return Op(name, [x, *weights], {"axis": axis, **epsilon}, pick(rng, 1, 1, 3), opset=17)
    if name == "GroupNormalization":
        opset, groups = pick(rng, 18, 21), pick(rng, 1, 2, 4)
        count = groups if opset == 18 else 4
        return Op(
            name,
            [x, array(rng, [count], dtype), array(rng, [count], dtype)],
            {"num_groups": groups, **epsilon},
            opset=opset,
        )
    per = [array(rng, [4], dtype) for _ in range(4)]
    if name == "InstanceNormalization":
        return Op(name, [x, *per[:2]], epsilon, opset=pick(rng, 6, 22))
    if name == "BatchNormalization":
        return Op(name, [x, *per[:3], np.abs(per[3])], epsilon, opset=pick(rng, 9, 15))
    if name == "LpNormalization":
        # the reference's 1-norm adds without absolute values
        return Op(name, [x], {"axis": axis, "p": 2 if dtype == "float16" else pick(rng, 1, 2)}, opset=pick(rng, 1, 22))
    if name == "LRN":
        size = pick(rng, 1, 2, 3, 4, 5, 7)
        return Op(
            name,
            [x],
            {"size": size, "alpha": pick(rng, 1e-4, 0.5), "beta": pick(rng, 0.75, 1.0), "bias": pick(rng, 1.0, 2.0)},
            opset=13,
        )
    if name == "MeanVarianceNormalization":
        axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))]
        return Op(name, [x], pick(rng, {"axes": axes.tolist()}, {"axes": (axes - rank).tolist()}), opset=13)
    opset = pick(rng, 7, 11, 13)
    return Op(name, [x], {"axis": axis % rank if opset == 7 else axis}, opset=opset)


def attention(rng: Rng) -> Op:
    """Attention of opsets 23 and 24 and RotaryEmbedding."""
    opset, heads = pick(rng, 23, 24), pick(rng, 2, 4)
    groups, steps, past, size = pick(rng, heads, heads, heads // 2), int(rng.integers(1, 5)), int(rng.integers(1, 4)), 4
    if rng.random() < 0.25:
        x = pick(rng, array(rng, [2, heads, steps, 8]), array(rng, [2, steps, heads * 8]))
        turned = pick(rng, 8, 4)
        flags = {"interleaved": int(rng.integers(2)), "rotary_embedding_dim": turned if turned < 8 else 0}
        flags |= {"num_heads": heads} if x.ndim == 3 else {}
        if rng.random() < 0.5:
            caches, places = [array(rng, [2, steps, turned // 2]) for _ in range(2)], []
        else:
            caches, places = [array(rng, [6, turned // 2]) for _ in range(2)], [rng.integers(0, 6, [2, steps])]
        return Op("RotaryEmbedding", [x, *caches, *places], flags, opset=23, constants=1)
    keys = int(rng.integers(1, 6))
    flat, cached = rng.random() < 0.4, rng.random() < 0.3
    shapes = [(heads, steps), (groups, keys), (groups, keys)]
    q, k, v = (array(rng, [2, n, h * size] if flat else [2, h, n, size]) for h, n in shapes)
    total = keys + past * cached
    mask = pick(
        rng,
        None,
        None,
        array(rng, [steps, total], "bool"),
        array(rng, pick(rng, [steps, total], [2, 1, steps, total], [1, heads, steps, total])),
    )
    if mask is not None and mask.dtype == bool:
        mask[:, 0] = True
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": groups} if flat else {}
    attributes |= {
        "is_causal": int(rng.random() < 0.3),
        **pick(rng, {}, {"scale": 0.3}),
        **pick(rng, {}, {}, {"softcap": 2.0}),
    }
    outputs = 1
    rest = [mask]
    if cached:
        rest += [array(rng, [2, groups, past, size]) for _ in range(2)]
        outputs = 3
    elif opset == 24 and rng.random() < 0.3:
        rest += [None, None, rng.integers(1, keys + 1, 2)]
    if rng.random() < 0.2 and cached:
        outputs, attributes["qk_matmul_output_mode"] = 4, int(rng.integers(4))
    return Op("Attention", [q, k, v, *rest], attributes, outputs, opset, constants=7)


def einsum(rng: Rng) -> Op:
    """Einsum of one to three operands, diagonals and ellipses among them."""
    equation = pick(
        rng,
        "ij,jk->ik",
        "bij,bjk->bik",
        "ij->ji",
        "ii->i",
        "ii",
        "ij->",
        "...ij,...jk->...ik",
        "i,j->ij",
        "bhid,bhjd->bhij",
        "ij,ij->i",
        "bn,anm,bm->ba",
        "...i->...",
        "ijk,k->ij",
        "ij , jk",
        "bii->bi",
        "i,i->",
        "abc,cd,de->abe",
        "...ij->...ji",
    )
    size = {letter: int(rng.integers(2, 5)) for letter in "abcdehijkmn"}
    dots = sizes(rng, int(rng.integers(0, 3)))
    inputs = []
    for term in equation.split("->")[0].replace(" ", "").split(","):
        lead = dots if "..." in term else []
        inputs.append(array(rng, [*lead, *(size[letter] for letter in term.replace("...", ""))], pick(rng, "float32")))
    return Op("Einsum", inputs, {"equation": equation}, opset=12, constants=pick(rng, 1, 3))


def sampled(rng: Rng) -> Op:
    """GridSample, AffineGrid, RoiAlign, MaxRoiPool, NonMaxSuppression, MaxUnpool, global pools, Upsample, LpPool."""
    name = pick(
        rng,
        "GridSample",
        "GridSample",
        "AffineGrid",
        "RoiAlign",
        "RoiAlign",
        "MaxRoiPool",
        "NonMaxSuppression",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
        "Upsample",
        "DeformConv",
        "MaxUnpool",
    )
    x = array(rng, [2, 3, *sizes(rng, 2, 4, 8)])
    if name == "GridSample":
        opset, align = pick(rng, 16, 20, 22), int(rng.integers(2))
        modes = ("bilinear", "nearest", "bicubic") if opset == 16 else ("linear", "nearest", "cubic")
        flags = {
            "mode": pick(rng, *modes),
            "padding_mode": pick(rng, "zeros", "border", "reflection"),
            "align_corners": align,
        }
        if opset > 16 and rng.random() < 0.3 and flags["mode"] != "cubic":
            return Op(
                name, [array(rng, [2, 2, 3, 4, 5]), array(rng, [2, 2, 3, 2, 3]) / 2], flags, opset=opset, constants=2
            )
        return Op(name, [x, array(rng, [2, 3, 4, 2]) * np.float32(0.7)], flags, opset=opset, constants=2)
    if name == "AffineGrid":
        rank = pick(rng, 2, 3)
        shape = np.array([2, 3, *sizes(rng, rank, 2, 6)], np.int64)
        return Op(name, [array(rng, [2, rank, rank + 1]), shape], {"align_corners": int(rng.integers(2))}, opset=20)
    height, width = x.shape[2:]
    corner = rng.uniform(-1, 3, [4, 2])
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 4, [4, 2])], 1).astype(np.float32)
    if name == "RoiAlign":
        opset = pick(rng, 10, 16, 22)
        flags = {"mode": pick(rng, "avg", "max"), "output_height": pick(rng, 1, 3), "output_width": pick(rng, 2, 3)}
        flags |= {"sampling_ratio": int(rng.integers(0, 3)), "spatial_scale": pick(rng, 1.0, 0.5)}
        flags |= {"coordinate_transformation_mode": pick(rng, "half_pixel", "output_half_pixel")} if opset >= 16 else {}
        return Op(name, [x, boxes, rng.integers(0, 2, 4)], flags, opset=opset, constants=3)
    if name == "MaxRoiPool":
        rois = np.concatenate([rng.integers(0, 2, [4, 1]), np.round(np.abs(boxes))], 1).astype(np.float32)
        return Op(
            name,
            [x, rois],
            {"pooled_shape": [2, 2], "spatial_scale": pick(rng, 1.0, 0.5)},
            opset=pick(rng, 1, 22),
            constants=2,
        )
    if name == "NonMaxSuppression":
        scores = np.round(rng.random([1, 2, 4]), pick(rng, 1, 4)).astype(np.float32)
        limits = [
            np.array([pick(rng, 0, 1, 3, 9)], np.int64),
            np.array([pick(rng, 0.1, 0.5)], np.float32),
            np.array([pick(rng, 0.0, 0.4)], np.float32),
        ]
        flags = {"center_point_box": int(rng.integers(2))}
        return Op(name, [boxes[None], scores, *limits[: int(rng.integers(1, 4))]], flags, opset=11, constants=2)
    if name == "Upsample":
        scales = np.array([1, 1, pick(rng, 1, 2, 1.5, 3), pick(rng, 2, 1.7)], np.float32)
        return Op(name, [x, scales], {"mode": pick(rng, "nearest", "linear")}, opset=9)
    if name == "DeformConv":
        kernel, groups = pick(rng, [2, 2], [3, 2], [1, 1]), pick(rng, 1, 2)
        out = [height - kernel[0] + 1, width - kernel[1] + 1]
        x, offset = array(rng, [1, 4, height, width]), array(rng, [1, groups * 2 * kernel[0] * kernel[1], *out])
        mask = [None, array(rng, [1, groups * kernel[0] * kernel[1], *out])] if rng.random() < 0.5 else []
        return Op(
            name,
            [x, array(rng, [4, 4, *kernel]), offset, *mask],
            {"kernel_shape": kernel, "pads": [0] * 4, "offset_group": groups},
            opset=19,
            constants=5,
        )
    if name == "MaxUnpool":
        small = array(rng, [1, 2, 2, 3])
        places = np.stack([rng.choice(24, 6, replace=False).reshape(2, 3) + 24 * c for c in range(2)])[None].astype(
            np.int64
        )
        return Op(name, [small, places], {"kernel_shape": [2, 2], "strides": [2, 2]}, opset=11, constants=2)
    return Op(name, [x], {"p": pick(rng, 1, 2, 3)} if name == "GlobalLpPool" else {}, opset=pick(rng, 2, 22))


LAYERS: tuple[Callable[[Rng], Op], ...] = (norm, attention, einsum, sampled)
