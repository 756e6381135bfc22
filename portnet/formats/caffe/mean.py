"""A mean image beside a prototxt, which many networks of Caffe want subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portnet.errors import ModelError
from portnet.formats.caffe.inputs import USUAL_CROPS, USUAL_RESIZE
from portnet.formats.caffe.net import Spec
from portnet.formats.caffe.weights import read_blob
from portnet.graph.metadata import Preprocessing

__all__ = ["beside", "means_of", "of_deployed"]

SUFFIX = ".binaryproto"


def beside(prototxt: Path, name: str) -> Path | None:
    """Return the file that a layer names, if one of its name lies beside the prototxt; other folders are not read."""
    file = prototxt.parent / Path(name.replace("\\", "/")).name
    return file if name and file.is_file() else None


def means_of(path: Path, channels: int) -> tuple[float, ...]:
    """Return the mean of each channel of a mean image.

    Raises:
        PortNetError: the file is broken, or has other channels.
    """
    image = read_blob(path)
    if image.ndim < 3 or image.shape[-3] != channels or not image.size:
        raise ModelError(f"{path}: got a mean of shape {image.shape}, expected (1, {channels}, height, width)")
    return tuple(float(mean) for mean in image.reshape(-1, channels, image.shape[-2] * image.shape[-1]).mean((0, 2)))


def of_deployed(prototxt: Path, spec: Spec, sizes: Sequence[int]) -> tuple[Preprocessing | None, list[str]]:
    """Return what the only mean image beside a file to deploy says, and a note; None where there is none or several."""
    found = sorted(prototxt.parent.glob(f"*{SUFFIX}"))
    own = [file for file in found if file.stem == prototxt.stem]
    found = own or found
    if spec.kind != "Input" or len(found) != 1 or len(sizes) != 3 or sizes[0] not in (1, 3):
        return None, []
    means = means_of(found[0], sizes[0])
    shown = ", ".join(f"{mean:.3f}" for mean in means)
    return Preprocessing(
        size=(sizes[1], sizes[2]),
        resize=USUAL_RESIZE if sizes[1] in USUAL_CROPS else None,
        color="BGR" if sizes[0] == 3 else "GRAY",
        scale=1.0,
        mean=means,
        std=(1.0,) * sizes[0],
    ), [f"The mean of each channel of {found[0].name} is subtracted from BGR bytes: {shown}."]
