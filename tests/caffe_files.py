"""Writes .caffemodel files by the field numbers of caffe.proto, and prototxt files, for tests."""

from __future__ import annotations

import zlib

import numpy as np

INPUT = 'name: "net" layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array, edition="layer"):
    if edition == "double":
        data = message(8, np.asarray(array, "<f8").tobytes())
    else:
        data = message(5, np.asarray(array, "<f4").tobytes())
    if edition == "layers":
        sizes = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(place << 3) + varint(size) for place, size in enumerate(sizes, 1)) + data
    return message(7, message(1, b"".join(map(varint, array.shape)))) + data


def caffemodel(layers, edition="layer"):
    """``layers``: name → arrays, in the edition "layer", "double" (the same, as float64), "layers" (V1) or "V0"."""
    out = message(1, b"net")
    for name, arrays in layers.items():
        if edition == "layers":
            body = message(4, name.encode()) + b"".join(message(6, blob(a, edition)) for a in arrays)
            out += message(2, body)
        elif edition == "V0":
            inner = message(1, name.encode()) + b"".join(message(50, blob(a, "layers")) for a in arrays)
            out += message(2, message(1, inner))
        else:
            body = message(1, name.encode()) + b"".join(message(7, blob(a, edition)) for a in arrays)
            out += message(100, body)
    return out


def draw(shapes):
    """Arrays of layers: weights around 0; a BatchNorm's (mean, variance, factor) has shapes ((c,), (c,), (1,))."""
    layers = {}
    for name, wanted in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        arrays = [
            generator.normal(0, 1 / max(np.prod(shape[1:]), 4) ** 0.5, shape).astype(np.float32) for shape in wanted
        ]
        if len(wanted) == 3:
            arrays[1] = generator.uniform(1, 4, wanted[1]).astype(np.float32)
            arrays[2] = np.full(1, 2, np.float32)
        layers[name] = arrays
    return layers


def layer(name, kind, bottoms, top=None, **options):
    """One layer; an option is ``convolution_param="num_output: 4 ..."``."""
    bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
    lines = "".join(f' bottom: "{b}"' for b in bottoms)
    tops = "".join(f' top: "{t}"' for t in ([top or name] if isinstance(top or name, str) else top))
    extra = "".join(f" {key} {{ {value} }}" for key, value in options.items())
    return f'layer {{ name: "{name}" type: "{kind}"{lines}{tops}{extra} }}\n'


def conv(name, bottom, options, top=None):
    return layer(name, "Convolution", bottom, top, convolution_param=options)


def net(dims, *layers):
    return INPUT.format(dims=" ".join(f"dim: {n}" for n in dims)) + "".join(layers)


def write(folder, prototxt, shapes, edition="layer"):
    """Return the paths of both files."""
    paths = folder / "net.prototxt", folder / "net.caffemodel"
    paths[0].write_text(prototxt)
    paths[1].write_bytes(caffemodel(draw(shapes), edition))
    return paths
