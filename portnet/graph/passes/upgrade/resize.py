"""Resize and Upsample, GridSample, RoiAlign: coordinate conventions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.passes.rewrite import Site, constant_array, python_attribute, set_input
from portnet.graph.passes.upgrade.registry import upgrade

# tf_half_pixel_for_nn is half_pixel moved by half a pixel, which another way of rounding expresses
_HALF_PIXEL_ROUNDING = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}


@upgrade("Upsample", since=7)
def upsample_sides(site: Site, node: ir.Node) -> None:
    """One scale an axis, instead of height's and width's."""
    if "height_scale" in node.attributes:
        scales = [python_attribute(node, f"{side}_scale") for side in ("height", "width")]
        node.attributes["scales"] = ir.AttrFloat32s("scales", [1.0, 1.0, *scales])


@upgrade("Upsample", since=9, repairs=True)
def upsample_scales(site: Site, node: ir.Node) -> None:
    """Scales are an input."""
    scales = node.attributes.pop("scales", None)
    if scales is not None:
        set_input(node, 1, site.constant(np.array(scales.value, np.float32), "scales"))


@upgrade("Upsample", since=10, repairs=True)
def upsample(site: Site, node: ir.Node) -> None:
    """Upsample is Resize in asymmetric coordinates."""
    data, scales = node.inputs
    mode = python_attribute(node, "mode", "nearest")
    site.replace(_asymmetric(site, data, scales, "linear" if mode in ("linear", "bilinear") else mode))


@upgrade("Resize", since=11)
def resize(site: Site, node: ir.Node) -> None:
    """Version 10 worked in asymmetric coordinates."""
    if len(node.inputs) == 2:
        data, scales = node.inputs
        site.replace(_asymmetric(site, data, scales, python_attribute(node, "mode", "nearest")))


def _asymmetric(site: Site, data: ir.Value | None, scales: ir.Value | None, mode: str) -> ir.Value:
    factors = constant_array(scales)
    # onnxruntime's rule for opset 10: the source pixel is rounded down when growing, up when shrinking
    shrinks = factors is not None and bool(np.any(factors < 1))
    return site.op(
        "Resize",
        data,
        None,
        scales,
        mode=mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="ceil" if shrinks else "floor",
    )


@upgrade("Resize", since=13)
def resize_half_pixel(site: Site, node: ir.Node) -> None:
    """``tf_half_pixel_for_nn`` is gone."""
    if python_attribute(node, "coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return
    rounding = python_attribute(node, "nearest_mode", "round_prefer_floor")
    if python_attribute(node, "mode", "nearest") != "nearest" or rounding not in _HALF_PIXEL_ROUNDING:
        raise UnsupportedError(
            f"node {node.name!r}: Resize (opset {node.version}) with tf_half_pixel_for_nn and {rounding}"
        )
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "half_pixel")
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", _HALF_PIXEL_ROUNDING[rounding])


@upgrade("Resize", since=13, repairs=True)
def resize_empty_inputs(site: Site, node: ir.Node) -> None:
    """An input given as an empty constant is left out (opset 11 had no other way to say so)."""
    for index, value in enumerate(node.inputs[1:], start=1):
        array = constant_array(value)
        if array is not None and array.size == 0:
            node.replace_input_with(index, None)


@upgrade("GridSample", since=20, repairs=True)
def grid_sample(site: Site, node: ir.Node) -> None:
    """Modes lost their prefix: bilinear is linear in any number of dimensions."""
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(python_attribute(node, "mode", ""))
    if renamed:
        node.attributes["mode"] = ir.AttrString("mode", renamed)


@upgrade("RoiAlign", since=16)
def roi_align(site: Site, node: ir.Node) -> None:
    """Boxes were not moved by half a pixel."""
    name = "coordinate_transformation_mode"
    node.attributes[name] = ir.AttrString(name, "output_half_pixel")
