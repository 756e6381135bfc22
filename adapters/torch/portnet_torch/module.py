"""A network as a `torch.fx.GraphModule` whose graph is made when somebody asks for it."""

from __future__ import annotations

import functools
from typing import Any

from torch import fx, nn

from portnet_torch.body import forward_of
from portnet_torch.recording import Recorder, graph_of

__all__ = ["Network"]


class Network(fx.GraphModule):
    """Runs what a `Recorder` has recorded.

    Until its graph is changed, its ``forward`` is of this package's making (`portnet_torch.body`). ``code``, like
    ``recompile()``, lets torch write it anew from the graph: the same calls, under the names that they have there.

    Args:
        name: name of its class.
    """

    def __init__(self, name: str) -> None:
        nn.Module.__init__(self)
        type(self).__name__ = name
        # as `fx.GraphModule` begins, but for a graph
        self._tracer_cls = None
        self._tracer_extras: dict[str, Any] = {}
        self.meta: dict[str, Any] = {}
        self._replace_hooks: list[Any] = []
        self._create_node_hooks: list[Any] = []
        self._erase_node_hooks: list[Any] = []
        self._deepcopy_hooks: list[Any] = []
        self.shape_env = None
        self._lineno_map, self._prologue_start = None, 0

    def finish(self, recorder: Recorder, outputs: Any) -> None:
        """Let ``forward`` do what was recorded, and return ``outputs``, a call or a tuple of calls."""
        calls = recorder.live(outputs)
        kind: Any = type(self)  # a class of this network alone, as that of every GraphModule
        kind.forward = forward_of(recorder.inputs, calls, outputs, kind.__name__)
        kind._made = staticmethod(functools.partial(graph_of, recorder.inputs, calls, outputs))

    @functools.cached_property
    def _graph(self) -> fx.Graph:  # type: ignore[override]
        graph: fx.Graph = self._made()  # type: ignore[operator]
        graph.owning_module = self
        return graph

    @functools.cached_property
    def _code(self) -> str:  # type: ignore[override]
        return self.recompile().src

    # what copies itself copies its dictionary first

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        vars(self)["_graph"] = self.graph
        return super().__deepcopy__(memo)

    def __reduce__(self) -> tuple[Any, ...]:
        self.recompile()
        return super().__reduce__()

    def __reduce_package__(self, exporter: Any) -> tuple[Any, ...]:
        self.recompile()
        return super().__reduce_package__(exporter)
