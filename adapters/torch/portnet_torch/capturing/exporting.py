"""torch's own exporter, asked for a graph in memory that loses nothing training needs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from portnet.errors import MissingDependencyError, UnsupportedError
from portnet.formats.captured import Missing
from portnet_torch.capturing.inplace import without_writes
from portnet_torch.capturing.tracing import first_line

__all__ = ["export"]


def export(program: ExportedProgram, name: str) -> ONNXProgram:
    """Translate a traced network; the graph is neither optimised nor written anywhere.

    Args:
        program: the network; not changed.
        name: what it is called in messages.

    Raises:
        MissingDependencyError: torch's exporter needs onnxscript, and it is not installed.
        UnsupportedError: operations that have no translation, all named, or whatever else the exporter raises.
    """
    try:
        from portnet_torch.capturing import recurrent, translations
    except ImportError as error:
        raise MissingDependencyError("torch's exporter needs onnxscript. Run: pip install onnxscript") from error
    _check_inference(program, name)
    table = {**translations.TABLE, **recurrent.TABLE}
    try:
        return _export(_Undecomposed.of(program), table)
    except Exception:  # an operation that only decomposing makes one that the exporter knows
        pass
    try:
        return _export(_with_copies(program), table)
    except Exception as error:  # the exporter wraps whatever it meets
        _name_missing(program, table, name)
        raise UnsupportedError(f"torch's exporter cannot translate {name}: {_cause(error)}", engine="torch") from error


def _export(program: ExportedProgram, table: dict[Any, Any]) -> ONNXProgram:
    result = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, custom_translation_table=table)
    assert result is not None
    return result


def _name_missing(program: ExportedProgram, table: dict[Any, Any], name: str) -> None:
    """Name all operations that have no translation, where torch's registry can be asked; its own error names one.

    Raises:
        UnsupportedError: there is one.
    """
    missing = Missing(f"torch: {name}")
    try:
        from torch.onnx._internal.exporter import _decomp, _registration

        registry = _registration.ONNXRegistry.from_torchlib()
        known = set(_decomp.get_onnx_implemented_overloads(registry)) | set(table)
        decompositions = _decomp.create_onnx_friendly_decomposition_table(known)
        for node in _with_copies(program).run_decompositions(decompositions).graph.nodes:
            if node.op != "call_function" or "aten._assert" in str(node.target):  # the exporter drops what only checks
                continue
            if node.target not in known and not registry.is_registered(node.target):
                missing.add(str(node.target), _place(node))
    except Exception:  # what is private in torch may be gone; then its own error stands
        return
    missing.raise_if_any()


class _Undecomposed(ExportedProgram):
    """A program that stays as it was traced where the exporter knows all its operations.

    Decomposing takes most of an export's time, since torch traces the network anew with symbolic sizes, and it is what
    loses BatchNormalization's and Dropout's form.
    """

    @classmethod
    def of(cls, program: ExportedProgram) -> _Undecomposed:
        """Return a program with a graph of its own, which shares the weights."""
        result = _copy(program)
        result.__class__ = cls
        result.__dict__["_traced"] = program
        return result  # type: ignore[return-value]

    def run_decompositions(self, decomp_table: Any = None, *rest: Any, **options: Any) -> ExportedProgram:
        """Return itself, or what torch makes of it if some operation is in ``decomp_table`` or writes in place."""
        if without_writes(self.graph) and not any(_is_decomposed(node, decomp_table) for node in self.graph.nodes):
            self.graph_module.recompile()
            return self
        return _with_copies(self.__dict__["_traced"]).run_decompositions(decomp_table, *rest, **options)


def _copy(program: ExportedProgram) -> ExportedProgram:
    """Return a program with a graph of its own, which shares the weights."""
    result = copy.copy(program)
    result._graph_module = copy.deepcopy(program.graph_module)  # the weights are not in it
    for node, original in zip(result.graph.nodes, program.graph.nodes, strict=True):
        node.name = original.name  # a copy takes another where a name, such as input, is a builtin's too
    return result


def _with_copies(program: ExportedProgram) -> ExportedProgram:
    """Return a program that copies what it reshapes.

    What an operation is decomposed into may lay its result out another way, of which there is no view as was traced.
    """
    result = _copy(program)
    targets = (torch.ops.aten.view.default, torch.ops.aten.reshape.default)
    for node in [node for node in result.graph.nodes if node.op == "call_function" and node.target in targets]:
        with result.graph.inserting_before(node):
            whole = result.graph.call_function(
                torch.ops.aten.clone.default, (node.args[0],), {"memory_format": torch.contiguous_format}
            )
        whole.meta = {**node.args[0].meta, "nn_module_stack": node.meta.get("nn_module_stack", {})}
        node.replace_input_with(node.args[0], whole)
    result.graph_module.recompile()
    return result


def _is_decomposed(node: torch.fx.Node, table: Mapping[Any, Any] | None) -> bool:
    if node.op == "get_attr":  # the body of a branch or loop
        return True
    return node.op == "call_function" and (table is None or node.target in table or _is_higher_order(node))


def _is_higher_order(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.HigherOrderOperator)


def _check_inference(program: ExportedProgram, name: str) -> None:
    """Refuse what a network does in inference that belongs to training.

    Raises:
        UnsupportedError: Dropout or BatchNormalization that are live, all of them named.
    """
    missing = Missing(f"torch: {name}")
    for node in program.graph.nodes:
        target = str(node.target)
        place = _place(node)
        if target in ("aten.dropout.default", "aten.dropout_.default") and _argument(node, 2, "train"):
            missing.add("Dropout that drops in inference too, so that no output repeats; pass training=False", place)
        elif target == "aten.batch_norm.default" and _argument(node, 5, "training") and _has_statistics(node):
            missing.add("BatchNormalization that trains in inference too; pass training=False", place)
    missing.raise_if_any()


def _has_statistics(node: torch.fx.Node) -> bool:
    """Whether running statistics exist that training would move; without, normalising is plain arithmetic."""
    return _argument(node, 3, "running_mean") is not None


def _argument(node: torch.fx.Node, index: int, name: str) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name)


def _place(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return (paths[-1] if paths else "") or node.name


def _cause(error: BaseException) -> str:
    """Return the innermost reason: the exporter wraps it in its own report of some hundred lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
