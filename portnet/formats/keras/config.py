"""Keras's configuration of a network, of Keras 2 and Keras 3, as one plain structure.

Keras 3 writes a call of a layer as ``{"args": [...], "kwargs": {...}}`` with tensors as ``__keras_tensor__``; Keras 2
as a list of ``[layer, node, tensor, kwargs]``. A Sequential network is read as a chain. Nothing is looked up by a name
from the file here: kinds of layers stay words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portnet.errors import ModelError

__all__ = ["Call", "LayerConfig", "NetworkConfig", "Ref", "parse_layer", "parse_network"]

NETWORKS = frozenset({"Functional", "Model", "Sequential"})
# a layer that says neither whether it trains nor a policy
_LAYERS = frozenset({"Discretization"})
_OPERATORS = ("keras.src.ops.", "keras.ops", "keras_core.ops")
_MAX_LAYERS = 20_000
_MAX_DEPTH = 16
_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Ref:
    """A tensor: output ``tensor`` of call ``node`` of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True)
class Call:
    """One call of a layer; tensors among the arguments are `Ref`."""

    args: list[Any]
    kwargs: dict[str, Any]

    def refs(self) -> Iterator[Ref]:
        """Yield every tensor that the call reads."""
        yield from _refs([self.args, self.kwargs])


@dataclass(frozen=True)
class LayerConfig:
    """A layer.

    Attributes:
        kind: Keras's class; ``ops.Add`` for an operator of Keras 3, ``tf.math.add`` for one of TensorFlow in Keras 2.
        name: the layer's name.
        options: its configuration.
        calls: where it is used.
        network: what it is made of, where it is itself a network.
        label: Keras's class alone, by which Keras 3 numbers layers in weight files.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    calls: list[Call] = field(default_factory=list)
    network: NetworkConfig | None = None
    label: str = ""


@dataclass(frozen=True)
class NetworkConfig:
    """A network: layers, and which of their outputs go in and out.

    Attributes:
        is_sequential: whether it was written as a chain; Keras leaves its input out of the numbers in weight files.
    """

    name: str
    layers: list[LayerConfig]
    inputs: list[Ref]
    outputs: list[Ref]
    is_sequential: bool = False


def parse_network(document: Mapping[str, Any], depth: int = 0) -> NetworkConfig:
    """Read ``{"class_name": "Functional", "config": {...}}``.

    Raises:
        ModelError: no configuration of a network, or a broken one.
    """
    if depth > _MAX_DEPTH:
        raise ModelError(f"configuration: networks nested deeper than {_MAX_DEPTH}. Refused.")
    kind, config = document.get("class_name"), document.get("config")
    if kind == "Sequential" and isinstance(config, list):  # before Keras 2.2.3
        config = {"name": "sequential", "layers": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
        raise ModelError(f"configuration: got {_kind(kind)}, expected a Sequential or functional network with layers")
    if len(config["layers"]) > _MAX_LAYERS:
        raise ModelError(f"configuration: got {len(config['layers'])} layers, expected at most {_MAX_LAYERS}")
    name = _text(config.get("name", document.get("name", "network")), "name of the network")
    layers = [parse_layer(entry, depth) for entry in config["layers"]]
    if "input_layers" not in config or "output_layers" not in config:
        return _chain(name, layers, config)
    network = NetworkConfig(name, layers, _ends(config["input_layers"]), _ends(config["output_layers"]))
    _check_names(network)
    return _without_first_nodes(network)


def parse_layer(entry: Any, depth: int = 0) -> LayerConfig:
    """Read one entry of ``layers``."""
    if isinstance(entry, Mapping) and entry.get("class_name") == "Sequential" and isinstance(entry.get("config"), list):
        entry = {**entry, "config": {"name": entry.get("name", "sequential"), "layers": entry["config"]}}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config", {}), Mapping):
        raise ModelError(f"configuration: got the layer {_kind(entry)}, expected a class with its configuration")
    options = entry.get("config", {})
    label = _text(entry.get("class_name"), "class of a layer")
    name = _text(entry.get("name", options.get("name", label.lower())), f"name of a layer {label}")
    kind = _operator(entry, label, options)
    network = None
    if kind in NETWORKS and isinstance(options.get("layers"), list):
        network = parse_network(entry, depth + 1)
    nodes = entry.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise ModelError(f"configuration: layer {name!r} got inbound_nodes {_kind(nodes)}, expected a list")
    return LayerConfig(kind, name, options, [_call(node, name) for node in nodes], network, label)


def _operator(entry: Mapping[str, Any], label: str, options: Mapping[str, Any]) -> str:
    module = entry.get("module")
    if isinstance(module, str) and module.startswith(_OPERATORS):
        return f"ops.{label}"
    if label in ("TFOpLambda", "SlicingOpLambda"):
        return f"tf.{_text(options.get('function'), 'function of an operator')}"
    nodes = entry.get("inbound_nodes")
    called = isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], Mapping)
    # .h5 of Keras 3 does not say modules, but an operator has no training, and its element type is a word
    is_layer = "trainable" in options or isinstance(options.get("dtype"), Mapping)
    if called and module is None and not is_layer and label not in _LAYERS:
        return f"ops.{label}"
    return label


def _call(node: Any, name: str) -> Call:
    if isinstance(node, Mapping):
        args, kwargs = _tensors3(node.get("args", [])), _tensors3(node.get("kwargs", {}))
        if not isinstance(args, list) or not isinstance(kwargs, Mapping):
            raise ModelError(f"configuration: layer {name!r} is called with what are no arguments")
        return Call(args, dict(kwargs))
    if not isinstance(node, list):
        raise ModelError(f"configuration: layer {name!r} is called in a way that is not known")
    return _call2(node)


def _tensors3(value: Any) -> Any:
    """Return Keras 3's arguments with `Ref` for tensors and `slice` for slices."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(inner, Mapping):
            return _ref(inner.get("keras_history"))
        if value.get("class_name") == "__slice__" and isinstance(inner, Mapping):
            return slice(inner.get("start"), inner.get("stop"), inner.get("step"))
        return {str(key): _tensors3(item) for key, item in value.items()}
    return [_tensors3(item) for item in value] if isinstance(value, list) else value


