"""What a word or path of torch means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portnet.errors import InputError
from portnet_torch.capturing.facts import Facts, remember

__all__ = ["open_network"]


def open_network(source: str, weights: Path | None) -> Any:
    """Return the network that ``torchvision:NAME``, ``timm:NAME`` or a path means; see `portnet.adapter.Adapter.open`.

    Raises:
        InputError: a file of another kind; says what to do with one that only code could open.
    """
    collection, colon, name = source.partition(":")
    if colon and collection == "torchvision":
        from portnet_torch.capturing.collections import from_torchvision

        return from_torchvision(name, weights)
    if colon and collection == "timm":
        from portnet_torch.capturing.collections import from_timm

        return from_timm(name, weights)
    path = Path(source)
    if path.suffix == ".pt2":
        from portnet_torch.capturing.programs import carried_by, load_program

        program = load_program(path)
        remember(program, Facts(path.stem, provenance={"source": path.name}, carried=carried_by(path)))
        return program
    raise InputError(
        f"{source}: a {path.suffix or 'file without suffix'} holds weights alone, TorchScript or a pickled module, "
        "whose code PortNet does not run. Save the network with torch.export.save(torch.export.export(network.eval(), "
        "(example,)), 'network.pt2'), or name the function that builds it: package.module:factory."
    )
