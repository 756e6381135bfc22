"""``portnet zoo``."""

from __future__ import annotations

from dataclasses import asdict

from portnet.cli.output import Json, print_json, print_table

__all__ = ["zoo"]


def zoo(json: Json = False) -> None:
    """List the networks of the zoo, and whose ImageNet weights are at hand without a download.

    Example: portnet zoo
    """
    from portnet import zoo as networks

    entries = [networks.info(name) for name in networks.names()]
    if json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [
        (
            entry.name,
            str(entry.depth),
            f"{entry.parameters:,}",
            f"{entry.size_mb:.1f} MB",
            "×".join(map(str, entry.input_size)),
            entry.weights_at_hand or "download",
        )
        for entry in entries
    ]
    print_table(("network", "depth", "parameters", "size", "input", "ImageNet weights"), rows)
