"""A network as a numbered list of layers, the view that policies, summaries and drawings share.

Layer 1 is the input, then comes one layer a node, in the order they run: the numbering of MATLAB's
``layers(1:16)``, in which activations, pooling and concatenation count too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from portnet.graph.parameters import Role

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["STAGE_MARK", "Layer", "layers"]

# metadata key on a node that names the stage it belongs to, e.g. "fire2" or "layer3"
STAGE_MARK = "portnet.stage"


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        index: number from 1 (the input).
        name: the node's name, e.g. ``features.3.squeeze``.
        op: ONNX op type, or "Input".
        stage: stage that the layer belongs to, e.g. ``fire2``; "" when unknown.
        initializers: name, role and size (scalars) of each initializer it reads.
        output: name of its first output tensor.
    """

    index: int
    name: str
    op: str
    stage: str
    initializers: tuple[tuple[str, Role, int], ...]
    output: str

    @property
    def parameters(self) -> int:
        """Count of trainable scalars."""
        return sum(size for _, role, size in self.initializers if role.trainable)


def layers(model: Model) -> list[Layer]:
    """Return the input and every node of ``model`` as layers, numbered from 1 as they run.

    An initializer that several nodes share is listed with the first.
    """
    roles = model.roles
    initializers = model.ir.graph.initializers
    first = model.inputs[0].name if model.inputs else ""
    result = [Layer(1, first, "Input", "", (), first)]
    seen: set[str] = set()
    for node in model.ir.graph:
        names = [value.name or "" for value in node.inputs if value is not None]
        own = [name for name in dict.fromkeys(names) if name in initializers and name not in seen]
        seen.update(own)
        result.append(
            Layer(
                index=len(result) + 1,
                name=node.name or f"{node.op_type}_{len(result)}",
                op=node.op_type,
                stage=node.metadata_props.get(STAGE_MARK, ""),
                initializers=tuple((name, roles[name], _size(initializers[name])) for name in own),
                output=(node.outputs[0].name or "") if node.outputs else "",
            )
        )
    return result


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.size
