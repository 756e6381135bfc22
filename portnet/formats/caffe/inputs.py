"""What a network reads: sizes, and how images become numbers, from the layers that read data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portnet.errors import InputError, ModelError
from portnet.formats.caffe.net import OTHER_SOURCE, Spec
from portnet.formats.caffe.text import Message
from portnet.graph.metadata import Preprocessing

__all__ = ["USUAL_CROPS", "USUAL_RESIZE", "InputShape", "input_sizes", "mean_file_of", "preprocessing_of"]

# sizes, the batch first, of the only input or by an input's name
InputShape = Sequence[int] | Mapping[str, Sequence[int]] | None

MAX_SIZE = 1 << 24
MAX_RANK = 8
# options of these layers, under the layer's type; Caffe once kept those of transform_param here
_OPTIONS = {
    **{"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": "hdf5_data_param"},
    **{"WindowData": "window_data_param", "MemoryData": "memory_data_param", "AnnotatedData": "data_param"},
}
# what images were resized to before a crop of about 224 pixels was taken, when networks were trained on ImageNet
USUAL_RESIZE, USUAL_CROPS = 256, range(217, 232)


def input_sizes(spec: Spec, top: int, given: InputShape) -> tuple[list[int], int | None]:
    """Return the sizes of what a data layer yields, without the batch, and the batch that the file declares.

    Args:
        spec: the layer.
        top: place among its tops.
        given: what the caller says, which goes before what the file says.

    Raises:
        InputError: nobody says.
        ModelError: sizes that are none.
    """
    name = spec.tops[top]
    declared = _declared(spec, top)
    batch = declared[0] if declared else None
    if isinstance(given, Mapping):
        sizes = list(given[name])[1:] if name in given else declared[1:]
    else:
        sizes = declared[1:] if given is None else list(given)[1:]
    if not sizes:
        raise InputError(
            f"{spec.message.source}: layer {spec.name!r} ({spec.message.string('type') or spec.kind}) does not say how "
            "large its images are. Give input_shape: 1, channels, height, width."
        )
    if len(sizes) >= MAX_RANK or not all(type(n) is int and 0 < n <= MAX_SIZE for n in sizes):
        raise ModelError(f"{spec.message.source}: input {name!r} got sizes {sizes[:MAX_RANK]}, expected positive ones")
    return sizes, batch


def _declared(spec: Spec, top: int) -> list[int]:
    """Return all sizes that the file tells, the batch among them, or none."""
    if spec.kind == OTHER_SOURCE:
        return []
    if spec.kind == "Input":
        return _repeated(
            [shape.integers("dim") for shape in spec.message.message("input_param").messages("shape")], top
        )
    options = spec.message.message("dummy_data_param" if spec.kind == "DummyData" else _OPTIONS[spec.kind])
    if spec.kind == "DummyData":
        shapes = [shape.integers("dim") for shape in options.messages("shape")]
        parts = [options.integers(what) for what in ("num", "channels", "height", "width")]
        return _repeated(shapes or [list(sizes) for sizes in zip(*parts, strict=False)], top)
    if spec.kind == "MemoryData":
        return [options.integer(what, 0) for what in ("batch_size", "channels", "height", "width")]
    if spec.kind == "HDF5Data":
        return []
    pixels = _crop(spec, options) or [options.integer("new_height", 0), options.integer("new_width", 0)]
    return [options.integer("batch_size", 1), 1 if _is_gray(spec, options) else 3, *pixels] if all(pixels) else []


def _repeated(shapes: list[list[int]], top: int) -> list[int]:
    """Return the shape of a top; one stands for all."""
    return shapes[min(top, len(shapes) - 1)] if shapes else []


def _crop(spec: Spec, options: Message) -> list[int]:
    transform = spec.message.message("transform_param")
    size = transform.integer("crop_size", options.integer("crop_size", 0))
    pair = [transform.integer("crop_h", size), transform.integer("crop_w", size)]
    return pair if all(pair) else []


def _is_gray(spec: Spec, options: Message) -> bool:
    return spec.message.message("transform_param").flag("force_gray", False) or not options.flag("is_color", True)


def mean_file_of(spec: Spec) -> str:
    """Return the name of the mean image that a layer subtracts, or ""."""
    options = spec.message.message(_OPTIONS.get(spec.kind, "data_param"))
    return spec.message.message("transform_param").string("mean_file", options.string("mean_file"))


def preprocessing_of(
    spec: Spec, sizes: Sequence[int], mean: Sequence[float] | None = None
) -> tuple[Preprocessing | None, list[str]]:
    """Return how Caffe's DataTransformer makes a layer's images into numbers, and notes; None where it is not told.

    Caffe keeps images as BGR of 0..255, subtracts ``mean_value`` and then multiplies by ``scale``. A file to deploy
    tells nothing.

    Args:
        spec: the layer.
        sizes: what it yields: channels, height, width.
        mean: of each channel of the mean image that it names, where that was found.
    """
    if spec.kind not in ("Data", "ImageData", "AnnotatedData") or len(sizes) != 3 or sizes[0] not in (1, 3):
        return None, []
    transform, options = spec.message.message("transform_param"), spec.message.message(_OPTIONS[spec.kind])
    mean_file = mean_file_of(spec)
    if mean_file and mean is None:
        return None, [f"The mean image {mean_file!r} of layer {spec.name!r} was not read: put it beside the prototxt."]
    scale = transform.number("scale", options.number("scale", 1))
    means = list(mean) if mean else transform.numbers("mean_value") or [0.0]
    if len(means) not in (1, sizes[0]) or not scale:
        raise ModelError(f"{spec.message.source}: layer {spec.name!r} got mean_value {means} and scale {scale}")
    resize, notes = _resize(spec, options, sizes)
    return Preprocessing(
        size=(sizes[1], sizes[2]),
        resize=resize,
        color="BGR" if sizes[0] == 3 else "GRAY",
        scale=1.0,
        mean=tuple(means) if len(means) == sizes[0] else tuple(means) * sizes[0],
        std=(1 / scale,) * sizes[0],
    ), notes


def _resize(spec: Spec, options: Message, sizes: Sequence[int]) -> tuple[int | None, list[str]]:
    """Return the shorter side before the crop, or None where nothing is cropped away."""
    if not _crop(spec, options):
        return None, []
    height, width = options.integer("new_height", 0), options.integer("new_width", 0)
    if height > 0 and width > 0:
        return max(min(height, width), *sizes[1:]), []
    if sizes[1] not in USUAL_CROPS:
        return None, []
    return USUAL_RESIZE, [f"How large images are before they are cropped is not told: {USUAL_RESIZE} was taken."]
