"""Networks of MXNet as a `Model`: Gluon blocks, symbols with their parameters, and modules.

A network is traced to a symbol, as ``HybridBlock.export`` does it, and its JSON goes to the translator that reads the
files too (`portnet.formats.mxnet`). Parameters bear Gluon's structural names ("features.0.weight"), which
``save_parameters`` writes, where the block tells them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from portnet.adapter import CaptureOptions, Source
from portnet.errors import InputError, UnsupportedError
from portnet.formats.captured import Captured
from portnet.formats.mxnet import Translation, parse_symbol, translate
from portnet.graph.metadata import Metadata, Preprocessing
from portnet.graph.parameters import mark_learned
from portnet_gluon.arrays import to_mxnet
from portnet_gluon.compat import mx
from portnet_gluon.native import is_a
from portnet_gluon.source import SymbolSource, numpy_of
from portnet_gluon.verify import reason

__all__ = ["RANDOM", "ZOO_NAMES", "capture"]

# what `open` called a network that it built, and those of them that it found no weights for
ZOO_NAMES: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
RANDOM: weakref.WeakSet[Any] = weakref.WeakSet()

_ZOO = "mxnet.gluon.model_zoo.vision"
_DEFERRED = "Its parameters are initialised when it runs first: run it once, or give an example input."


@dataclass(frozen=True)
class _Traced:
    """A network as a symbol, before it is translated.

    Attributes:
        symbol: the graph.
        arrays: parameters and auxiliary states by variable.
        names: structural names by variable.
        fixed: variables that no training moves.
        shapes: of the inputs, by variable.
        dtypes: element types of the inputs, by variable.
        name: what it is called.
        block: the Gluon block that it was traced from, or None.
    """

    symbol: Any
    arrays: dict[str, np.ndarray]
    names: dict[str, str] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    name: str = "network"
    block: Any = None
    metadata: Metadata | None = None


def capture(native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
    """Capture a network of MXNet; see `portnet.adapter.Adapter.capture`."""
    traced = _traced(native, options.examples)
    symbol = parse_symbol(traced.symbol.tojson(), traced.name)
    translation = translate(
        symbol,
        traced.arrays or None,
        source=traced.name,
        shapes=traced.shapes,
        dtypes=traced.dtypes,
        names=traced.names,
        fixed=traced.fixed,
        dynamic_batch=options.dynamic_batch,
        metadata=traced.metadata,
        way="traced to a symbol of MXNet",
    )
    captured = translation.captured
    mark_learned(captured.model.ir, _learned(traced))
    if traced.block is not None and traced.block in RANDOM:
        note = f"MXNet has not fetched the weights of {traced.name} before; its parameters are random"
        captured = replace(captured, notes=(note, *captured.notes))
    return captured, _source(traced, symbol, translation)


def _learned(traced: _Traced) -> set[str]:
    """Return the names of what a block trains."""
    parameters = {} if traced.block is None else traced.block.collect_params()
    return {traced.names.get(name, name) for name, each in parameters.items() if each._differentiable}


def _source(traced: _Traced, symbol: Any, translation: Translation) -> SymbolSource:
    return SymbolSource(traced.symbol, traced.arrays or translation.drawn, symbol, translation, traced.block)


def _traced(native: Any, examples: tuple[Any, ...] | None) -> _Traced:
    if isinstance(native, tuple):
        return _symbol(native[0], _joined(native[1:]), examples)
    if is_a(native, "BaseModule", "mxnet.module"):
        return _symbol(native.symbol, _joined(native.get_params()), examples)
    if isinstance(native, mx.gluon.HybridBlock):
        return _block(native, examples)
    raise UnsupportedError(
        f"{type(native).__name__} is a gluon.Block: its forward is Python, of which MXNet keeps no graph. Derive it "
        "from gluon.HybridBlock, with hybrid_forward in place of forward; or give (symbol, params)."
    )


# ---- symbols


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return parameters and auxiliary states in one dictionary, ``arg:`` and ``aux:`` removed."""
    return {
        name.removeprefix("arg:").removeprefix("aux:"): numpy_of(value)
        for part in parts
        for name, value in part.items()
    }


def _symbol(symbol: Any, arrays: dict[str, np.ndarray], examples: tuple[Any, ...] | None) -> _Traced:
    inputs = [name for name in symbol.list_inputs() if name not in arrays]
    given = [numpy_of(example) for example in examples or ()]
    # labels come after what a network computes from
    if len(given) > len(inputs):
        raise InputError(f"examples: got {len(given)}, expected at most {len(inputs)}: {', '.join(inputs)}")
    pairs = list(zip(inputs, given, strict=False))
    return _Traced(
        symbol,
        arrays,
        shapes={name: array.shape for name, array in pairs},
        dtypes={name: array.dtype.name for name, array in pairs},
        name=symbol.name or "network",
    )


