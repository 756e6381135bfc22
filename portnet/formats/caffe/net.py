"""The layers of a network as they run in inference: which of them, in which order, and what each reads.

From a prototxt of any edition: files to deploy and files to train from, layers of today and of Caffe's first version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from portnet.errors import ModelError
from portnet.formats.caffe.layers import TABLE
from portnet.formats.caffe.text import Message

__all__ = ["DATA_KINDS", "Ref", "Spec", "layers_of", "live_layers"]

MAX_LAYERS = 20_000

# V1LayerParameter.LayerType: number → name, type of today
_V1 = {
    **{1: ("ACCURACY", "Accuracy"), 2: ("BNLL", "BNLL"), 3: ("CONCAT", "Concat"), 4: ("CONVOLUTION", "Convolution")},
    **{5: ("DATA", "Data"), 6: ("DROPOUT", "Dropout"), 7: ("EUCLIDEAN_LOSS", "EuclideanLoss")},
    **{8: ("FLATTEN", "Flatten"), 9: ("HDF5_DATA", "HDF5Data"), 10: ("HDF5_OUTPUT", "HDF5Output")},
    **{11: ("IM2COL", "Im2col"), 12: ("IMAGE_DATA", "ImageData"), 13: ("INFOGAIN_LOSS", "InfogainLoss")},
    **{14: ("INNER_PRODUCT", "InnerProduct"), 15: ("LRN", "LRN"), 17: ("POOLING", "Pooling"), 18: ("RELU", "ReLU")},
    **{16: ("MULTINOMIAL_LOGISTIC_LOSS", "MultinomialLogisticLoss"), 19: ("SIGMOID", "Sigmoid")},
    **{20: ("SOFTMAX", "Softmax"), 21: ("SOFTMAX_LOSS", "SoftmaxWithLoss"), 22: ("SPLIT", "Split")},
    **{23: ("TANH", "TanH"), 24: ("WINDOW_DATA", "WindowData"), 25: ("ELTWISE", "Eltwise"), 26: ("POWER", "Power")},
    **{27: ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"), 28: ("HINGE_LOSS", "HingeLoss")},
    **{29: ("MEMORY_DATA", "MemoryData"), 30: ("ARGMAX", "ArgMax"), 31: ("THRESHOLD", "Threshold")},
    **{32: ("DUMMY_DATA", "DummyData"), 33: ("SLICE", "Slice"), 34: ("MVN", "MVN"), 35: ("ABSVAL", "AbsVal")},
    **{36: ("SILENCE", "Silence"), 37: ("CONTRASTIVE_LOSS", "ContrastiveLoss"), 38: ("EXP", "Exp")},
    39: ("DECONVOLUTION", "Deconvolution"),
}
# types of forks in files of the first version: the name in capitals
_FORKS = {re.sub("[^A-Z0-9]", "", kind.upper()): kind for kind in TABLE}
_V1_KINDS = {key: kind for number, (name, kind) in _V1.items() for key in (str(number), name)}
# layers that read images and labels from a disk
_DISK_KINDS = frozenset({"Data", "ImageData", "HDF5Data", "WindowData", "MemoryData", "AnnotatedData", "Source"})
# any other layer that reads nothing: a user's own code in most cases
OTHER_SOURCE = "Source"
DATA_KINDS = _DISK_KINDS | {"Input", "DummyData", OTHER_SOURCE}
# layers that only training and its reports need
_LOSS_KINDS = frozenset(
    {
        *("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss"),
        *("MultinomialLogisticLoss", "ContrastiveLoss", "SmoothL1Loss", "TripletLoss", "CenterLoss"),
        "MultiBoxLoss",
    }
)
# losses that judge all that they read
_PAIR_KINDS = frozenset({"ContrastiveLoss", "TripletLoss", "MultiBoxLoss"})
# layers that make boxes of what they read, which are outputs of the captured network
_BOX_KINDS = frozenset({"DetectionOutput"})
_REPORT_KINDS = frozenset({"Accuracy", "Silence", "HDF5Output", "DetectionEvaluate"}) | _BOX_KINDS
# layers whose second bottom tells where sequences begin
_RECURRENT_KINDS = frozenset({"LSTM", "RNN"})


@dataclass(frozen=True)
class Ref:
    """One of a layer's outputs, by the layer's place in the file and the output's among its tops."""

    layer: int
    top: int


@dataclass
class Spec:
    """A layer.

    Attributes:
        name: its name, which its arrays bear too.
        kind: its type as Caffe calls it today.
        tops: names of its outputs.
        message: all that the file says of it.
        bottoms: what it reads.
    """

    name: str
    kind: str
    tops: list[str]
    message: Message
    bottoms: list[Ref] = field(default_factory=list)


