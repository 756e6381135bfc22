"""`fit_file`: a weights file onto an architecture, by graph where it tells one, else by name, else by order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from portnet.errors import WeightsError
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model
from portnet.weights.convention import Convention
from portnet.weights.graphs import first_difference, fit_graph, has_step
from portnet.weights.grouped import FileLayer
from portnet.weights.keymaps import KeyMap, recognise
from portnet.weights.match import is_counter, name_arrays
from portnet.weights.order import fit_order, layers_of
from portnet.weights.report import Fit, Leftover, MatchReport
from portnet.weights.skeleton import Skeleton, Step, ancestors
from portnet.weights.steps import skeleton
from portnet.zoo.convention import follow
from portnet.zoo.define import Defined, define, placeholder
from portnet.zoo.given import Given
from portnet.zoo.registry import ZooEntry

__all__ = ["Fitted", "fit_file", "image_size"]

_REFERENCE = Convention()
_DEFAULT_CLASSES = 1000
_GUESSED = "Nobody says how its images were prepared: the reference's way is assumed."
_STREAM = "The file holds numbers alone, as many as this network has; arrays were cut from them in Darknet's order."
_EDITIONS = "Some editions (Keras', Caffe's) have a block's stride in its first convolution, at the same shapes."


@dataclass(frozen=True)
class Fitted:
    """A file's arrays as a network's.

    Attributes:
        arrays: by initializer.
        report: what went where.
        classes: count of logits that the network has.
        convention: how the network computes that the arrays are from.
        epsilons: by BatchNormalization node, where it is not the convention's.
        preprocessing: what they expect.
        labels: names of their classes, or None.
        tensor: the tensor of the file's network that the last array's step yields; "" where there is no network.
    """

    arrays: Mapping[str, np.ndarray]
    report: MatchReport
    classes: int
    convention: Convention
    epsilons: Mapping[str, float]
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    tensor: str = ""


@dataclass(frozen=True)
class _Network:
    """An architecture that arrays are to go onto."""

    entry: ZooEntry
    defined: Defined
    sized: bool = True

    @cached_property
    def skeleton(self) -> Skeleton:
        return skeleton(self.defined.model, sized=self.sized)

    @property
    def end(self) -> Step:
        return self.skeleton.outputs[0]

    @property
    def feature(self) -> Step:
        return self.skeleton.of[self.entry.feature]

    @cached_property
    def head(self) -> frozenset[str]:
        """Names of the arrays behind the feature tensor."""
        return frozenset(self.defined.parameters) - {
            slot.name for step in ancestors([self.feature]) for slot in step.slots.values()
        }

    @property
    def last_kernel(self) -> str:
        """Name of the array whose axis 0 counts the classes."""
        return [name for name, shape in self.defined.parameters.items() if len(shape) > 1][-1]

    def following(self, convention: Convention) -> _Network:
        model = self.defined.model.copy()
        follow(model.ir.graph, convention)
        return _Network(self.entry, replace(self.defined, model=model), self.sized)


def fit_file(
    entry: ZooEntry, given: Given, *, classes: int | None, size: tuple[int, int] | None, backbone_only: bool
) -> Fitted:
    """Fit what a file gives.

    Args:
        entry: the architecture.
        given: the file's arrays, and its network where it tells one.
        classes: count of logits; None for what the file has.
        size: of the images, where the user says so.
        backbone_only: whether the head is left out.

    Raises:
        WeightsError: they do not fit; the first pair that does not is named.
    """
    fit = _by_graph if given.model is not None else _by_names_or_order
    try:
        return fit(entry, given, classes, size, backbone_only)
    except WeightsError as error:
        if backbone_only or not _fits_backbone(entry, given, size):
            raise
        raise WeightsError(
            f"{error} All before the head fits: take the backbone alone (backbone_only=True, --backbone-only), as "
            "portnet.finetune does."
        ) from error


def _fits_backbone(entry: ZooEntry, given: Given, size: tuple[int, int] | None) -> bool:
    try:
        (_by_graph if given.model is not None else _by_names_or_order)(entry, given, None, size, True)
    except WeightsError:
        return False
    return True


# ---- the file tells a network


def _by_graph(
    entry: ZooEntry, given: Given, classes: int | None, size: tuple[int, int] | None, backbone_only: bool
) -> Fitted:
    model = given.model
    assert model is not None
    sizes = image_size(model)
    theirs = skeleton(model, sized=sizes is not None)
    count = classes or _class_count(theirs)
    reference = _Network(entry, define(entry, count, sizes or size or entry.size, placeholder), sizes is not None)
    convention, network = _edition(reference, theirs, backbone_only)
    end = network.feature if backbone_only else network.end
    if not has_step(theirs, end):
        raise WeightsError(
            f"{given.source} does not fit {entry.name}: {first_difference(network.skeleton, end, theirs)}."
        )
    fit = fit_graph(end, theirs, given.arrays, source=given.source, is_whole=not backbone_only)
    _check_fixed(fit, network.defined, given.source)
    key_map = recognise([match.source for match in fit.matches if match.source], entry.name)
    if key_map is not None:
        convention = replace(convention, name=key_map.convention.name)
    convention, fit = _common_epsilon(convention, fit, end)
    fitted = _fitted(network, given, fit, count, convention, key_map, backbone_only)
    return replace(fitted, tensor=[name for name, step in theirs.of.items() if step.label == end.label][-1])


def _edition(reference: _Network, theirs: Skeleton, backbone_only: bool) -> tuple[Convention, _Network]:
    """Return the edition of the architecture that computes as the file's network does, else the reference."""
    for pads_end, strides_first in itertools.product((False, True), repeat=2):
        convention = Convention("the file's", pads_end=pads_end, strides_first=strides_first)
        if not pads_end and not strides_first:
            convention, network = _REFERENCE, reference
        else:
            network = reference.following(convention)
        if has_step(theirs, network.feature if backbone_only else network.end):
            return convention, network
    return _REFERENCE, reference


