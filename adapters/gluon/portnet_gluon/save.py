"""Lowered networks as the pair of files that MXNet's community keeps them in, and back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portnet.adapter import Reloaded
from portnet.formats.mxnet import ATTRIBUTE
from portnet.graph.travel import to_text
from portnet_gluon.arrays import shapes_as_in_numpy, to_mxnet
from portnet_gluon.carriers import carried
from portnet_gluon.compat import mx, unprinted
from portnet_gluon.network import GluonLowered

__all__ = ["GluonReloaded", "reload", "write"]

_SYMBOL, _PARAMS = "-symbol.json", "-0000.params"


class GluonReloaded(Reloaded):
    """A network that ``gluon.SymbolBlock.imports`` read.

    Args:
        lowered: its border.
        network: the block.
        reads: names of the inputs that the block takes, in order.
        how: what loads it.
    """

    def __init__(self, lowered: GluonLowered, network: Any, reads: list[str], how: str) -> None:
        self._lowered, self._network, self._reads = lowered, network, reads
        self._scalars = has_scalars(lowered)
        self.notes = (how, *_notes(lowered, reads, self._scalars))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode."""
        types = {port.name: carried(port.dtype) for port in self._lowered.model.inputs}
        arrays = {name: np.asarray(inputs[name]).astype(dtype, copy=False) for name, dtype in types.items()}
        with mx.util.np_shape(self._scalars):
            # a block needs an input, even one that reads none of the network's
            given = [to_mxnet(arrays.get(name, np.zeros(1, np.float32)), mx.cpu()) for name in self._reads]
            results = self._network(*given)
            values = [value.asnumpy() for value in (results if isinstance(results, list) else [results])]
        ports = self._lowered.model.outputs
        # one output more than the network has belongs to that input
        return {port.name: _typed(value, port.dtype) for port, value in zip(ports, values, strict=False)}


def write(lowered: GluonLowered, path: Path, form: str) -> list[Path]:
    """Write symbol and parameters; see `portnet.adapter.Adapter.write`."""
    files = _files(path)
    with mx.util.np_shape(has_scalars(lowered)):
        lowered.native.export(str(files[0]).removesuffix(_SYMBOL), epoch=0)
    _complete(lowered, files[0])
    return files


def _complete(lowered: GluonLowered, file: Path) -> None:
    """Write into a symbol's file the sizes of its inputs, 0 for a free batch, and what travels with the network."""
    tree = json.loads(file.read_bytes())
    tree.setdefault("attrs", {})[ATTRIBUTE] = ["str", to_text(lowered.model.metadata)]
    shapes = {port.name: port.shape for port in lowered.model.inputs if port.shape}
    known = {name: shape for name, shape in shapes.items() if all(isinstance(size, int) for size in shape[1:])}
    for node in tree["nodes"]:
        if node["op"] == "null" and node["name"] in known and not has_scalars(lowered):
            batch, *sizes = known[node["name"]]
            first = batch if isinstance(batch, int) else 0
            node.setdefault("attrs", {}).setdefault("__shape__", str((first, *sizes)))
    file.write_text(json.dumps(tree, indent=2))


def reload(lowered: GluonLowered, path: Path, form: str) -> GluonReloaded:
    """Read what `write` wrote; see `portnet.adapter.Adapter.reload`."""
    symbol, params = map(str, _files(path))
    with mx.util.np_shape(has_scalars(lowered)), warnings.catch_warnings():
        # about inputs whose types it finds out later
        warnings.simplefilter("ignore", UserWarning)
        stored = {name.partition(":")[2] for name in mx.nd.load(params)}
        free = [name for name in mx.sym.load(symbol).list_inputs() if name not in stored]
        names = [port.name for port in lowered.model.inputs]
        reads = sorted(free, key=lambda name: names.index(name) if name in names else len(names))
        network = mx.gluon.SymbolBlock.imports(symbol, reads, params)
    names = [file.name for file in _files(path)]
    how = f"load with gluon.SymbolBlock.imports({names[0]!r}, {reads!r}, {names[1]!r})"
    return GluonReloaded(lowered, network, reads, how)


def _files(path: Path) -> list[Path]:
    """Return PREFIX-symbol.json and PREFIX-0000.params; the path is the prefix or the first of them."""
    prefix = path.name.removesuffix(_SYMBOL)
    return [path.with_name(prefix + suffix) for suffix in (_SYMBOL, _PARAMS)]


def _notes(lowered: GluonLowered, reads: list[str], scalars: bool) -> Iterator[str]:
    if reads != [port.name for port in lowered.model.inputs]:
        yield f"its inputs: {', '.join(reads)}"
    if scalars:
        yield "has scalars inside: load and run it under mx.util.np_shape(True)"
    for port in (*lowered.model.inputs, *lowered.model.outputs):
        if carried(port.dtype) != port.dtype:
            yield f"{port.name} is {carried(port.dtype)}, for {port.dtype}"


def has_scalars(lowered: GluonLowered) -> bool:
    """Whether a 0-D or empty array occurs, which MXNet takes for one of unknown shape unless told otherwise."""
    symbol = lowered.native._cached_graph[1]
    known = {
        port.name: tuple(n if isinstance(n, int) else 2 for n in port.shape or ()) for port in lowered.model.inputs
    }
    with shapes_as_in_numpy(), unprinted():
        try:
            shapes = symbol.get_internals().infer_shape(**{n: s for n, s in known.items() if n in symbol.list_inputs()})
        except mx.base.MXNetError:
            return True
    return any(kind is None or any(not shape or 0 in shape for shape in kind) for kind in shapes)


def _typed(value: np.ndarray, dtype: str) -> np.ndarray:
    import ml_dtypes

    return value.astype(getattr(ml_dtypes, dtype, dtype), copy=False) if carried(dtype) != dtype else value
