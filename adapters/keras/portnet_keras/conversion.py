"""A function of TensorFlow's → `Model`, by tf2onnx, which is kept from folding anything that a network learned.

Each variable becomes an initializer of its name. BatchNormalization, which TensorFlow's graphs hold as arithmetic,
becomes an op again; what a graph computes from variables alone stays in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.model import Model
from portnet.graph.names import take_name
from portnet.graph.passes.rewrite import every_graph
from portnet.graph.schema import schema
from portnet_keras.batchnorm import fuse_batch_norms, handlers
from portnet_keras.graphdef import Graph, Variable, grow, set_constant
from portnet_keras.numbered import Numbered, adopt, is_numbered
from portnet_keras.passing import push_transposes

__all__ = ["OPSET", "Converted", "convert"]

OPSET = 18
_MOMENTUM = 0.99
_lock = threading.Lock()
# ops that move numbers about, so that what they do to a variable can be read off afterwards
_MOVES = frozenset(
    {
        *("Identity", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Slice", "StridedSlice", "Split", "SplitV"),
        *("Unpack", "Pack", "ConcatV2", "ReverseV2", "GatherV2", "Gather"),
    }
)


@dataclass(frozen=True)
class Converted:
    """What came of it.

    Attributes:
        model: the network.
        apart: variables that are in several initializers.
    """

    model: Model
    apart: tuple[str, ...]


def convert(
    concrete: Any,
    signature: Sequence[Any],
    name: str,
    *,
    moved: bool,
    names: Mapping[int, str] | None = None,
    momenta: Mapping[str, float] | None = None,
) -> Converted:
    """Convert a concrete function.

    Args:
        concrete: TensorFlow's concrete function.
        signature: TensorSpecs of its inputs.
        name: of the network.
        moved: whether images become channels first at the border.
        names: of variables by the identity of their handles; others are called as TensorFlow calls them.
        momenta: of BatchNormalization, by the name of its running mean; Keras's default where it is not known.
    """
    captured = {id(tensor) for tensor in concrete.graph.internal_captures}
    inputs = [tensor.name for tensor in concrete.inputs if id(tensor) not in captured]
    outputs = [tensor.name for tensor in concrete.outputs]
    graph = grow(concrete, names or {})
    graph.prune(outputs)
    graph = _optimised(graph, inputs, outputs)
    stand_ins = fuse_batch_norms(graph)
    graph.prune(outputs)
    live = _computed_with(graph)
    numbers = is_numbered({key: found for key, found in graph.variables.items() if key not in live})
    numbered = Numbered(list(numbers.values()))
    arrays = {key: numbered.stand_in(i) for i, key in enumerate(numbers)}
    arrays |= {key: found.array for key, found in graph.variables.items() if key not in live and key not in numbers}
    _set(graph, arrays)
    ports, taken = dict(zip(inputs, _names(signature), strict=True)), set[str]()
    ports |= {key: f"output_{i + 1}" if len(outputs) > 1 else "output" for i, key in enumerate(outputs)}
    taken |= set(ports.values())
    inner = {f"{key}:0": take_name(f"variable_{i}", taken) for i, key in enumerate(live)}
    images = [key for key, spec in zip(inputs, signature, strict=True) if spec.shape.rank == 4]
    results = [tensor.name for tensor in concrete.outputs if tensor.shape.rank == 4]
    with _lock, _Unfolding() as optimizers:
        import tf2onnx.convert

        proto, _ = tf2onnx.convert._convert_common(
            graph.proto,
            name=name,
            opset=OPSET,
            input_names=[*inputs, *inner],
            output_names=outputs,
            inputs_as_nchw=images if moved else None,
            outputs_as_nchw=results if moved else None,
            tensors_to_rename=ports | inner,
            optimizers=optimizers,
            custom_op_handlers=handlers(stand_ins),
        )
    proto.graph.name = name
    model = Model.from_bytes(proto.SerializeToString())
    _refuse_unknown(model)
    apart = adopt(model.ir, numbered, {inner[f"{key}:0"]: graph.variables[key] for key in live})
    push_transposes(model.ir)
    for node in model.ir.graph:
        if node.op_type == "BatchNormalization":
            momentum = (momenta or {}).get(node.inputs[3].name or "", _MOMENTUM)  # type: ignore[union-attr]
            node.attributes["momentum"] = ir.AttrFloat32("momentum", momentum)
    return Converted(model, tuple(apart))


def _refuse_unknown(model: Model) -> None:
    """Refuse TensorFlow's ops, which tf2onnx leaves as they are where it has no translation."""
    nodes = [node for graph in every_graph(model.ir) for node in graph]
    left = sorted({node.op_type for node in nodes if schema(node.domain, node.op_type, OPSET) is None})
    if left:
        raise UnsupportedError(
            f"network {model.name!r}: got TensorFlow's {', '.join(left)}, which tf2onnx does not translate",
            engine="keras",
        )


