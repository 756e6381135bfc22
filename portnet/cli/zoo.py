"""``portnet zoo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portnet.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from portnet.zoo import ZooEntry

__all__ = ["zoo"]


def zoo(json: Json = False) -> None:
    """List the networks of the zoo, and whose ImageNet weights are at hand without a download.

    Example: portnet zoo
    """
    from portnet import zoo as networks

    entries = [networks.info(name) for name in networks.names()]
    if json:
        print_json([_plain(entry) for entry in entries])
        return
    rows = [
        (
            entry.name,
            str(entry.depth),
            f"{entry.parameters:,}",
            f"{entry.megabytes:.1f} MB",
            "×".join(map(str, entry.size)),
            ", ".join(entry.weights_at_hand()) or "download",
        )
        for entry in entries
    ]
    print_table(("network", "depth", "parameters", "size", "input", "ImageNet weights"), rows)


def _plain(entry: ZooEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "depth": entry.depth,
        "parameters": entry.parameters,
        "megabytes": entry.megabytes,
        "input": list(entry.size),
        "weights_at_hand": list(entry.weights_at_hand()),
        "source": entry.source,
    }