def _call2(node: list[Any]) -> Call:
    """Read Keras 2's ``[[layer, node, tensor, kwargs], ...]``, or one such entry of an operator."""
    entries = [node] if node and isinstance(node[0], str) else node
    firsts, kwargs = [], {}
    for entry in entries:
        if not isinstance(entry, list) or len(entry) < 3:
            raise ModelError("configuration: a layer's input is not [layer, node, tensor]")
        firsts.append(entry[2] if entry[0] == _CONSTANT else _ref(entry))
        extra = entry[3] if len(entry) > 3 else {}
        if not isinstance(extra, Mapping):
            raise ModelError("configuration: a layer's arguments are no dictionary")
        kwargs.update({str(key): _tensors2(item) for key, item in extra.items()})
    return Call([firsts[0] if len(firsts) == 1 else firsts], kwargs)


def _tensors2(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) >= 3 and value[0] == _CONSTANT:
            return value[2]
        return _ref(value) if _is_ref(value) else [_tensors2(item) for item in value]
    if isinstance(value, Mapping):
        if set(value) == {"start", "stop", "step"}:
            return slice(value["start"], value["stop"], value["step"])
        return {str(key): _tensors2(item) for key, item in value.items()}
    return value


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(n, int) and not isinstance(n, bool) for n in value[1:3])
    )


def _ref(value: Any) -> Ref:
    if not _is_ref(value) or value[1] < 0 or value[2] < 0:
        raise ModelError(f"configuration: got {_kind(value)}, expected a tensor [layer, node, tensor]")
    return Ref(value[0], value[1], value[2])


def _refs(value: Any) -> Iterator[Ref]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Ref):
            yield item
        elif isinstance(item, Mapping):
            pending += item.values()
        elif isinstance(item, (list, tuple)):
            pending += item


