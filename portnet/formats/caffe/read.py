"""`read`: a prototxt and a caffemodel become a `Model`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from portnet.errors import InputError, ModelError
from portnet.formats.caffe import mean
from portnet.formats.caffe.arrays import Arrays
from portnet.formats.caffe.inputs import InputShape, input_sizes, mean_file_of, preprocessing_of
from portnet.formats.caffe.layers import TABLE, Layer, NotExpressible
from portnet.formats.caffe.net import DATA_KINDS, Ref, Spec, layers_of, live_layers
from portnet.formats.caffe.text import parse
from portnet.formats.caffe.weights import read_caffemodel
from portnet.formats.captured import Captured, Missing
from portnet.formats.writer import GraphWriter, sizes_of
from portnet.graph.metadata import Metadata, Preprocessing

__all__ = ["read"]


def read(
    prototxt: str | os.PathLike[str],
    caffemodel: str | os.PathLike[str] | None = None,
    *,
    input_shape: InputShape = None,
    keep_layout: bool = False,
    seed: int = 0,
) -> Captured:
    """Read a network of Caffe, without Caffe.

    Files to deploy and files to train from are read; of the latter, the layers of the test phase, without losses and
    reports. Tensors are (N, C, H, W) float32 with the batch free. A node and its tensor are named after the layer,
    arrays ``layer.weight``, ``layer.bias``, ``layer.running_mean`` and ``layer.running_var``. A BatchNorm and the
    Scale behind it become one BatchNormalization, named after the Scale.

    >>> captured = portnet.formats.caffe.read("deploy.prototxt", "net.caffemodel")  # doctest: +SKIP

    Args:
        prototxt: the architecture.
        caffemodel: its arrays, in protobuf or HDF5; None draws them as the file's fillers say, with statistics of mean
            0 and variance 1.
        input_shape: sizes, batch first, of the only input, or by an input's name; where the file does not tell them,
            or to replace what it tells. The batch stays free.
        keep_layout: without effect: Caffe's channels are first already.
        seed: of what is drawn.

    Raises:
        UnsupportedError: names every layer that has no translation.
        WeightsError: arrays that are missing, broken or of another shape; the first is named.
        ModelError: a prototxt that is broken.
        InputError: sizes that nobody tells.
    """
    path = Path(prototxt)
    net = parse(path)
    specs = layers_of(net)
    blobs = None if caffemodel is None else read_caffemodel(Path(caffemodel))
    arrays = Arrays(str(path if caffemodel is None else caffemodel), blobs, seed)
    live, outputs, notes = live_layers(specs)
    walk = _Walk(str(path), specs, GraphWriter(net.string("name") or path.stem), arrays, input_shape)
    for index in live:
        walk.layer(index)
    walk.missing.raise_if_any()
    if not outputs:
        raise ModelError(f"{path}: got no output, expected a network that computes something from its input")
    names = [ref for ref in dict.fromkeys(outputs) if ref in walk.values]
    metadata = Metadata(preprocessing=walk.preprocessing, provenance={"format": "caffe", "architecture": path.name})
    if caffemodel is not None:
        metadata.provenance["weights"] = Path(caffemodel).name
    model = walk.graph.finish([_known(walk.values[ref]) for ref in names], metadata=metadata)
    way = "read from prototxt" if caffemodel is None else "read from prototxt and caffemodel"
    return Captured(model, way, tuple(notes + walk.notes + _notes_on(arrays, seed)))


@dataclass
class _Walk:
    """Writes layer after layer onto the graph.

    Attributes:
        source: what the architecture is called in messages.
        specs: all layers.
        graph: the graph.
        arrays: what layers get their arrays from.
        input_shape: what the caller says.
        values: the tensors written so far; None for one that has no translation.
        missing: what has no translation.
        preprocessing: how images become the first input.
        notes: what the user must know.
    """

    source: str
    specs: list[Spec]
    graph: GraphWriter
    arrays: Arrays
    input_shape: InputShape
    values: dict[Ref, ir.Value | None] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    batch: int | None = None
    preprocessing: Preprocessing | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = Missing(self.source)
        self._readers: dict[Ref, list[int]] = {}
        for index, spec in enumerate(self.specs):
            for ref in spec.bottoms:
                self._readers.setdefault(ref, []).append(index)
        self._merged: set[int] = set()
        self._check_input_shape()

    def layer(self, index: int) -> None:
        """Write a layer, or note that it has no translation."""
        spec = self.specs[index]
        if spec.kind in DATA_KINDS:
            self._inputs(index, spec)
        elif index not in self._merged:
            refs = [Ref(index, place) for place in range(len(spec.tops))]
            self.values.update(dict.fromkeys(refs))
            self._write(index, spec, refs)

    # ---- inputs

    def _inputs(self, index: int, spec: Spec) -> None:
        for place, name in enumerate(spec.tops):
            ref = Ref(index, place)
            if ref not in self._readers or not any(self._is_live(reader) for reader in self._readers[ref]):
                continue
            sizes, batch = input_sizes(spec, place, self.input_shape)
            self.batch = batch if self.batch is None else self.batch
            self.values[ref] = self.graph.input(name, ["N", *sizes])
            if place == 0 and self.preprocessing is None:
                self.preprocessing, notes = self._preprocessing(spec, sizes)
                self.notes += notes

    def _preprocessing(self, spec: Spec, sizes: list[int]) -> tuple[Preprocessing | None, list[str]]:
        """Return how images become an input; the mean image is read where it lies beside the prototxt."""
        path = Path(self.source)
        found = mean.beside(path, mean_file_of(spec))
        if found is not None and len(sizes) == 3:
            return preprocessing_of(spec, sizes, mean.means_of(found, sizes[0]))
        return mean.of_deployed(path, spec, sizes) if spec.kind == "Input" else preprocessing_of(spec, sizes)

    def _is_live(self, index: int) -> bool:
        return self.specs[index].kind in TABLE

    def _check_input_shape(self) -> None:
        if not isinstance(self.input_shape, Mapping):
            return
        known = [top for spec in self.specs if spec.kind in DATA_KINDS for top in spec.tops]
        for name in self.input_shape:
            if name not in known:
                raise InputError(f"input_shape: got input {name!r}, expected {' or '.join(map(repr, known))}")

    # ---- layers

    def _write(self, index: int, spec: Spec, refs: list[Ref]) -> None:
        if spec.kind not in TABLE:
            self.missing.add(spec.kind or "a layer without a type", spec.name)
            return
        bottoms = [self.values.get(ref) for ref in spec.bottoms]
        if None in bottoms:
            return  # what it reads is missing itself
        layer = self._layer_of(spec, [value for value in bottoms if value is not None])
        if spec.kind == "BatchNorm":
            refs = self._merge_scale(index, layer, refs)
        try:
            written = TABLE[spec.kind](layer)
        except NotExpressible as error:
            self.missing.add(f"{spec.kind} {error}", spec.name)
            return
        unread = layer.unread() + (layer.scale.unread() if layer.scale else [])
        if unread:
            self.missing.add(f"{spec.kind} with {', '.join(unread)}", spec.name)
        self._keep(layer, [written] if isinstance(written, ir.Value) else list(written), refs)

    def _layer_of(self, spec: Spec, bottoms: list[ir.Value]) -> Layer:
        return Layer(
            name=spec.name or spec.kind,
            kind=spec.kind,
            message=spec.message,
            bottoms=bottoms,
            tops=len(spec.tops),
            graph=self.graph,
            arrays=self.arrays,
            owners=self.owners,
            batch=self.batch,
            notes=self.notes,
        )

    def _merge_scale(self, index: int, layer: Layer, refs: list[Ref]) -> list[Ref]:
        """Give a BatchNorm the Scale that alone reads it, and return whose outputs it then writes."""
        readers = self._readers.get(Ref(index, 0), [])
        if len(readers) != 1 or len(refs) != 1:
            return refs
        scale = self.specs[readers[0]]
        options = scale.message.message("scale_param")
        is_usual = options.integer("axis", 1) == 1 and options.integer("num_axes", 1) == 1
        if scale.kind != "Scale" or len(scale.bottoms) != 1 or len(scale.tops) != 1 or not is_usual:
            return refs
        layer.scale = self._layer_of(scale, layer.bottoms)
        self._merged.add(readers[0])
        return [Ref(readers[0], 0)]

    def _keep(self, layer: Layer, written: list[ir.Value], refs: list[Ref]) -> None:
        if len(written) != len(refs):
            raise ModelError(f"{self.source}: layer {layer.name!r} got {len(refs)} tops, expected {len(written)}")
        for ref, value in zip(refs, written, strict=True):
            if value.shape is None or any(size is not None and size < 1 for size in sizes_of(value)):
                shapes = ", ".join(str(sizes_of(x)) for x in layer.bottoms)
                raise ModelError(
                    f"{self.source}: layer {layer.name!r} ({layer.kind}) does not fit what it reads, {shapes}. "
                    "Is the input too small?"
                )
            self.values[ref] = value


def _known(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _notes_on(arrays: Arrays, seed: int) -> list[str]:
    notes = []
    if arrays.is_drawn:
        notes.append(f"There are no trained weights: they were drawn as the file's fillers say, with seed {seed}.")
    if arrays.zeros:
        notes.append(f"The file names no filler for the weights of {', '.join(arrays.zeros)}: they are zeros.")
    unused = arrays.unused()
    if unused:
        notes.append(f"Arrays of layers that inference does not need were left out: {', '.join(unused)}.")
    return notes
