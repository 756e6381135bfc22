"""`fit_order`: arrays whose names say nothing of the network, by their shapes and their order in the file.

A file lists a network's layers in an order in which it could compute them: none before those that it reads. So the next
layer of the file is one whose inputs are all filled. Where several of those have its shapes, as the last convolution
and the projection of a residual block may, only a word such as "downsample" in a name decides; else nothing does, and
the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.grouped import FileLayer, group, is_sorted
from portnet.weights.report import Fit, Leftover, Match
from portnet.weights.skeleton import Slot, Step, ancestors

__all__ = ["fit_order", "layers_of"]

_WAY = "Names tell roles alone; arrays were taken in the file's order, each onto the only layer that could come next."
_BLIND = "Shapes and order tell neither strides nor padding nor epsilon: compare outputs with the file's own network."
_PROJECTION = re.compile(r"downsample|shortcut|projection|residual|skip", re.IGNORECASE)
_FILLS = {"bias": 0.0, "beta": 0.0, "gamma": 1.0}
_WHOLE = "Give the file of the whole network (.onnx, .keras, -symbol.json, .prototxt, .pt2), whose graph tells it."


def layers_of(arrays: Mapping[str, np.ndarray], source: str) -> list[FileLayer]:
    """Return a file's arrays as layers.

    Raises:
        WeightsError: names that tell no roles, or an order that is the alphabet's.
    """
    layers, nameless = group(arrays)
    if nameless:
        raise WeightsError(
            f"{source}: got {nameless[0]!r} {tuple(arrays[nameless[0]].shape)}, a name that tells neither layer nor "
            f"role, expected such as conv1.weight or bn1/gamma. {_WHOLE}"
        )
    if is_sorted(arrays):
        raise WeightsError(
            f"{source}: its names are none of the network's, and its arrays lie in the order of the alphabet, which "
            f"tells nothing of the network. {_WHOLE}"
        )
    return layers


def fit_order(end: Step, layers: Sequence[FileLayer], *, source: str, is_whole: bool) -> Fit:
    """Return arrays for all that ``end`` depends on.

    Args:
        end: step of the network that the arrays go onto, to fill up to.
        layers: a file's layers, in its order.
        source: what to call it in messages.
        is_whole: whether an array that goes nowhere is an error.

    Raises:
        WeightsError: shapes or order that do not fit, the first pair named; an order that leaves several ways.
    """
    filling = _Filling(end, layers, source)
    count = filling.run()
    unused = tuple(
        Leftover(name, tuple(array.shape), "behind the layers that were matched")
        for layer in layers[count:]
        for name, array in layer.arrays.values()
    )
    if unused and is_whole:
        raise WeightsError(
            f"{source}: got {len(unused)} arrays more than the network has, first {layers[count].describe()}"
        )
    return Fit(filling.filled, _WAY, tuple(filling.matches), unused, (_BLIND,))


@dataclass
class _Filling:
    end: Step
    layers: Sequence[FileLayer]
    source: str
    filled: dict[str, np.ndarray] = field(default_factory=dict)
    matches: list[Match] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = [step for step in ancestors([self.end]) if step.slots]
        self.done: set[Step] = set()
        # nearest steps with arrays that each reads, through those without
        self.above: dict[Step, set[Step]] = {}
        for step in ancestors([self.end]):
            self.above[step] = {found for each in step.inputs for found in ({each} if each.slots else self.above[each])}

    def run(self) -> int:
        """Fill every step; return how many of the file's layers it took."""
        strange = [step for step in self.steps if step.op not in ("Conv", "Dense", "BatchNorm")]
        if strange:
            raise WeightsError(f"{self.source}: {strange[0].describe()} can be matched by name alone. {_WHOLE}")
        for count, layer in enumerate(self.layers):
            if len(self.done) == len(self.steps):
                return count
            self.fill(self.choose(layer, self.layers[count + 1 :]), layer)
        missing = next((step for step in self.steps if step not in self.done), None)
        if missing is not None:
            raise WeightsError(f"{self.source}: ends before {missing.describe()}, expected arrays for it")
        return len(self.layers)

    def choose(self, layer: FileLayer, rest: Sequence[FileLayer]) -> Step:
        """Return the step that a layer of the file is."""
        open_steps = [step for step in self.steps if step not in self.done and self.above[step] <= self.done]
        fitting = [step for step in open_steps if _fits(layer, step)]
        if len(fitting) > 1:
            fitting = list(self.by_name(fitting, layer, rest))
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise self.ambiguous(layer, fitting)
        expected = next((step for step in open_steps if (step.op == "BatchNorm") == layer.is_norm), open_steps[0])
        slot = next(iter(expected.slots.values()))
        others = f" or another of {len(open_steps)} that may come next" if len(open_steps) > 1 else ""
        raise WeightsError(
            f"{self.source} does not fit the network: got {layer.describe()}, expected {slot.name!r} of shape "
            f"{slot.shape}{others}."
        )

    def by_name(self, steps: list[Step], layer: FileLayer, rest: Sequence[FileLayer]) -> Iterator[Step]:
        """Yield the steps that a name leaves: of two, one is a projection, and one of the file's is called so."""
        projections = [step for step in steps if _PROJECTION.search(next(iter(step.slots.values())).name)]
        alike = next((each for each in rest if _fits(each, steps[0])), None)
        if len(steps) != 2 or len(projections) != 1:
            yield from steps
        elif _PROJECTION.search(layer.name):
            yield from projections
        elif alike is not None and _PROJECTION.search(alike.name):
            yield from (step for step in steps if step not in projections)
        else:
            yield from steps

    def ambiguous(self, layer: FileLayer, steps: Sequence[Step]) -> WeightsError:
        places = " or ".join(repr(next(iter(step.slots.values())).name) for step in steps)
        return WeightsError(
            f"{self.source}: {layer.describe()} may be {places}, whose shapes are alike: neither name nor order tells "
            f"which. {_WHOLE}"
        )

    def fill(self, step: Step, layer: FileLayer) -> None:
        self.done.add(step)
        for role, slot in step.slots.items():
            if role not in layer.arrays:
                fill = _FILLS[role]
                self.put(slot, "", (), np.full(slot.shape, fill, np.float32), f"{fill:g}, the file has none")
                continue
            name, raw = layer.arrays[role]
            array, note = _laid_out(raw, step, layer) if role == "weight" else (raw, "")
            self.put(slot, name, tuple(raw.shape), array.reshape(slot.shape), note)
        if "bias" in layer.arrays and "bias" not in step.slots:
            name, array = layer.arrays["bias"]
            raise WeightsError(
                f"{self.source}: got {name!r} of shape {tuple(array.shape)}, expected no bias: {step.describe()} has "
                f"none. It is another edition of the network, which may compute otherwise. {_WHOLE}"
            )

    def put(self, slot: Slot, name: str, shape: tuple[int, ...], array: np.ndarray, note: str) -> None:
        self.filled[slot.name] = array.astype(np.float32) if array.dtype != np.float32 else array
        self.matches.append(Match(slot.name, slot.shape, name, shape, "order" if name else "absent", note))


