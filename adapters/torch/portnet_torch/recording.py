"""Calls on proxies, recorded as an `fx.Graph`."""

from __future__ import annotations

from typing import Any

from torch import fx

from portnet_torch.naming import identifier

__all__ = ["Recorder"]

_LEAVES = frozenset({int, float, bool, str, type(None)})
_CALLS = frozenset({"call_function", "call_method", "call_module"})


class Recorder:
    """Appends to a graph.

    Attributes:
        graph: what was recorded so far.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._tracer = fx.proxy.GraphAppendingTracer(self.graph)
        self._named: set[fx.Node] = set()

    def record(
        self,
        op: str,
        target: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Append a node whose arguments may hold proxies, and return its proxy.

        ``name`` is what `name` will call it, most likely.
        """
        node = self.graph.create_node(op, target, name=None if name is None else identifier(name))
        # arguments that `create_node` is given are searched for symbolic sizes of torch's own, which no builder makes
        if args:
            node.args = tuple(map(self.argument, args))
        if kwargs:
            node.kwargs = {key: self.argument(value) for key, value in kwargs.items()}
        return fx.Proxy(node, self._tracer)

    def argument(self, value: Any) -> Any:
        """Return an argument with the nodes of its proxies in their place."""
        kind = type(value)
        if kind is fx.Proxy:
            return value.node
        return value if kind in _LEAVES else self._tracer.create_arg(value)

    def name(self, proxy: fx.Proxy, name: str) -> None:
        """Name a call; one that has a name keeps it."""
        node = proxy.node
        if node not in self._named:
            self._named.add(node)
            wanted = identifier(name)
            if node.op in _CALLS and node.name != wanted:
                node._rename(wanted)

    def erase_unread(self) -> None:
        """Erase calls whose result nobody reads; layers stay, for they hold weights."""
        for node in reversed(list(self.graph.nodes)):
            if node.op in ("call_function", "call_method") and not node.users:
                self.graph.erase_node(node)
