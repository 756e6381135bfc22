"""`match`: the arrays of a file under the names, shapes and layouts of a network's initializers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.convention import Convention
from portnet.weights.keymaps import KeyMap, recognise
from portnet.weights.report import Fit, Leftover, Match

__all__ = ["Named", "is_counter", "match", "name_arrays", "own_names"]

_REFERENCE = Convention()

# torch's counter of training batches: no network reads it
_COUNTER = "num_batches_tracked"
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Named:
    """A file's arrays under the names of a network's initializers.

    Attributes:
        arrays: by initializer's name, in its layout; also names that the network lacks.
        origins: the file's name and shape of each of them.
        rule: see `report.Match`.
        way: see `report.MatchReport`.
        key_map: the key map that knew the names, or None.
        outside: arrays that lie beside the network in the file.
        notes: what was done to an array, by initializer.
    """

    arrays: Mapping[str, np.ndarray]
    origins: Mapping[str, tuple[str, tuple[int, ...]]]
    rule: str
    way: str
    key_map: KeyMap | None = None
    outside: tuple[Leftover, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def fit(self, wanted: Mapping[str, Sequence[int]], source: str, *, is_whole: bool = True) -> Fit:
        """Return the arrays of the names in ``wanted``, in its order; floating-point arrays become float32.

        Args:
            wanted: initializer name → shape.
            source: what the arrays are from, for messages.
            is_whole: whether an array that is not wanted is an error.

        Raises:
            WeightsError: names or shapes that do not fit, the first of them named.
        """
        unwanted = [name for name in self.arrays if name not in wanted]
        arrays = self.arrays if is_whole else {name: self.arrays[name] for name in self.arrays if name in wanted}
        _check_names(arrays, wanted, source)
        _check_shapes(arrays, wanted, source)
        matches = tuple(
            Match(name, tuple(wanted[name]), *self.origins[name], self.rule, self.notes.get(name, ""))
            for name in wanted
        )
        unused = tuple(Leftover(*self.origins[name], "no part of what was asked for") for name in unwanted)
        return Fit({name: _float32(arrays[name]) for name in wanted}, self.way, matches, (*unused, *self.outside))


def match(
    weights: Mapping[str, np.ndarray],
    wanted: Mapping[str, Sequence[int]],
    *,
    network: str = "",
    source: str = "weights",
    convention: Convention = _REFERENCE,
) -> dict[str, np.ndarray]:
    """Return an array for every name in ``wanted``, in its order.

    Names that are the network's own are taken as they are, or behind a prefix that all of them bear. Else the key maps
    are asked (Keras' and older Gluon's names, see `portnet.weights.keymaps`). torch's ``num_batches_tracked`` is
    ignored; nothing else may be missing or left over. Floating-point arrays become float32.

    Args:
        weights: a file's arrays, from `read_weights`.
        wanted: initializer name → shape.
        network: the zoo's name of the network, for the key maps; "" if it is none of the zoo's.
        source: what the arrays are from, for messages.
        convention: how the network computes, where that is not the reference's way.

    Raises:
        WeightsError: names or shapes that do not fit, the first of them named; or weights that fit by shape and
            were trained in a network that computes otherwise.
    """
    named = name_arrays(weights, wanted, network=network, source=source) or own_names(weights)
    if named.key_map is not None:
        _check_convention(named.key_map, convention, source)
    return dict(named.fit(wanted, source).arrays)


def is_counter(name: str) -> bool:
    """Whether an array is torch's count of training batches, which no network reads."""
    return name.rpartition(".")[2] == _COUNTER


def own_names(weights: Mapping[str, np.ndarray]) -> Named:
    """Return a file's arrays as if their names were a network's."""
    arrays = {name: array for name, array in weights.items() if not is_counter(name)}
    origins = {name: (name, tuple(array.shape)) for name, array in arrays.items()}
    return Named(arrays, origins, "name", "Arrays bear the names of the network's initializers.")


def name_arrays(
    weights: Mapping[str, np.ndarray], wanted: Collection[str], *, network: str, source: str
) -> Named | None:
    """Return the arrays under the network's names, or None where their names tell nothing of it.

    Args:
        weights: a file's arrays.
        wanted: names of initializers.
        network: see `match`.
        source: see `match`.

    Raises:
        WeightsError: an array under two spellings, or the network under two prefixes.
    """
    own = own_names(weights)
    if 2 * len(own.arrays.keys() & set(wanted)) > len(wanted):
        return own
    key_map = recognise(own.arrays, network)
    if key_map is not None:
        return _by_key_map(own.arrays, key_map, wanted, source)
    prefix = _prefix(own.arrays, wanted, source)
    if not prefix:
        return None
    inside = {name[len(prefix) :]: array for name, array in own.arrays.items() if name.startswith(prefix)}
    outside = tuple(
        Leftover(*origin, f"not under {prefix!r}")
        for name, origin in own.origins.items()
        if not name.startswith(prefix)
    )
    way = f"Arrays bear the names of the network's initializers behind {prefix!r}."
    return Named(inside, {name: own.origins[prefix + name] for name in inside}, "prefix", way, None, outside)