# ---- the file as a list of layers


def layers_of(net: Message) -> list[Spec]:
    """Return the layers that run when a network is tested, each with what it reads.

    Layers may write over what they read; a reference tells the two apart.

    Raises:
        ModelError: no layers, layers of V0, or one that reads what no layer before it wrote.
    """
    specs = [*_declared_inputs(net), *(_spec(layer, version) for version, layer in _messages(net))]
    if len(specs) > MAX_LAYERS:
        raise ModelError(f"{net.source}: got {len(specs)} layers, expected at most {MAX_LAYERS}. Refused.")
    if all(spec.kind in DATA_KINDS for spec in specs):
        raise ModelError(f"{net.source}: got no layers, expected a prototxt of a network")
    newest: dict[str, Ref] = {}
    for index, spec in enumerate(specs):
        for place, bottom in enumerate(spec.message.strings("bottom")):
            if place == 1 and spec.kind in _RECURRENT_KINDS:
                continue
            if bottom not in newest:
                raise ModelError(f"{net.source}: layer {spec.name!r} reads {bottom!r}, which no layer before it writes")
            spec.bottoms.append(newest[bottom])
        newest.update({top: Ref(index, place) for place, top in enumerate(spec.tops)})
    return specs


def _messages(net: Message) -> Iterator[tuple[int, Message]]:
    """Yield the layers of the test phase, with the edition that they are written in."""
    found = [(2, layer) for layer in net.messages("layer")] or [(1, layer) for layer in net.messages("layers")]
    for version, layer in found:
        if version == 1 and "layer" in layer:
            raise ModelError(
                f"{net.source}, line {layer.line}: layers of Caffe's version 0 are not read. "
                "Bring the file up to date with Caffe's upgrade_net_proto_text."
            )
    tested = [each for each in found if _is_tested(each[1])]
    if not any(_spec(layer, version).kind in DATA_KINDS for version, layer in tested) and "input" not in net:
        # each data layer of the file asks for a stage: one stands for all
        tested = [each for each in found if _spec(each[1], each[0]).kind in DATA_KINDS][:1] + tested
    yield from tested


def _is_tested(layer: Message) -> bool:
    include, exclude = layer.messages("include"), layer.messages("exclude")
    if include:
        return any(map(_matches, include))
    return not any(map(_matches, exclude))


def _matches(rule: Message) -> bool:
    """Whether a NetStateRule holds in phase TEST, level 0, with no stages."""
    phase = rule.word("phase", "TEST", ("TRAIN", "TEST"))
    is_level = rule.integer("min_level", 0) <= 0 <= rule.integer("max_level", 0)
    return phase == "TEST" and is_level and not rule.strings("stage")


def _spec(layer: Message, version: int) -> Spec:
    kind = layer.string("type")
    if version == 1:
        kind = _V1_KINDS.get(kind) or _FORKS.get(re.sub("[^A-Z0-9]", "", kind.upper()), kind)
    if kind not in DATA_KINDS and kind not in TABLE and "bottom" not in layer and "top" in layer:
        kind = OTHER_SOURCE
    return Spec(layer.string("name"), kind, layer.strings("top"), layer)