# ---- blocks


def _block(block: Any, examples: tuple[Any, ...] | None) -> _Traced:
    inputs = _inputs(block, None if examples is None else len(examples))
    given = [numpy_of(example) for example in examples] if examples is not None else _usual_inputs(block)
    arrays = _parameters(block, given)
    try:
        symbol = block(*(mx.sym.var(name) for name in inputs))
    except Exception as error:  # code of the block's own may raise anything
        raise UnsupportedError(
            f"{_name(block)} cannot be traced to a symbol: {_first_line(error)}. Its hybrid_forward must work with "
            "F = mx.sym."
        ) from error
    outputs = mx.sym.Group(_flat(symbol)) if isinstance(symbol, (list, tuple)) else symbol
    states = set(outputs.list_auxiliary_states())
    parameters = block.collect_params()
    return _Traced(
        outputs,
        arrays,
        names=_structural(block),
        fixed=frozenset(name for name, each in parameters.items() if not each._differentiable and name not in states),
        shapes={name: array.shape for name, array in zip(inputs, given, strict=False)},
        dtypes={name: array.dtype.name for name, array in zip(inputs, given, strict=False)},
        name=_name(block),
        block=block,
        metadata=_metadata(block, given),
    )


def _flat(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [each for value in values for each in _flat(value)]
    return [values]


def _inputs(block: Any, count: int | None) -> list[str]:
    """Return a name for each input, as `HybridBlock.export` names them."""
    if isinstance(block, mx.gluon.SymbolBlock):
        names = [each.name for each in block._cached_graph[0]]
        if count not in (None, len(names)):
            raise InputError(f"examples: got {count}, expected {len(names)}: {', '.join(names)}")
        return names
    if count is None:
        count = _positional(block)
    return ["data"] if count == 1 else [f"data{i}" for i in range(count)]


def _positional(block: Any) -> int:
    """Count what ``hybrid_forward`` takes besides F and the block's own parameters."""
    parameters = list(inspect.signature(block.hybrid_forward).parameters.values())[1:]
    return (
        sum(
            each.kind is each.POSITIONAL_OR_KEYWORD
            and each.default is each.empty
            and each.name not in block._reg_params
            for each in parameters
        )
        or 1
    )


def _usual_inputs(block: Any) -> list[np.ndarray]:
    """Return an example for what MXNet's own zoo holds, whose images have a known size; else none."""
    if not type(block).__module__.startswith(_ZOO):
        return []
    size = 299 if type(block).__name__ == "Inception3" else 224
    return [np.zeros((1, 3, size, size), np.float32)]


def _parameters(block: Any, examples: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    parameters = block.collect_params()
    waiting = [each for each in parameters.values() if each._data is None]
    if waiting and not all(each._deferred_init for each in waiting):
        raise InputError(
            f"{_name(block)} has no weights: {waiting[0].name!r} is not initialised. Call its initialize()."
        )
    if waiting and not examples:
        raise InputError(f"{_name(block)}: {waiting[0].name!r} has no shape yet. {_DEFERRED}")
    if waiting:
        try:
            block(*(to_mxnet(example, mx.cpu()) for example in examples))
        except (mx.base.MXNetError, ValueError) as error:
            raise InputError(f"{_name(block)} does not run on the example input: {reason(error)}") from error
    return {name: each.list_data()[0].asnumpy() for name, each in parameters.items() if each._data is not None}


def _structural(block: Any) -> dict[str, str]:
    """Return the names that `save_parameters` writes, by the parameters' own; the first of a shared one's."""
    found: dict[str, str] = {}
    for structural, parameter in block._collect_params_with_prefix().items():
        found.setdefault(parameter.name, structural)
    return found


def _name(block: Any) -> str:
    return ZOO_NAMES.get(block) or block.prefix.rstrip("_") or type(block).__name__


def _metadata(block: Any, examples: Sequence[np.ndarray]) -> Metadata | None:
    """Return how MXNet's zoo was trained to see images (docs of ``gluon.model_zoo.vision``), for its networks alone."""
    if not type(block).__module__.startswith(_ZOO) or examples[0].ndim != 4:
        return None
    height, width = examples[0].shape[2:]
    resize = 256 if (height, width) == (224, 224) else None
    return Metadata(preprocessing=Preprocessing(size=(height, width), resize=resize or max(height, width)))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
