"""A Keras network's configuration and arrays → `Model`, without Keras."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet.errors import ModelError, PortNetError
from portnet.formats.captured import Captured, Missing
from portnet.formats.keras.config import LayerConfig, NetworkConfig, Ref, parse_layer, parse_network
from portnet.formats.keras.held import Held, channels_first, identity
from portnet.formats.keras.layers.activation import ACTIVATIONS, activation_name
from portnet.formats.keras.node import Place
from portnet.formats.keras.registry import TABLE
from portnet.formats.keras.supply import Supply
from portnet.formats.keras.walk import BROKEN, Walk
from portnet.formats.writer import GraphWriter
from portnet.graph.metadata import Metadata
from portnet.graph.model import Model
from portnet.graph.parameters import mark_learned
from portnet.graph.passes.tidy import remove_unused

__all__ = ["Translation", "is_translated", "translate", "unknown_kinds"]

_DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "int8", "bool")
# 2D layers: an image is channels first in ONNX
_IMAGE_RANKS = (4, 5)
_SEQUENCE_KINDS = ("Conv1D", "SeparableConv1D", "DepthwiseConv1D", "MaxPooling1D", "AveragePooling1D", "Convolution1D")
_PASSING = ("ZeroPadding1D", "BatchNormalization", "Activation", "Dropout", "Rescaling", "Normalization")


@dataclass(frozen=True)
class Translation:
    """A translated network, and how to find it again in Keras.

    Attributes:
        captured: what the user gets.
        inputs: for each input, axis i of the tensor is Keras's axis ``order[i]``.
        outputs: likewise.
        places: by tensor, where in Keras it is.
    """

    captured: Captured
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    places: dict[str, Place]


def translate(
    document: Mapping[str, Any],
    *,
    make_supply: Callable[[NetworkConfig], Supply],
    way: str,
    source: str = "",
    keras2: bool = False,
    keep_layout: bool = False,
    dynamic_batch: bool = True,
    trusted: bool = False,
) -> Translation:
    """Translate ``{"class_name": ..., "config": ...}``.

    Args:
        document: Keras's configuration, as plain data.
        make_supply: returns the arrays of a network.
        way: see `Captured`.
        source: what messages call the network; None for its own name.
        keras2: whether it was Keras 2's.
        keep_layout: whether images stay channels last at the border.
        dynamic_batch: whether the batch stays free.
        trusted: whether the configuration is a living network's, which cannot be broken: then what goes wrong is a bug
            of ours, and is raised as it is. A file's configuration may be anything, so that an operation on what it
            holds may fail.

    Raises:
        ModelError: the configuration is broken.
        WeightsError: arrays that are missing or do not fit.
        UnsupportedError: names every layer that has no translation.
    """
    try:
        network = parse_network(document)
        missing = Missing(source or network.name)
        for kind, place in unknown_kinds(network):
            missing.add(kind, place)
        missing.raise_if_any()
        return _translated(network, make_supply(network), missing, way, keras2, keep_layout, dynamic_batch, trusted)
    except PortNetError:
        raise
    except RecursionError as error:
        raise ModelError(f"{source or 'configuration'}: nested too deep. Refused.") from error
    except BROKEN as error:
        if trusted:
            raise
        text = " ".join(str(error).split())
        raise ModelError(f"{source or 'configuration'} is broken: {type(error).__name__}: {text}") from error


def is_translated(kind: str) -> bool:
    """Whether layers of a kind, or at least some of them, have a translation."""
    return kind in TABLE


def unknown_kinds(network: NetworkConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield kind and place of every layer, and activation inside a layer, that has no translation."""
    for layer in network.layers:
        yield from _unknown(layer, (*path, layer.name))