def _ends(value: Any) -> list[Ref]:
    """Return the tensors that go in or out; a lone one is not always wrapped in a list."""
    if _is_ref(value):
        return [_ref(value)]
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value)]
    if not isinstance(value, list) or not value:
        raise ModelError(f"configuration: got {_kind(value)}, expected the layers that go in or out")
    return [ref for item in value for ref in _ends(item)]


def _check_names(network: NetworkConfig) -> None:
    names = [layer.name for layer in network.layers]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ModelError(f"configuration: two layers of {network.name!r} are named {twice!r}")


def _without_first_nodes(network: NetworkConfig) -> NetworkConfig:
    """Count the calls of networks within from 0: Keras counts the one that made them, though it does not write it."""
    refs = [*network.outputs, *(ref for layer in network.layers for call in layer.calls for ref in call.refs())]
    most: dict[str, int] = {}
    for ref in refs:
        most[ref.layer] = max(most.get(ref.layer, 0), ref.node)
    shifted = {
        layer.name
        for layer in network.layers
        if layer.network is not None and layer.calls and most.get(layer.name, 0) >= len(layer.calls)
    }
    if not shifted:
        return network
    layers = [
        LayerConfig(
            layer.kind,
            layer.name,
            layer.options,
            [Call(_shift(call.args, shifted), _shift(call.kwargs, shifted)) for call in layer.calls],
            layer.network,
            layer.label,
        )
        for layer in network.layers
    ]
    return NetworkConfig(network.name, layers, network.inputs, _shift(network.outputs, shifted))


def _shift(value: Any, shifted: Collection[str]) -> Any:
    if isinstance(value, Ref):
        return Ref(value.layer, value.node - 1, value.tensor) if value.layer in shifted else value
    if isinstance(value, Mapping):
        return {key: _shift(item, shifted) for key, item in value.items()}
    return [_shift(item, shifted) for item in value] if isinstance(value, list) else value


def _chain(name: str, layers: list[LayerConfig], config: Mapping[str, Any]) -> NetworkConfig:
    """Return a Sequential network with an input and a call for every layer."""
    if not layers:
        raise ModelError(f"configuration: the network {name!r} has no layers")
    if layers[0].kind != "InputLayer":
        first = layers[0].options
        shape = first.get("batch_input_shape", first.get("batch_shape", config.get("build_input_shape")))
        if shape is None and first.get("input_dim") is not None:
            shape = [None, first["input_dim"]]
        if isinstance(layers[0].network, NetworkConfig) and shape is None:
            shape = _input_shape(layers[0].network)
        if not isinstance(shape, (list, tuple)):
            raise ModelError(f"configuration: the network {name!r} does not say its input's shape. Build it first.")
        options = {"batch_shape": list(shape), "dtype": first.get("dtype", "float32")}
        layers = [LayerConfig("InputLayer", _free(f"{layers[0].name}_input", layers), options), *layers]
    chained = [LayerConfig("InputLayer", layers[0].name, layers[0].options, [], None, "InputLayer")]
    for layer in layers[1:]:
        call = Call([Ref(chained[-1].name, 0, 0)], {})
        chained.append(LayerConfig(layer.kind, layer.name, layer.options, [call], layer.network, layer.label))
    network = NetworkConfig(name, chained, [Ref(chained[0].name, 0, 0)], [Ref(chained[-1].name, 0, 0)], True)
    _check_names(network)
    return network


def _input_shape(network: NetworkConfig) -> Any:
    wanted = network.inputs[0].layer
    options = next((layer.options for layer in network.layers if layer.name == wanted), {})
    return options.get("batch_shape", options.get("batch_input_shape"))


def _free(name: str, layers: Sequence[LayerConfig]) -> str:
    taken = {layer.name for layer in layers}
    while name in taken:
        name += "_"
    return name


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 500 or not value.isprintable():
        raise ModelError(f"configuration: {what} got {_kind(value)}, expected a word")
    return value


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
