"""What kept activations are known by: digests of everything that they are a function of, and of nothing else.

Head, learning rate, engine, batch size and the classes' names do not enter, so another run on the same images finds
what an earlier one left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnx_ir as ir

from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model

__all__ = ["activations_key", "graph_digest", "identity", "images_digest"]

# raised when the same images and graph come to give other numbers: another decoder, other augmentation, another batch
GENERATION = 3
# what decodes, changes and computes: another version may round another way
_MAKERS = ("pillow", "numpy", "onnxruntime", "onnxruntime-gpu")


def activations_key(
    prefix: Model,
    weights: str,
    images: str,
    dtype: str,
    preprocessing: Preprocessing,
    decoder: str,
    views: dict[str, Any] | None,
    provider: str,
) -> dict[str, Any]:
    """Return the key, plain data: digests of graph, weights and images, preprocessing, views, dtype and makers.

    Args:
        prefix: the frozen part.
        weights: digest of its weights.
        images: what `images_digest` returned.
        dtype: "float32" or "float16".
        preprocessing: how an image becomes the prefix's input.
        decoder: who decodes images, in words.
        views: what decides how images are changed, and how many views of each there are; None for none.
        provider: what computes; see `portnet.finetuning.prefix.where`.
    """
    key = {
        "generation": GENERATION,
        "graph": graph_digest(prefix),
        "weights": weights,
        "preprocessing": asdict(preprocessing),
        "decoder": decoder,
        "images": images,
        "views": views,
        "dtype": dtype,
        "provider": provider,
        "makers": {package: found for package in _MAKERS if (found := _version(package))},
    }
    # as it comes back from a file
    return dict(json.loads(json.dumps(key)))


def identity(key: dict[str, Any]) -> str:
    """Return the key's name: the first 16 digits of its SHA-256."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def graph_digest(model: Model) -> str:
    """SHA-256 over a network's operator sets, nodes, inputs and outputs; weights, labels and the like left out."""
    graph = model.ir.graph
    state = hashlib.sha256(repr(sorted(model.ir.opset_imports.items())).encode())
    for port in (*model.inputs, *model.outputs):
        state.update(f"{port}\0".encode())
    for node in graph:
        state.update(ir.serde.serialize_node(node).SerializeToString(deterministic=True))
    return state.hexdigest()


def images_digest(digests: Iterable[bytes]) -> str:
    """SHA-256 over the digests of images, in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
