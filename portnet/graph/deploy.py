"""The form for deployment: what training needs and inference does not is computed into the weights, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from portnet.graph.canonical import canonical
from portnet.graph.passes.rewrite import Editor, constant_array, drop, python_attribute, set_input
from portnet.graph.passes.tidy import remove_identities, remove_unused

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["deploy"]


def deploy(model: Model) -> Model:
    """Return a network that gives the same outputs in inference with less work; it is no longer meant to be trained.

    BatchNormalization behind a convolution or dense layer is folded into its weights, w′ = w · γ/√(σ² + ε) by output
    channel and b′ = (b − μ) · γ/√(σ² + ε) + β  (Jacob et al. 2018, section 3.2), computed in float64. Dropout goes.
    Arithmetic on constants is done. Names of inputs, outputs and weights stay; ``model`` is not changed.

    Raises:
        ModelError: a graph that is broken.
    """
    folded = canonical(model)
    editor = Editor(folded.ir)
    for node in list(folded.ir.graph):
        if node.domain == "" and node.op_type == "Dropout" and not _is_live(node):
            _pass_by(node, editor)
    remove_identities(folded.ir)
    for node in list(folded.ir.graph):
        if node.domain == "" and node.op_type == "BatchNormalization":
            _fold(node, editor)
    remove_unused(folded.ir)
    return folded


def _is_live(node: ir.Node) -> bool:
    """Whether a Dropout drops in inference too, or somebody reads its mask."""
    training = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    mask_is_read = len(node.outputs) > 1 and bool(list(node.outputs[1].uses()))
    return mask_is_read or (
        len(node.inputs) > 2 and node.inputs[2] is not None and (training is None or bool(training))
    )


def _pass_by(node: ir.Node, editor: Editor) -> None:
    """Make a node an Identity, which `remove_identities` then takes out with all care for names."""
    graph = node.graph
    assert graph is not None
    old = node.outputs[0]
    name = old.name or ""
    old.name = editor.fresh(f"{name}/dropped")
    new = ir.node("Identity", [node.inputs[0]], name=node.name, version=node.version)
    new.outputs[0].name, new.outputs[0].type, new.outputs[0].shape = name, old.type, old.shape
    graph.insert_before(node, new)
    _take_over(old, new.outputs[0])
    drop(node)


# ---- BatchNormalization


def _conv_transpose(kernel: np.ndarray, factor: np.ndarray, node: ir.Node) -> np.ndarray:
    """Scale (in, out / groups, ...): output channel g · out/groups + j is column j of the rows of group g."""
    groups = python_attribute(node, "group", 1)
    rows = np.repeat(factor.reshape(groups, -1), kernel.shape[0] // groups, axis=0)
    return kernel * rows.reshape(*rows.shape, *[1] * (kernel.ndim - 2))


def _leading(kernel: np.ndarray, factor: np.ndarray, node: ir.Node) -> np.ndarray:
    return kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))


def _gemm(kernel: np.ndarray, factor: np.ndarray, node: ir.Node) -> np.ndarray:
    return kernel * (factor[:, None] if python_attribute(node, "transB", 0) else factor[None, :])


# op -> the kernel, scaled by output channel
_SCALED: dict[str, Callable[[np.ndarray, np.ndarray, ir.Node], np.ndarray]] = {
    "Conv": _leading,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
}


def _fold(norm: ir.Node, editor: Editor) -> None:
    """Fold one BatchNormalization into the layer that it alone reads, where there is one."""
    source = norm.inputs[0]
    layer = None if source is None else source.producer()
    if source is None or layer is None or layer.op_type not in _SCALED or layer.domain != "":
        return
    if source.is_graph_output() or len(list(source.uses())) != 1 or python_attribute(norm, "training_mode", 0):
        return
    if layer.op_type == "Gemm" and (python_attribute(layer, "alpha", 1.0), python_attribute(layer, "beta", 1.0)) != (
        1,
        1,
    ):
        return
    kernel = constant_array(layer.inputs[1])
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant_array(bias_value)
    numbers = [constant_array(value) for value in norm.inputs[1:5]]
    if kernel is None or kernel.dtype.kind != "f" or (bias_value is not None and bias is None):
        return
    scale, shift, mean, variance = (None if array is None else array.astype(np.float64) for array in numbers)
    if scale is None or shift is None or mean is None or variance is None:
        return
    factor = scale / np.sqrt(variance + python_attribute(norm, "epsilon", 1e-5))
    offset = (0.0 if bias is None else bias.astype(np.float64)) - mean
    new_kernel = _SCALED[layer.op_type](kernel.astype(np.float64), factor, layer).astype(kernel.dtype)
    new_bias = np.broadcast_to(offset * factor + shift, factor.shape).astype(kernel.dtype)
    _replace(layer, 1, new_kernel, layer.inputs[1], editor)
    _replace(layer, 2, new_bias, bias_value or norm.inputs[2], editor)
    output, name = norm.outputs[0], norm.outputs[0].name
    output.name, source.name = editor.fresh(f"{name}/folded"), name
    _take_over(output, source)
    drop(norm)


def _replace(layer: ir.Node, index: int, array: np.ndarray, old: ir.Value | None, editor: Editor) -> None:
    """Give a layer an array of its own: the old one's name where nobody else reads that, else a fresh one."""
    graph = editor.model.graph
    assert old is not None
    name = old.name or "weight"
    if len(list(old.uses())) == 1 and name in graph.initializers:
        graph.initializers.pop(name)
        old.name = editor.fresh(f"{name}/unfolded")
    else:
        name = editor.fresh(f"{name}/folded")
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    set_input(layer, index, value)


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of ``old``, and the graph's outputs, read ``new``."""
    if old.is_graph_output():
        outputs = old.graph.outputs  # type: ignore[union-attr]
        outputs[:] = [new if output is old else output for output in outputs]
    for user, index in tuple(old.uses()):
        user.replace_input_with(index, new)
