"""How a run came about: who asked for it, the environment it began in, and what was another one where it went on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portnet.adapter import Adapter
from portnet.finetuning.environment import changes, environment, of_engine, origin

__all__ = ["Circumstances"]


class Circumstances:
    """What a run's record says of them.

    Attributes:
        origin: see `portnet.finetuning.environment.origin`.
        environment: the one that the run began in; None before it is taken down.
        resumed: after how many steps it went on, each time, and what had changed.
    """

    def __init__(self) -> None:
        self.origin = origin()
        self.environment: dict[str, str] | None = None
        self.resumed: list[dict[str, Any]] = []

    def follow(self, record: Mapping[str, Any]) -> None:
        """Be those of a run that goes on."""
        self.origin = record.get("origin", self.origin)
        self.resumed = list(record.get("resumed", []))

    def take_down(self, adapter: Adapter | None, device: str, resumed_after: int | None) -> str:
        """Take down the environment of this moment; return what is to be said of it, or "".

        Args:
            adapter: the engine, or None while it is not chosen.
            device: of the engine.
            resumed_after: how many steps the run had taken before; None for one that begins.
        """
        before, now = self.environment, environment(adapter, device)
        if adapter is not None and before is not None and adapter.name not in before:  # its engine was chosen since
            before = self.environment = before | of_engine(adapter, device)
        changed = {} if before is None else changes(before, now)
        if resumed_after is None:
            self.environment = now
        else:
            self.resumed.append({"after_steps": resumed_after, "changed": changed})
        if not changed:
            return ""
        listed = "; ".join(f"{name} {change}" for name, change in changed.items())
        return f"note: the environment is another than the run began in, bits may differ: {listed}"