def _common_epsilon(convention: Convention, fit: Fit, end: Step) -> tuple[Convention, Fit]:
    """Make an epsilon that all norms of the file's network share the convention's."""
    if not fit.epsilons:
        return convention, fit
    values = sorted(set(fit.epsilons.values()))
    norms = [step.name for step in ancestors([end]) if step.op == "BatchNorm"]
    told = ", ".join(f"{epsilon:g}" for epsilon in values)
    fit = replace(fit, notes=(*fit.notes, f"BatchNormalization has the file's epsilon, {told}."))
    if len(values) > 1 or not all(name in fit.epsilons for name in norms):
        return convention, fit
    name = "the file's" if convention == _REFERENCE else convention.name
    return replace(convention, name=name, epsilon=values[0]), replace(fit, epsilons={})


def image_size(model: Model) -> tuple[int, int] | None:
    """Return height and width of a network's only input, or None where they are free."""
    shape = model.inputs[0].shape if len(model.inputs) == 1 else None
    if shape is None or len(shape) != 4:
        return None
    height, width = shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _class_count(theirs: Skeleton) -> int:
    sizes = theirs.outputs[0].sizes if len(theirs.outputs) == 1 else None
    return sizes[0] or _DEFAULT_CLASSES if sizes and theirs.outputs[0].is_vector else _DEFAULT_CLASSES


def _check_fixed(fit: Fit, defined: Defined, source: str) -> None:
    """Refuse an array that is trained in the file's network and fixed in this one."""
    values = defined.model.weights()
    for name in defined.fixed & fit.arrays.keys():
        if not np.allclose(fit.arrays[name], values[name]):
            raise WeightsError(f"{source}: {name!r} is fixed at {values[name].flat[0]:g}, and got another value")


# ---- the file tells arrays