def _prefix(arrays: Collection[str], wanted: Collection[str], source: str) -> str:
    """Return what stands before most of the network's names, or ""."""
    first = next(iter(wanted), "")
    prefixes = [name.removesuffix(first) for name in arrays if name.endswith((f".{first}", f"/{first}"))]
    most = [prefix for prefix in prefixes if sum(prefix + name in arrays for name in wanted) * 2 > len(wanted)]
    if len(most) > 1:
        raise WeightsError(
            f"{source}: holds the network {len(most)} times, under {' and '.join(map(repr, most))}. "
            "Save the one that is meant into a file of its own."
        )
    return most[0] if most else ""


def _by_key_map(arrays: Mapping[str, np.ndarray], key_map: KeyMap, wanted: Collection[str], source: str) -> Named:
    translated, notes = _fold_biases(_translate(arrays, key_map, source), wanted)
    targets = {key_map.targets[name].name: name for name in arrays}
    origins = {target: (name, tuple(arrays[name].shape)) for target, name in targets.items()}
    for target, name in targets.items():
        if target in translated and translated[target].shape != arrays[name].shape:
            notes.setdefault(target, "transposed")
    way = f"Arrays bear the names of {key_map.name}."
    return Named(translated, origins, "convention", way, key_map, (), notes)


def _translate(arrays: Mapping[str, np.ndarray], key_map: KeyMap, source: str) -> dict[str, np.ndarray]:
    pairs = [(key_map.targets[name], array) for name, array in arrays.items()]
    if len({target.name for target, _ in pairs}) != len(pairs):
        raise WeightsError(f"{source} holds an array under two spellings of its name. Expected {key_map.name}'s.")
    return {target.name: target.layout(array) for target, array in pairs}


def _check_convention(key_map: KeyMap, convention: Convention, source: str) -> None:
    if key_map.convention != convention:
        raise WeightsError(
            f"{source} holds weights of {key_map.name}, which fit by shape alone: trained with {key_map.convention}, "
            f"got a network with {convention}."
        )


def _fold_biases(
    arrays: dict[str, np.ndarray], wanted: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Take the bias of a convolution before a BatchNorm, which the networks here lack, off the norm's mean.

    (x + bias) − mean = x − (mean − bias); the names are torchvision's, ``conv1`` before ``bn1``.
    """
    folded, notes = dict(arrays), {}
    for name in arrays:
        layer, _, parameter = name.rpartition(".")
        mean = f"{_norm_after(layer)}.running_mean"
        if parameter == "bias" and name not in wanted and mean in folded:
            folded[mean] = folded[mean] - folded.pop(name)
            notes[mean] = f"less the bias of {layer!r}"
    return folded, notes


def _norm_after(convolution: str) -> str:
    if convolution.endswith("downsample.0"):
        return convolution[:-1] + "1"
    block, dot, name = convolution.rpartition(".")
    return f"{block}{dot}{name.replace('conv', 'bn')}"


def _check_names(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]], source: str) -> None:
    missing = [name for name in wanted if name not in arrays]
    unexpected = [name for name in arrays if name not in wanted]
    found = [
        f"{len(names)} {kind}: {_first(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if found:
        wrong = _wrong_shapes(arrays, wanted)
        if wrong:
            found.append(f"{wrong[0]!r} got shape {arrays[wrong[0]].shape}, expected {tuple(wanted[wrong[0]])}")
        raise WeightsError(f"{source} does not fit the network: {'; '.join(found)}. Expected {len(wanted)} arrays.")


def _check_shapes(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]], source: str) -> None:
    wrong = _wrong_shapes(arrays, wanted)
    if wrong:
        name, more = wrong[0], f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        raise WeightsError(
            f"{source} does not fit the network: {name!r} got shape {arrays[name].shape}, "
            f"expected {tuple(wanted[name])}{more}."
        )


def _wrong_shapes(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]]) -> list[str]:
    return [name for name, shape in wanted.items() if name in arrays and arrays[name].shape != tuple(shape)]


def _float32(array: np.ndarray) -> np.ndarray:
    dtype = np.float32 if array.dtype.name in _FLOATS else array.dtype
    return np.ascontiguousarray(array, dtype=dtype) if array.ndim else np.asarray(array, dtype=dtype)


def _first(names: Iterable[str], count: int = 3) -> str:
    shown = list(names)
    more = ", …" if len(shown) > count else ""
    return ", ".join(map(repr, shown[:count])) + more
