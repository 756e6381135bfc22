"""A prototxt of what inference needs: for an engine that reads files to deploy alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from portnet.formats.caffe.net import DATA_KINDS, Spec, layers_of, live_layers
from portnet.formats.caffe.text import Message, Scalar, parse
from portnet.graph.model import Model

__all__ = ["deployed"]

# what belongs to training
_LEFT_OUT = frozenset({"include", "exclude", "phase", "loss_weight", "propagate_down"})
# a network that is tested uses its running statistics, whatever a file to train from says
_LEFT_OUT_INSIDE = frozenset({"use_global_stats"})


def deployed(prototxt: Path, model: Model) -> str:
    """Return the layers that ``model`` was read from, with the inputs that it has, written anew.

    What another parser then sees is what ours has accepted.
    """
    specs = layers_of(parse(prototxt))
    is_v1 = "layers" in parse(prototxt) and "layer" not in parse(prototxt)
    lines = ['name: "deployed"']
    for port in model.inputs:
        dims = " ".join(f"dim: {1 if isinstance(size, str) else size}" for size in port.shape or ())
        lines.append(f"input: {_quoted(port.name)} input_shape {{ {dims} }}")
    for index in live_layers(specs)[0]:
        if specs[index].kind == "Axpy":
            lines += _axpy(specs[index])
        elif specs[index].kind not in DATA_KINDS:
            if specs[index].kind == "PriorBox":
                # OpenCV clips unless it is told not to
                options = specs[index].message.message("prior_box_param")
                options.fields.setdefault("clip", [Scalar("false", False, 0)])
            lines.append(f"{'layers' if is_v1 else 'layer'} {{")
            lines += _lines(specs[index].message, _LEFT_OUT)
            lines.append("}")
    return "\n".join(lines)


def _lines(message: Message, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
    for name, values in message.fields.items():
        if name in left_out:
            continue
        for value in values:
            if isinstance(value, Scalar):
                yield f"{name}: {_quoted(value.text) if value.quoted else value.text}"
            else:
                yield f"{name} {{"
                yield from _lines(value, _LEFT_OUT_INSIDE)
                yield "}"


def _axpy(spec: Spec) -> Iterator[str]:
    """Yield a · x + y as two layers: OpenCV 4 computes a · y + x of one."""
    a, x, y = map(_quoted, spec.message.strings("bottom"))
    product = _quoted(f"{spec.name}/ax")
    yield f'layer {{ name: {product} type: "Scale" bottom: {x} bottom: {a} top: {product} scale_param {{ axis: 0 }} }}'
    yield f'layer {{ name: {_quoted(spec.name)} type: "Eltwise" bottom: {product} bottom: {y}'
    yield f"top: {_quoted(spec.tops[0])} }}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