def _by_names_or_order(
    entry: ZooEntry, given: Given, classes: int | None, size: tuple[int, int] | None, backbone_only: bool
) -> Fitted:
    network = _Network(entry, define(entry, classes or _DEFAULT_CLASSES, size or entry.size, placeholder))
    constants = network.defined.model.ir.graph.initializers.keys() - network.defined.parameters.keys()
    # what `Model.weights` gave holds the graph's own constants too
    arrays = {name: array for name, array in given.arrays.items() if name not in constants}
    if given.is_stream:
        return _by_stream(network, given, backbone_only)
    named = (
        None
        if given.layers is not None
        else name_arrays(arrays, network.defined.parameters, network=entry.name, source=given.source)
    )
    if named is not None:
        known = named.arrays.get(network.last_kernel)
        count = classes or (known.shape[0] if known is not None and known.ndim else _DEFAULT_CLASSES)
        network = _with_classes(network, count, size)
        wanted = network.defined.parameters
        if backbone_only:
            wanted = {name: shape for name, shape in wanted.items() if name not in network.head}
        fit = named.fit(wanted, given.source, is_whole=not backbone_only)
        convention = _REFERENCE if named.key_map is None else named.key_map.convention
        return _fitted(network, given, fit, count, convention, named.key_map, backbone_only)
    counted = {name: array for name, array in arrays.items() if not is_counter(name)}
    layers = layers_of(counted, given.source) if given.layers is None else given.layers
    count = classes or _DEFAULT_CLASSES
    if classes is None and not backbone_only:
        count = _last_width(layers) or count
    network = _with_classes(network, count, size)
    end = network.feature if backbone_only else network.end
    fit = fit_order(end, layers, source=given.source, is_whole=not backbone_only)
    if network.following(Convention(strides_first=True)).end.label != network.end.label:
        fit = replace(fit, notes=(*fit.notes, _EDITIONS))
    return _fitted(network, given, fit, count, _REFERENCE, None, backbone_only)


def _by_stream(network: _Network, given: Given, backbone_only: bool) -> Fitted:
    """Fit a .weights file of Darknet, whose arrays are told apart by their count alone."""
    from portnet.formats.darknet.bare import Convolution, read_layers

    if not network.entry.published.endswith(given.path.suffix):
        raise WeightsError(
            f"{given.source}: a .weights file of Darknet holds numbers alone, expected one of a network of Darknet's. "
            "Put its .cfg beside it under the same name."
        )
    end = network.feature if backbone_only else network.end
    steps = ancestors([end])
    normalised = {step.inputs[0] for step in steps if step.op == "BatchNorm"}
    kernels = [
        Convolution(network.defined.parameters[step.slots["weight"].name], step in normalised)
        for step in steps
        if "weight" in step.slots
    ]
    layers = read_layers(given.path, kernels, is_whole=not backbone_only)
    fit = fit_order(end, layers, source=given.source, is_whole=not backbone_only)
    classes = network.defined.parameters[network.last_kernel][0]
    fit = replace(fit, way=_STREAM)
    return _fitted(network, given, fit, classes, _REFERENCE, None, backbone_only)


def _with_classes(network: _Network, classes: int, size: tuple[int, int] | None) -> _Network:
    if classes == network.defined.parameters[network.last_kernel][0]:
        return network
    return _Network(network.entry, define(network.entry, classes, size or network.entry.size, placeholder))


def _last_width(layers: Sequence[FileLayer]) -> int | None:
    """Return the count of channels that a file's last kernel yields."""
    kernels = [
        (array.shape, layer.channels_last)
        for layer in layers
        for role, (_, array) in layer.arrays.items()
        if role == "weight" and array.ndim > 1
    ]
    if not kernels:
        return None
    shape, channels_last = kernels[-1]
    return int(shape[-1] if channels_last else shape[0])


# ---- the result


def _fitted(
    network: _Network,
    given: Given,
    fit: Fit,
    classes: int,
    convention: Convention,
    key_map: KeyMap | None,
    backbone_only: bool,
) -> Fitted:
    parameters = network.defined.parameters
    arrays = {name: array.reshape(parameters[name]) for name, array in fit.arrays.items()}
    metadata = given.carried if given.model is None else given.model.metadata
    preprocessing = (key_map and key_map.preprocessing) or (metadata and metadata.preprocessing)
    labels = None if metadata is None or backbone_only else metadata.labels
    unfilled = tuple(
        Leftover(name, shape, "drawn: the head was left out")
        for name, shape in parameters.items()
        if name not in arrays
    )
    is_told = preprocessing is not None or key_map is not None
    notes = fit.notes if is_told else (*fit.notes, _GUESSED)
    if convention.pads_end:
        notes = (*notes, "Strided convolutions pad even sizes at their end alone, as in the file's network.")
    if convention.strides_first:
        notes = (*notes, "A block has its stride in its first convolution, as in the file's network.")
    report = MatchReport(network.entry.name, given.source, fit.way, fit.matches, fit.unused, unfilled, notes)
    return Fitted(
        arrays,
        report,
        classes,
        convention,
        fit.epsilons,
        preprocessing or Preprocessing(size=network.entry.size),
        labels if labels is not None and len(labels) == classes else None,
    )
