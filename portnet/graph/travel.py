"""Labels, preprocessing and provenance in the files of other frameworks, which let them lie and do not read them.

    .keras           a member portnet.json             .pt2            an extra file portnet.json
    SavedModel       assets.extra/portnet.json         -symbol.json    an attribute of the graph
    .safetensors     entries of its __metadata__       code            those of its weights

The text is that of an .onnx file's ``metadata_props``: an object of JSON whose values are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from portnet.errors import ModelError
from portnet.graph.metadata import PREFIX, Metadata
from portnet.graph.model import Model

__all__ = ["ATTRIBUTE", "FILE", "MAX_BYTES", "from_props", "from_text", "renamed", "take_along", "to_text"]

FILE = "portnet.json"
# of a living network that a generated file returns
ATTRIBUTE = "metadata"
MAX_BYTES = 64 << 20


def to_text(metadata: Metadata) -> str:
    """Return what is known, as JSON; "{}" where that is nothing."""
    return json.dumps(metadata.to_props(), sort_keys=True)


def from_text(text: bytes | memoryview | str, source: str) -> Metadata:
    """Read what `to_text` wrote.

    Raises:
        ModelError: it is too long, no JSON, or ill-formed.
    """
    if len(text) > MAX_BYTES:
        raise ModelError(f"{source}: got {len(text)} bytes of {FILE}, expected at most {MAX_BYTES}. Refused.")
    try:
        props = json.loads(text if isinstance(text, str) else bytes(text))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: {FILE} is no JSON: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(props, dict):
        raise ModelError(f"{source}: {FILE}: got a {type(props).__name__}, expected an object")
    return from_props(props)


def from_props(props: Any) -> Metadata:
    """Read entries by name, those of others passed over; anything that is no dictionary of texts tells nothing.

    Raises:
        ModelError: an entry of PortNet's that is ill-formed.
    """
    known = props.items() if isinstance(props, dict) else ()
    return Metadata.from_props({k: v for k, v in known if isinstance(v, str) and str(k).startswith(PREFIX)})


def renamed(metadata: Metadata, names: Mapping[str, Sequence[str]]) -> Metadata:
    """Return metadata that calls what was frozen by an engine's names of the arrays, which a capture will find."""
    frozen = metadata.provenance.get("frozen")
    if not isinstance(frozen, dict):
        return metadata
    lists = {key: found for key, found in frozen.items() if isinstance(found, list)}
    told = {key: [new for n in found for new in names.get(n, (n,))] for key, found in lists.items()}
    return replace(metadata, provenance={**metadata.provenance, "frozen": told})


def take_along(model: Model, carried: Metadata) -> None:
    """Give a captured network what came with it, where it still fits and the capture did not tell it.

    Labels fit an output of as many classes, a backbone's feature a tensor of its name, and what was frozen the
    initializers of its names.
    """
    own = model.metadata
    if own.labels is None and carried.labels is not None and len(carried.labels) in _classes(model):
        own.labels = carried.labels
    own.preprocessing = own.preprocessing or carried.preprocessing
    tensors = {value.name for node in model.ir.graph for value in node.outputs}
    if own.backbone is None and carried.backbone is not None and carried.backbone.feature in tensors:
        own.backbone = carried.backbone
    provenance = {**carried.provenance, **own.provenance}
    frozen: dict[str, list[str]] = {}
    for told in (own.provenance.get("frozen"), carried.provenance.get("frozen")):
        for key, names in told.items() if isinstance(told, dict) else ():
            found = frozen.setdefault(key, [])
            found += [n for n in names if n in model.ir.graph.initializers and n not in found] if names else []
    provenance["frozen"] = {key: names for key, names in frozen.items() if names}
    if not provenance["frozen"]:
        del provenance["frozen"]
    own.provenance = provenance


def _classes(model: Model) -> set[Any]:
    """Return how many classes an output may have: (N, classes), or (N, classes, 1, 1)."""
    shapes = [[size for size in port.shape[1:] if size != 1] for port in model.outputs if port.shape]
    return {shape[0] for shape in shapes if len(shape) == 1}