def _fits(layer: FileLayer, step: Step) -> bool:
    """Whether a layer's arrays have a step's shapes; a bias, and a norm's scale and shift, may be missing."""
    if layer.is_norm != (step.op == "BatchNorm") or not (layer.is_norm or "weight" in layer.arrays):
        return False
    for role, (_, array) in layer.arrays.items():
        if role == "weight":
            if _bare(_laid_out(array, step, layer)[0].shape) != _bare(step.slots["weight"].shape):
                return False
        elif role in step.slots:
            if array.size != step.slots[role].shape[0] or array.ndim > 1:
                return False
        elif role != "bias":
            return False
    return all(role in layer.arrays or role in _FILLS for role in step.slots)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a kernel's shape; a dense kernel may have axes of size 1 behind it."""
    return shape[:2] if shape[2:] == (1,) * len(shape[2:]) else shape


def _laid_out(kernel: np.ndarray, step: Step, layer: FileLayer) -> tuple[np.ndarray, str]:
    """Return a kernel as (out, in / groups, height, width) or (out, in), and what was done in words."""
    if not layer.channels_last:
        return kernel, ""
    if kernel.ndim == 2:
        before = step.inputs[0] if step.op == "Dense" else None
        sizes = before.inputs[0].sizes if before is not None and before.op == "Flatten" else None
        if sizes is not None and len(sizes) == 3 and None not in sizes:
            channels, height, width = (int(size or 0) for size in sizes)
            if kernel.shape[0] == channels * height * width:
                whole = kernel.reshape(height, width, channels, -1).transpose(3, 2, 0, 1)
                return whole.reshape(len(whole), -1), "transposed, rows in the order of (C, H, W)"
        return kernel.T, "transposed"
    if kernel.ndim != 4:
        return kernel, ""
    groups = dict(step.facts).get("groups", 1)
    height, width, channels, multiplier = kernel.shape
    if groups == channels and groups != 1:
        return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width), "transposed"
    return kernel.transpose(3, 2, 0, 1), "transposed"