def _unknown(layer: LayerConfig, here: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if layer.network is not None:
        yield from unknown_kinds(layer.network, here)
    elif layer.kind != "InputLayer" and layer.kind not in TABLE:
        yield _named(layer), "/".join(here)
    elif layer.kind in ("TimeDistributed", "SpectralNormalization"):
        yield from _unknown(parse_layer(layer.options.get("layer")), here)
    elif layer.kind != "InputLayer" and _unknown_activation(layer):
        yield f"{layer.kind} with activation {activation_name(layer.options.get('activation'))!r}", "/".join(here)


def _named(layer: LayerConfig) -> str:
    if layer.kind == "Lambda":
        return "Lambda, whose code is not run"
    return layer.kind if layer.kind.isprintable() else repr(layer.kind)


def _unknown_activation(layer: LayerConfig) -> bool:
    spec = layer.options.get("activation")
    if isinstance(spec, Mapping) and spec.get("class_name") in TABLE:
        return False
    return activation_name(spec) not in ACTIVATIONS


def _translated(
    network: NetworkConfig,
    supply: Supply,
    missing: Missing,
    way: str,
    keras2: bool,
    keep_layout: bool,
    dynamic_batch: bool,
    trusted: bool,
) -> Translation:
    walk = Walk(GraphWriter(network.name), supply, missing, keras2, trusted)
    inputs = [_input(walk, network, ref, keep_layout, dynamic_batch) for ref in network.inputs]
    results = walk.network(network, inputs)
    missing.raise_if_any()
    sequences = any(held.rank == 3 and held.order != identity(3) for held in inputs)
    outputs = [_output(walk, held, keep_layout, sequences) for held in results if held is not None]
    if not outputs:
        raise ModelError(f"network {network.name!r}: got no outputs, expected one or more")
    model = walk.writer.finish([held.value for held in outputs], metadata=Metadata())
    remove_unused(model.ir)
    mark_learned(model.ir, {value.name or "" for value in walk.learned})
    model.metadata.provenance |= _frozen(walk, model)
    notes = [*walk.notes, *walk.left_out()]
    unread = supply.unread()
    if unread:
        notes.append(f"{len(unread)} arrays belong to no layer of the network, the first is {unread[0]!r}.")
    captured = Captured(model, way, tuple(notes))
    return Translation(captured, [x.order for x in inputs], [y.order for y in outputs], walk.places)


def _frozen(walk: Walk, model: Model) -> dict[str, Any]:
    """Return what layers keep from training, as lists of names; nothing where all train."""
    kept = model.ir.graph.initializers
    found = {
        kind: list(dict.fromkeys(v.name for v in values if v.name in kept)) for kind, values in walk.frozen.items()
    }
    found = {kind: names for kind, names in found.items() if names}
    return {"frozen": found} if found else {}


def _input(walk: Walk, network: NetworkConfig, ref: Ref, keep_layout: bool, dynamic_batch: bool) -> Held:
    """Add an input; an image is channels first unless the network has it so already, or the user wants it as it is."""
    layer = next((layer for layer in network.layers if layer.name == ref.layer), None)
    options = layer.options if layer is not None else {}
    shape = options.get("batch_shape", options.get("batch_input_shape"))
    if not isinstance(shape, (list, tuple)) or not shape or not all(n is None or _is_size(n) for n in shape):
        raise ModelError(f"input {ref.layer!r}: got shape {str(shape)[:60]}, expected a list of sizes")
    dtype = _dtype(options.get("dtype", "float32"), ref.layer)
    order = identity(len(shape))
    if not keep_layout and _wants_channels_first(network, ref, len(shape)):
        order = channels_first(len(shape))
        if len(shape) == 5 and _kinds_after(network, ref) & {"TimeDistributed"}:
            order = (0, 1, 4, 2, 3)
    sizes: list[int | str | None] = [n if n is not None else f"{ref.layer}_{axis}" for axis, n in enumerate(shape)]
    if dynamic_batch:
        sizes[0] = "N"
    elif shape[0] is None:
        sizes[0] = 1
    value = walk.writer.input(ref.layer, [sizes[axis] for axis in order], dtype)
    return Held(value, order)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _dtype(value: Any, name: str) -> np.dtype:
    if isinstance(value, Mapping):
        inner = value.get("config") or {}
        value = inner.get("name", "float32") if isinstance(inner, Mapping) else inner
    if not isinstance(value, str) or value not in _DTYPES:
        raise ModelError(f"input {name!r}: got element type {str(value)[:60]!r}, expected one of {', '.join(_DTYPES)}")
    return np.dtype(value)


def _wants_channels_first(network: NetworkConfig, ref: Ref, rank: int) -> bool:
    if any(_data_format(layer) == "channels_first" for layer in _all_layers(network)):
        return False
    return rank in _IMAGE_RANKS or (rank == 3 and bool(_kinds_after(network, ref) & set(_SEQUENCE_KINDS)))


def _all_layers(network: NetworkConfig) -> Iterator[LayerConfig]:
    for layer in network.layers:
        yield layer
        if layer.network is not None:
            yield from _all_layers(layer.network)


def _data_format(layer: LayerConfig) -> Any:
    return layer.options.get("data_format")


def _kinds_after(network: NetworkConfig, ref: Ref) -> set[str]:
    """Return the kinds of layers that read an input, those that do not care for order passed over."""
    readers: dict[str, list[LayerConfig]] = {}
    for layer in network.layers:
        for call in layer.calls:
            for read in call.refs():
                readers.setdefault(read.layer, []).append(layer)
    kinds: set[str] = set()
    pending, seen = [ref.layer], {ref.layer}
    while pending:
        for layer in readers.get(pending.pop(), []):
            kinds.add(layer.kind)
            if layer.kind in _PASSING and layer.name not in seen:
                seen.add(layer.name)
                pending.append(layer.name)
            if layer.network is not None:
                kinds |= _kinds_after(layer.network, layer.network.inputs[0])
    return kinds


def _output(walk: Walk, held: Held, keep_layout: bool, sequences: bool) -> Held:
    """Return an output as it lies if that is channels first, else as Keras has it."""
    first = channels_first(held.rank)
    ranks: Collection[int] = (3, 4, 5) if sequences else _IMAGE_RANKS
    keeps = held.packing is None and not keep_layout and held.rank in ranks and held.order == first
    if keeps:
        return held
    name = held.value.name or ""
    plain = walk.plain(held)
    if plain.value is not held.value and name in walk.places:
        # the output bears the layer's name, what it was made from another
        place = walk.places.pop(name)
        walk.writer.rename(held.value, f"{name}/channels_first")
        plain.value.name = name
        producer = plain.value.producer()
        assert producer is not None
        producer.name = name
        walk.places[held.value.name or ""] = place
        walk.places[name] = Place(place.path, place.call, place.output, plain.order)
    return plain
