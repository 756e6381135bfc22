"""onnxruntime's own ops around attention in standard ops: embeddings and rotary positions.

Source: onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.rewrite import Site, is_read, python_attribute, rank, static_dims

__all__ = ["embed_layer_norm", "quantized_embed_layer_norm", "rotary_embedding"]

_INT32, _INT64 = int(ir.DataType.INT32), int(ir.DataType.INT64)


def _inputs(node: ir.Node, count: int) -> list[ir.Value | None]:
    return [*node.inputs, *[None] * count][:count]


def embed_layer_norm(site: Site, node: ir.Node) -> tuple[ir.Value | None, ...]:
    """LayerNormalization of word, position and segment embeddings; the count of words that a mask keeps; the sum."""
    ids, segments, words, positions, kinds, gamma, beta, mask, places = _inputs(node, 9)
    return _embedded(site, node, (ids, segments, mask, places), (words, positions, kinds), (gamma, beta))


def quantized_embed_layer_norm(site: Site, node: ir.Node) -> tuple[ir.Value | None, ...]:
    """The same of 8-bit tables."""
    ids, segments, *tables, mask = _inputs(node, 8)
    scales = _inputs(node, 18)[8:]
    plain = [
        None if table is None else site.op("DequantizeLinear", table, scales[i], scales[i + 5])
        for i, table in enumerate(tables)
    ]
    return _embedded(site, node, (ids, segments, mask, None), (plain[0], plain[1], plain[2]), (plain[3], plain[4]))


def _embedded(
    site: Site,
    node: ir.Node,
    numbers: tuple[ir.Value | None, ...],
    tables: tuple[ir.Value | None, ...],
    norm: tuple[ir.Value | None, ...],
) -> tuple[ir.Value | None, ...]:
    (ids, segments, mask, places), (words, positions, kinds) = numbers, tables
    total = site.op("Add", site.op("Gather", words, ids), _positions(site, ids, places, positions))
    if segments is not None and kinds is not None:
        total = site.op("Add", total, site.op("Gather", kinds, segments))
    result = site.op("LayerNormalization", total, *norm, axis=-1, epsilon=python_attribute(node, "epsilon", 1e-12))
    count = _kept_words(site, ids, mask) if is_read(node, 1) else None
    return (result, count, total)[: len(node.outputs)]


def _positions(site: Site, ids: ir.Value | None, places: ir.Value | None, table: ir.Value | None) -> ir.Value:
    if places is None:
        places = _places(site, ids, 1)
    return site.op("Gather", table, places)


def _places(site: Site, tensor: ir.Value | None, axis: int) -> ir.Value:
    """Return 0, 1, 2, ... along an axis."""
    size = site.op("Squeeze", site.op("Shape", tensor, start=axis, end=axis + 1), site.ints([0], "axis"))
    return site.op("Range", site.ints(0, "zero"), size, site.ints(1, "step"))


def _kept_words(site: Site, ids: ir.Value | None, mask: ir.Value | None) -> ir.Value:
    """Return how many words of each sentence a mask says 1 of; without one, onnxruntime says 0."""
    if mask is None:
        kept = site.op("Mul", site.op("Cast", ids, to=_INT64), site.ints(0, "zero"))
    else:
        one = site.op("Equal", site.op("Cast", mask, to=_INT64), site.ints(1, "one"))
        kept = site.op("Cast", one, to=_INT64)
    return site.op("Cast", site.op("ReduceSum", kept, site.ints([1], "axis"), keepdims=0), to=_INT32)


def rotary_embedding(site: Site, node: ir.Node) -> ir.Value | None:
    """Turn pairs of numbers by angles that depend on their position: x is (B, S, H·D) or (B, H, S, D)."""
    x, positions, cosines, sines = _inputs(node, 4)
    turned, axes = (static_dims(cosines) or (None,))[-1], rank(x)
    heads = python_attribute(node, "num_heads", 0)
    part = python_attribute(node, "rotary_embedding_dim", 0)
    known = static_dims(x)
    if axes not in (3, 4) or turned is None or known is None or known[-1] is None or rank(positions) not in (1, 2):
        return None
    if python_attribute(node, "is_packed_batching", 0) or (part and not heads and axes == 3):
        return None
    size = known[-1] if axes == 4 else known[-1] // heads if heads else 2 * turned
    pairs = (part or size) // 2
    if pairs != turned or (axes == 3 and known[-1] % size):
        return None
    x4 = x if axes == 4 else site.op("Reshape", x, site.ints([0, 0, known[-1] // size, size], "heads"))
    if rank(positions) == 1:
        positions = site.op("Add", _places(site, x, axes - 2), positions)
        over = [0, 1] if axes == 4 else [0, 2]
    else:
        over = [1] if axes == 4 else [2]
    angles = [
        site.op("Unsqueeze", site.op("Gather", table, positions), site.ints(over, "axes")) for table in (cosines, sines)
    ]
    moved, *rest = [x4] if 2 * pairs == size else _split(site, x4, [2 * pairs, size - 2 * pairs])
    result = _turned(site, moved, angles, pairs, bool(python_attribute(node, "interleaved", 0)))
    if rest:
        result = site.op("Concat", result, *rest, axis=-1)
    return result if axes == 4 else site.op("Reshape", result, site.ints([0, 0, known[-1]], "joined"))


def _split(site: Site, value: ir.Value | None, sizes: list[int]) -> list[ir.Value]:
    return list(site.ops("Split", value, site.ints(sizes, "sizes"), count=len(sizes), axis=-1))


def _turned(site: Site, x: ir.Value | None, angles: list[ir.Value], pairs: int, interleaved: bool) -> ir.Value:
    """Rotate the pairs of the last axis: neighbours, or the first half with the second."""
    (cosines, sines), axis = angles, site.ints([-1], "axis")
    if interleaved:
        apart = site.op("Reshape", x, site.ints([0, 0, 0, pairs, 2], "pairs"))
        first, second = (site.op("Squeeze", half, axis) for half in _split(site, apart, [1, 1]))
    else:
        first, second = _split(site, x, [pairs, pairs])
    real = site.op("Sub", site.op("Mul", first, cosines), site.op("Mul", second, sines))
    imaginary = site.op("Add", site.op("Mul", first, sines), site.op("Mul", second, cosines))
    if not interleaved:
        return site.op("Concat", real, imaginary, axis=-1)
    together = site.op("Concat", site.op("Unsqueeze", real, axis), site.op("Unsqueeze", imaginary, axis), axis=-1)
    return site.op("Reshape", together, site.ints([0, 0, 0, 2 * pairs], "pairs"))
