"""`SymbolSource`: a network as MXNet runs it, whole or up to a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portnet.adapter import Source
from portnet.errors import InputError, UnsupportedError
from portnet.formats.mxnet import Symbol, Translation
from portnet.formats.mxnet.symbol import Entry
from portnet_gluon.arrays import to_mxnet
from portnet_gluon.compat import mx
from portnet_gluon.verify import reason

__all__ = ["SymbolSource", "numpy_of"]


class SymbolSource(Source):
    """Runs a Gluon block itself, or binds a symbol to its arrays.

    Args:
        symbol: MXNet's symbol.
        arrays: parameters and auxiliary states by variable.
        parsed: the same symbol as the translator read it.
        translation: names of inputs, and places of tensors.
        block: the block to run where the whole network is asked for, or None.
        only: the one output, or None for the network's own.
    """

    label = "gluon, as it came"

    def __init__(
        self,
        symbol: Any,
        arrays: Mapping[str, np.ndarray],
        parsed: Symbol,
        translation: Translation,
        block: Any = None,
        only: tuple[str, Any] | None = None,
    ) -> None:
        self._symbol, self._arrays, self._parsed, self._translation = symbol, arrays, parsed, translation
        self._block, self._only = block, only
        self._held: dict[str, Any] = {}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run in inference mode."""
        feeds = {self._translation.inputs[name]: to_mxnet(np.asarray(x), mx.cpu()) for name, x in inputs.items()}
        try:
            results = self._bound(feeds) if self._block is None or self._only else self._called(feeds)
            kept = range(len(results)) if self._only else self._translation.heads
            values = [results[place].asnumpy() for place in kept]
        except mx.base.MXNetError as error:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in feeds.items())
            raise InputError(f"{self.label}: it does not run on {shapes}: {reason(error)}") from error
        names = [self._only[0]] if self._only else [port.name for port in self._translation.captured.model.outputs]
        return dict(zip(names, values, strict=True))

    def at(self, tensor: str) -> Source:
        """Return the network up to a tensor that a layer of the symbol yields."""
        entry = self._translation.places.get(tensor)
        internal = None if entry is None else self._internal(entry)
        if internal is None:
            raise UnsupportedError(f"{self.label} cannot be cut at {tensor!r}: no layer of the symbol yields it")
        return SymbolSource(self._symbol, self._arrays, self._parsed, self._translation, only=(tensor, internal))

    # ---- how

    def _internal(self, entry: Entry) -> Any | None:
        node = self._parsed.nodes[entry.node]
        internals = self._symbol.get_internals()
        known = internals.list_outputs()
        for name in (f"{node.name}_output", f"{node.name}_output{entry.output}"):
            if name in known and (entry.output == 0 or name.endswith(str(entry.output))):
                return internals[name]
        return None

    def _called(self, feeds: Mapping[str, Any]) -> list[Any]:
        results = self._block(*(feeds[name] for name in self._translation.inputs.values()))
        return _flat(results)

    def _bound(self, feeds: Mapping[str, Any]) -> list[Any]:
        symbol = self._only[1] if self._only else self._symbol
        shapes = {name: value.shape for name, value in feeds.items() if name in symbol.list_inputs()}
        arguments, _, _ = symbol.infer_shape_partial(**shapes)
        given = {
            name: feeds[name] if name in feeds else self._array(name, shape)
            for name, shape in zip(symbol.list_arguments(), arguments, strict=True)
        }
        states = {name: self._array(name, None) for name in symbol.list_auxiliary_states()}
        executor = symbol.bind(mx.cpu(), given, aux_states=states, grad_req="null")
        return list(executor.forward(is_train=False))

    def _array(self, name: str, shape: Any) -> Any:
        """Return a parameter, or zeros for a label, which inference does not read."""
        if name not in self._arrays:
            return mx.nd.zeros(shape)
        if name not in self._held:
            self._held[name] = to_mxnet(self._arrays[name], mx.cpu())
        return self._held[name]


def _flat(results: Any) -> list[Any]:
    if isinstance(results, (list, tuple)):
        return [each for result in results for each in _flat(result)]
    return [results]


def numpy_of(value: Any) -> np.ndarray:
    """Return an array of MXNet's or numpy's as numpy's."""
    return value.asnumpy() if hasattr(value, "asnumpy") else np.asarray(value)