def _names(signature: Sequence[Any]) -> list[str]:
    return [spec.name or f"input_{i + 1}" for i, spec in enumerate(signature)]


def _set(graph: Graph, arrays: Mapping[str, Any]) -> None:
    import tensorflow as tf

    for key, array in arrays.items():
        set_constant(graph.nodes[key], array, tf)


def _optimised(graph: Graph, inputs: list[str], outputs: list[str]) -> Graph:
    """Have TensorFlow take in functions and fold what is constant, which no variable is, and say every shape."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    feeds = [*inputs, *(f"{key}:0" for key in graph.variables)]
    with tf.Graph().as_default():
        proto = tf_loader.tf_optimize(feeds, outputs, graph.proto)
    with tf.Graph().as_default() as shaped:
        tf.import_graph_def(proto, name="")
    return Graph(shaped.as_graph_def(add_shapes=True), graph.variables)


def _computed_with(graph: Graph) -> dict[str, Variable]:
    """Return the variables that the graph computes with before they meet an input."""
    from_variables: dict[str, set[str]] = {name: {name} for name in graph.variables}
    found: set[str] = set()
    for node in _in_order(graph):
        sources = [name.partition(":")[0] for name in node.input if not name.startswith("^")]
        if node.op == "Const" or node.name in graph.variables or not sources:
            continue
        known = [from_variables.get(name) for name in sources]
        if any(each is None and graph.nodes[name].op != "Const" for each, name in zip(known, sources, strict=True)):
            continue
        read = set().union(*(each for each in known if each))
        if read:
            from_variables[node.name] = read
            found |= read if node.op not in _MOVES else set()
    return {name: graph.variables[name] for name in graph.variables if name in found}


def _in_order(graph: Graph) -> Iterator[Any]:
    """Yield every node after those that it reads."""
    done: set[str] = set()
    pending = [(name, False) for name in reversed(graph.nodes)]
    while pending:
        name, is_ready = pending.pop()
        if name in done or name not in graph.nodes:
            continue
        if is_ready:
            done.add(name)
            yield graph.nodes[name]
            continue
        pending.append((name, True))
        pending += [(each.lstrip("^").partition(":")[0], False) for each in graph.nodes[name].input]


class _Unfolding:
    """tf2onnx's optimizers without what folds BatchNormalization into the convolution before it, and a mistake."""

    _FOLDING = ("Conv", "BatchNormalization")

    def __enter__(self) -> dict[str, Any]:
        from tf2onnx import optimizer
        from tf2onnx.optimizer import back_to_back_optimizer, transpose_optimizer

        class Transposes(transpose_optimizer.TransposeOptimizer):
            """Without the last step, which makes reshapes of transposes by shapes that are no longer so."""

            def post_optimize_action(self) -> None:
                pass

        self._table = back_to_back_optimizer._func_map
        self._folding = self._table.pop(self._FOLDING, None)
        return {**optimizer._get_optimizers(), "optimize_transpose": Transposes}

    def __exit__(self, *error: object) -> None:
        if self._folding is not None:
            self._table[self._FOLDING] = self._folding
