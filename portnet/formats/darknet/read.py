"""`read`: a .cfg and a .weights file become a `Model`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.captured import Captured, Missing
from portnet.formats.darknet.arrays import Arrays, Drawn, Stored
from portnet.formats.darknet.config import Section, read_config
from portnet.formats.darknet.layer import Layer, NotExpressible
from portnet.formats.darknet.table import HEADS, RECURRENT, TABLE
from portnet.formats.writer import GraphWriter, sizes_of
from portnet.graph.metadata import Metadata, Preprocessing

__all__ = ["read"]

MAX_SIZE = 16_384
# options without effect on what a section computes in inference
_HARMLESS = frozenset({"stopbackward", "learning_rate", "burnin_update", "train_only_bn", "onlyforward"})


def read(
    cfg: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    keep_layout: bool = False,
    seed: int = 0,
) -> Captured:
    """Read a network of Darknet, without Darknet.

    Tensors are (N, C, H, W) float32 with the batch free. Sections have no names: tensors are called ``conv_0``,
    ``bn_0``, ``leaky_0`` by the section's place behind [net], arrays ``conv_0.weight``, ``bn_0.running_mean``.
    BatchNormalization has an epsilon of 1e-6 under the root, as OpenCV has it. Darknet itself adds 1e-6 to the root on
    a CPU, and 1e-5 under it on a GPU: for variances above 0.01 results differ by less than 5e-4 of themselves.

    A yolo, region or detection section decodes boxes, which is no part of the captured network: what it reads is an
    output.

    >>> captured = portnet.formats.darknet.read("darknet19.cfg", "darknet19.weights")  # doctest: +SKIP

    Args:
        cfg: the architecture.
        weights: its arrays; None draws them as Darknet does, with statistics of mean 0 and variance 1.
        input_shape: sizes of the input, batch first, to replace those of the file. The batch stays free.
        keep_layout: without effect: Darknet's channels are first already.
        seed: of what is drawn.

    Raises:
        UnsupportedError: names every section that has no translation.
        WeightsError: a .weights file that is too short or too long for the .cfg.
        ModelError: a .cfg that is broken.
    """
    path = Path(cfg)
    net, *sections = read_config(path)
    arrays: Arrays = Drawn(str(path), seed) if weights is None else Stored(Path(weights))
    graph, missing = GraphWriter(path.stem), Missing(str(path))
    sizes = _sizes(net, input_shape)
    image = graph.input("data", [_first_axis(sections), *sizes])
    outputs, heads, notes = _walk(sections, image, graph, arrays, missing)
    missing.raise_if_any()
    arrays.end()
    if not outputs or outputs[-1] is image:
        raise ModelError(f"{path}: got no layers, expected a .cfg of a network")
    ends = heads if sections[-1].kind in HEADS else [*heads, outputs[-1]]
    metadata = Metadata(
        preprocessing=_preprocessing(image, bool(heads)), provenance={"format": "darknet", "architecture": path.name}
    )
    if _first_axis(sections) == "T":
        notes.append("Axis 0 is time: one sequence, run whole from a state of zeros.")
    if weights is not None:
        metadata.provenance["weights"] = Path(weights).name
    else:
        notes.append(f"There are no trained weights: they were drawn as Darknet draws them, with seed {seed}.")
    way = "read from cfg" if weights is None else "read from cfg and weights"
    return Captured(graph.finish(list(dict.fromkeys(ends)), metadata=metadata), way, tuple(notes))


def _sizes(net: Section, given: Sequence[int] | None) -> list[int]:
    sizes = [net.integer(name, 0) for name in ("channels", "height", "width")] if given is None else list(given)[1:]
    if given is None and "inputs" in net.options and not all(sizes):
        sizes = [net.integer("inputs", 0)]
    if len(sizes) not in (1, 3) or not all(type(n) is int and 0 < n <= MAX_SIZE for n in sizes):
        raise ModelError(
            f"{net.place}: got channels, height and width {sizes[:4]}, expected three from 1 to {MAX_SIZE}"
        )
    return sizes


def _first_axis(sections: list[Section]) -> str:
    return "T" if any(section.kind in RECURRENT for section in sections) else "N"


def _walk(
    sections: list[Section], image: ir.Value, graph: GraphWriter, arrays: Arrays, missing: Missing
) -> tuple[list[ir.Value], list[ir.Value], list[str]]:
    """Write all sections; return what each yields, what heads read, and notes.

    Behind a section that has no translation the rest is looked through for others, but not written: nobody knows what
    it would read.
    """
    outputs: list[ir.Value] = []
    heads: list[ir.Value] = []
    notes: list[str] = []
    is_broken = False
    for index, section in enumerate(sections):
        place = f"section {index}"
        if section.kind in HEADS:
            heads.append(outputs[-1] if outputs else image)
            outputs.append(heads[-1])
            notes.append(_note_on(section, index))
        elif section.kind not in TABLE:
            missing.add(section.kind[:40], place)
            is_broken = True
        elif not is_broken:
            layer = Layer(section, index, outputs[-1] if outputs else image, outputs, graph, arrays)
            try:
                outputs.append(_checked(TABLE[section.kind](layer), layer))
            except NotExpressible as error:
                missing.add(f"{section.kind} {error}", place)
                is_broken = True
            unread = [name for name in section.unasked if name not in _HARMLESS]
            if unread and not is_broken:
                missing.add(f"{section.kind} with {', '.join(unread)}"[:200], place)
    return outputs, heads, notes


def _note_on(section: Section, index: int) -> str:
    """Say what a head would have made of its output."""
    known = [f"{key}={section.options[key][:200]}" for key in ("classes", "mask", "anchors") if key in section.options]
    facts = f" ({', '.join(known)})" if known else ""
    return f"Section {index} ({section.kind}) decodes boxes and was left out: what it reads is an output{facts}."


def _checked(value: ir.Value, layer: Layer) -> ir.Value:
    if value.shape is None or any(size is not None and size < 1 for size in sizes_of(value)):
        raise ModelError(
            f"{layer.section.place}: section {layer.index} ({layer.section.kind}) does not fit what it reads, "
            f"{sizes_of(layer.x)}. Is the input too small?"
        )
    return value


def _preprocessing(image: ir.Value, is_detector: bool) -> Preprocessing | None:
    """Darknet divides RGB bytes by 255; classifiers resize the shorter side and crop the centre."""
    sizes = [int(n or 0) for n in sizes_of(image)[1:]]
    if len(sizes) != 3 or sizes[0] not in (1, 3):
        return None
    channels, height, width = sizes
    return Preprocessing(
        size=(height, width),
        resize=None if is_detector else max(height, width),
        color="RGB" if channels == 3 else "GRAY",
        scale=255.0,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