def _declared_inputs(net: Message) -> Iterator[Spec]:
    """Yield the inputs that old files declare beside the layers, as layers that say the same."""
    names = net.strings("input")
    shapes = [shape.integers("dim") for shape in net.messages("input_shape")]
    dims = net.integers("input_dim")
    if not shapes and dims:
        shapes = [dims[at : at + 4] for at in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(names):
        raise ModelError(f"{net.source}: got {len(names)} inputs and {len(shapes)} shapes, expected one for each")
    for index, name in enumerate(names):
        message = Message(net.source)
        if shapes:
            message.fields["input_param"] = [Message(net.source, fields={"shape": [_shape(net.source, shapes[index])]})]
        yield Spec(name, "Input", [name], message)


def _shape(source: str, sizes: Sequence[int]) -> Message:
    from portnet.formats.caffe.text import Scalar

    return Message(source, fields={"dim": [Scalar(str(size), False, 1) for size in sizes]})


# ---- what of it matters in inference


def live_layers(specs: list[Spec]) -> tuple[list[int], list[Ref], list[str]]:
    """Return which layers inference needs, the network's outputs, and notes on what was left out.

    Losses and reports are left out: what a loss judges is an output. A loss of less weight than another judges an
    auxiliary classifier, which is left out with it. What depends on labels alone is no output.
    """
    dropped = _for_training(specs)
    auxiliary = _auxiliary(specs)
    silenced = {ref for spec in specs if spec.kind == "Silence" for ref in spec.bottoms} | _targets(specs)
    read = {ref for index, spec in enumerate(specs) if index not in dropped for ref in spec.bottoms}
    seeing = _seeing(specs)
    outputs = [
        ref
        for index, spec in enumerate(specs)
        if index in seeing and index not in dropped and spec.kind not in DATA_KINDS
        for ref in (Ref(index, place) for place in range(len(spec.tops)))
        if ref not in read | silenced and ref not in auxiliary
    ]
    live = _ancestors(specs, {ref.layer for ref in outputs})
    return sorted(live), outputs, list(_notes(specs, dropped, auxiliary))


def _for_training(specs: list[Spec]) -> set[int]:
    """Return losses and reports: also those of types not known here, told by what they read and who reads them.

    One that reads labels, is called a loss or has a loss's weight, and whose results only such layers read.
    """
    readers: dict[int, list[int]] = {}
    for index, spec in enumerate(specs):
        for ref in spec.bottoms:
            readers.setdefault(ref.layer, []).append(index)
    dropped: set[int] = set()
    for index in range(len(specs) - 1, -1, -1):
        spec = specs[index]
        if spec.kind in _LOSS_KINDS | _REPORT_KINDS:
            dropped.add(index)
        elif spec.kind not in TABLE and spec.kind not in DATA_KINDS:
            is_told = any(ref.top > 0 and specs[ref.layer].kind in _DISK_KINDS for ref in spec.bottoms)
            is_told |= "loss_weight" in spec.message or spec.kind.endswith("Loss")
            if is_told and dropped.issuperset(readers.get(index, [])):
                dropped.add(index)
    return dropped


def _auxiliary(specs: list[Spec]) -> dict[Ref, str]:
    """Return what the lighter losses judge, with the losses' names."""
    weights = {
        spec.name: (spec.message.numbers("loss_weight") or [1.0])[0] for spec in specs if spec.kind in _LOSS_KINDS
    }
    most = max(weights.values(), default=0)
    return {
        spec.bottoms[0]: spec.name
        for spec in specs
        if spec.kind in _LOSS_KINDS and spec.bottoms and weights[spec.name] < most
    }


def _targets(specs: list[Spec]) -> set[Ref]:
    """Return what losses compare with: their second bottom, unless that is what the network computes."""
    return {
        spec.bottoms[1]
        for spec in specs
        if spec.kind in _LOSS_KINDS - _PAIR_KINDS
        and len(spec.bottoms) > 1
        and specs[spec.bottoms[0].layer].kind not in DATA_KINDS
    }


def _seeing(specs: list[Spec]) -> set[int]:
    """Return the layers that depend on more than labels, which a layer that reads a disk yields after its first top."""
    seeing: set[int] = set()
    for index, spec in enumerate(specs):
        if spec.kind in DATA_KINDS or any(
            ref.layer in seeing and not (ref.top > 0 and specs[ref.layer].kind in _DISK_KINDS) for ref in spec.bottoms
        ):
            seeing.add(index)
    return seeing


def _ancestors(specs: list[Spec], wanted: set[int]) -> set[int]:
    live = set(wanted)
    for index in range(len(specs) - 1, -1, -1):
        if index in live:
            live.update(ref.layer for ref in specs[index].bottoms)
    return live


def _notes(specs: list[Spec], dropped: set[int], auxiliary: dict[Ref, str]) -> Iterator[str]:
    losses = [specs[i] for i in sorted(dropped) if specs[i].kind in _LOSS_KINDS and specs[i].bottoms]
    for spec in losses:
        judged = specs[spec.bottoms[0].layer].name
        if spec.bottoms[0] in auxiliary:
            yield f"{spec.kind} {spec.name!r} and its auxiliary classifier {judged!r} were left out."
        else:
            yield f"{spec.kind} {spec.name!r} was left out; the network ends in what it judges, {judged!r}."
    for spec in specs:
        if spec.kind in _BOX_KINDS:
            reads = ", ".join(repr(specs[ref.layer].name) for ref in spec.bottoms)
            yield f"{spec.kind} {spec.name!r} decodes boxes and was left out: what it reads are outputs ({reads})."
        if spec.kind in _RECURRENT_KINDS:
            yield f"{spec.kind} {spec.name!r}: axis 0 is time, axis 1 the batch, and each sequence is whole."
    others = [i for i in sorted(dropped) if specs[i].kind not in _LOSS_KINDS | _REPORT_KINDS]
    reports = [specs[i].name for i in sorted(dropped) if specs[i].kind == "Accuracy"]
    for index in others:
        yield f"{specs[index].kind} {specs[index].name!r} is for training and was left out."
    if reports:
        yield f"Reports were left out: {', '.join(reports)}."
