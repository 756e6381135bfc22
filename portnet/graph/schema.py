"""What the ONNX standard says of an op: attribute defaults, function bodies, versions."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx.defs

__all__ = ["HINTS", "attribute_defaults", "schema"]

# what to do about ops that no engine has, by domain: onnxruntime's highest level lays networks out for one processor
HINTS = {"com.microsoft.nchwc": ": have onnxruntime write the file at the level ORT_ENABLE_EXTENDED"}


@functools.cache
def schema(domain: str, op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    """Return the schema of an op as of ``opset``, or None when the standard does not know it."""
    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


@functools.cache
def attribute_defaults(domain: str, op_type: str, opset: int) -> dict[str, Any]:
    """Return the defaults of an op's attributes as plain Python; those without a default are left out."""
    found = schema(domain, op_type, opset)
    if found is None:
        return {}
    return {
        name: _plain(onnx.helper.get_attribute_value(attribute.default_value))
        for name, attribute in found.attributes.items()
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else value
