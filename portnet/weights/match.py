"""`match`: the arrays of a file under the names, shapes and layouts of a network's initializers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.convention import Convention
from portnet.weights.keymaps import KeyMap, recognise

__all__ = ["match"]

_REFERENCE = Convention()

# torch's counter of training batches: no network reads it
_COUNTER = "num_batches_tracked"
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def match(
    weights: Mapping[str, np.ndarray],
    wanted: Mapping[str, Sequence[int]],
    *,
    network: str = "",
    source: str = "weights",
    convention: Convention = _REFERENCE,
) -> dict[str, np.ndarray]:
    """Return an array for every name in ``wanted``, in its order.

    Names that are the network's own are taken as they are. Else the key maps are asked (Keras' and older Gluon's
    names, see `portnet.weights.keymaps`). torch's ``num_batches_tracked`` is ignored; nothing else may be missing
    or left over. Floating-point arrays become float32.

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
    arrays = {name: array for name, array in weights.items() if name.rpartition(".")[2] != _COUNTER}
    key_map = None if arrays.keys() & wanted.keys() else recognise(arrays, network)
    if key_map is not None:
        _check_convention(key_map, convention, source)
        arrays = _fold_biases(_translate(arrays, key_map, source), wanted)
    _check_names(arrays, wanted, source)
    _check_shapes(arrays, wanted, source)
    return {name: _float32(arrays[name]) for name in wanted}


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


def _fold_biases(arrays: dict[str, np.ndarray], wanted: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Take the bias of a convolution before a BatchNorm, which the networks here lack, off the norm's mean.

    (x + bias) − mean = x − (mean − bias); the names are torchvision's, ``conv1`` before ``bn1``.
    """
    folded = dict(arrays)
    for name in arrays:
        layer, _, parameter = name.rpartition(".")
        mean = f"{_norm_after(layer)}.running_mean"
        if parameter == "bias" and name not in wanted and mean in folded:
            folded[mean] = folded[mean] - folded.pop(name)
    return folded


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
        raise WeightsError(f"{source} does not fit the network: {'; '.join(found)}. Expected {len(wanted)} arrays.")


def _check_shapes(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]], source: str) -> None:
    wrong = [name for name, shape in wanted.items() if arrays[name].shape != tuple(shape)]
    if wrong:
        name, more = wrong[0], f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        raise WeightsError(
            f"{source} does not fit the network: {name!r} got shape {arrays[name].shape}, "
            f"expected {tuple(wanted[name])}{more}."
        )


def _float32(array: np.ndarray) -> np.ndarray:
    dtype = np.float32 if array.dtype.name in _FLOATS else array.dtype
    return np.ascontiguousarray(array, dtype=dtype) if array.ndim else np.asarray(array, dtype=dtype)


def _first(names: Iterable[str], count: int = 3) -> str:
    shown = list(names)
    more = ", …" if len(shown) > count else ""
    return ", ".join(map(repr, shown[:count])) + more
