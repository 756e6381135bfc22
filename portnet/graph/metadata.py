"""What travels with a network besides its graph: preprocessing, labels, provenance, backbone cut.

All of it is stored in the .onnx file's ``metadata_props`` under ``portnet.*``, each value as JSON with
a schema version. A file without it still loads. Nothing here imports numpy, onnx or a framework.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from portnet.errors import ModelError

__all__ = ["BackboneInfo", "Metadata", "Preprocessing"]

SCHEMA = 1
PREFIX = "portnet."

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Color = Literal["RGB", "BGR", "GRAY"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the float32 NCHW array that a network was trained on.

    In order: decode to RGB (alpha composited over ``background``), resize, centre crop to ``size``,
    to ``color`` order, to float, divide by ``scale``, subtract ``mean``, divide by ``std``.
    The formulas are torchvision's ``ImageClassification`` preset (scale 255, mean/std in 0..1) and
    Caffe's (scale 1, mean in 0..255, BGR); see keras.applications ``imagenet_utils`` for the three modes.

    Attributes:
        size: height and width of the network's input, in pixels.
        resize: shorter side after resizing, in pixels, before the centre crop; None resizes straight
            to ``size``, not keeping the aspect ratio.
        interpolation: resampling filter, antialiased as Pillow does it.
        color: channel order that the network wants.
        scale: divisor applied first (255 maps bytes to 0..1).
        mean: per channel, in ``color`` order, after ``scale``.
        std: per channel, in ``color`` order, after ``scale``.
        background: RGB bytes that transparent pixels are composited over.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    interpolation: Interpolation = "bilinear"
    color: Color = "RGB"
    scale: float = 255.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    background: tuple[int, int, int] = (255, 255, 255)

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 1 if self.color == "GRAY" else 3

    def resized(self, size: tuple[int, int]) -> Preprocessing:
        """Return the same for another ``size``; the crop keeps its share of the image: 256 → 224 becomes 293 → 256."""
        resize = self.resize
        if resize is not None:
            resize = max(round(resize * max(size) / max(self.size)), *size)
        return replace(self, size=size, resize=resize)

    def __post_init__(self) -> None:
        # JSON knows lists alone; a frozen, hashable value wants tuples
        for name in ("size", "mean", "std", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.size) != 2 or not all(isinstance(n, int) and 0 < n <= 16384 for n in self.size):
            raise ModelError(f"preprocessing: size got {self.size}, expected two positive pixel counts")
        if self.resize is not None and not (isinstance(self.resize, int) and 0 < self.resize <= 16384):
            raise ModelError(f"preprocessing: resize got {self.resize!r}, expected a positive pixel count or None")
        for name, known in (("interpolation", Interpolation), ("color", Color)):
            if getattr(self, name) not in get_args(known):
                raise ModelError(f"preprocessing: {name} got {getattr(self, name)!r}, expected {get_args(known)}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ModelError(
                f"preprocessing: mean and std got {len(self.mean)} and {len(self.std)} values, "
                f"expected {self.channels} for color {self.color}"
            )
        if not self.scale or not all(self.std):
            raise ModelError("preprocessing: scale and std must not be zero")


@dataclass(frozen=True)
class BackboneInfo:
    """Where a network's head begins.

    Attributes:
        feature: name of the tensor that a new head is put on, (N, C, H, W) or (N, C).
        head: kind of head that the architecture has by nature.
    """

    feature: str
    head: Literal["linear", "conv"] = "linear"


@dataclass
class Metadata:
    """Everything PortNet keeps about a network besides its graph.

    Attributes:
        labels: class names in the order of the logits, or None.
        preprocessing: how images become inputs, or None when unknown.
        backbone: where the head begins, or None when it must be found.
        provenance: free facts, e.g. source, licence, sha256, top1.
    """

    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    backbone: BackboneInfo | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_props(self) -> dict[str, str]:
        """Return the ``metadata_props`` entries, JSON by name, of what is known."""
        known: dict[str, Any] = {}
        if self.labels is not None:
            known["labels"] = list(self.labels)
        if self.preprocessing is not None:
            known["preprocessing"] = asdict(self.preprocessing)
        if self.backbone is not None:
            known["backbone"] = asdict(self.backbone)
        if self.provenance:
            known["provenance"] = self.provenance
        return {
            PREFIX + name: json.dumps({"schema": SCHEMA, "value": value}, sort_keys=True)
            for name, value in known.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Metadata:
        """Read ``metadata_props``; entries that are absent stay None.

        Raises:
            ModelError: an entry under ``portnet.`` that is no JSON, of a newer schema, or ill-formed.
        """
        labels = _read(props, "labels")
        if labels is not None and not (isinstance(labels, list) and all(isinstance(s, str) for s in labels)):
            raise ModelError("metadata portnet.labels: expected a list of strings")
        provenance = _read(props, "provenance")
        if provenance is not None and not isinstance(provenance, dict):
            raise ModelError("metadata portnet.provenance: expected an object")
        return cls(
            labels=None if labels is None else tuple(labels),
            preprocessing=_build(Preprocessing, "preprocessing", _read(props, "preprocessing")),
            backbone=_build(BackboneInfo, "backbone", _read(props, "backbone")),
            provenance=provenance or {},
        )


def _read(props: Mapping[str, str], name: str) -> Any:
    text = props.get(PREFIX + name)
    if text is None:
        return None
    try:
        entry = json.loads(text)
        schema, value = entry["schema"], entry["value"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"metadata {PREFIX}{name} is not PortNet's JSON: {error}") from error
    if schema != SCHEMA:
        raise ModelError(f"metadata {PREFIX}{name}: got schema {schema}, this PortNet reads {SCHEMA}. Upgrade portnet.")
    return value


def _build(kind: type, name: str, value: Any) -> Any:
    if value is None:
        return None
    known = {f.name for f in fields(kind)}
    if not isinstance(value, dict) or not set(value) <= known:
        raise ModelError(f"metadata {PREFIX}{name}: expected an object with {sorted(known)}")
    try:
        return kind(**value)
    except (TypeError, ValueError) as error:
        raise ModelError(f"metadata {PREFIX}{name}: {error}") from error
