"""Who decodes and resizes: Pillow alone, or faster libraries for most of the work where they are installed.

* ``pillow``: Pillow.
* ``fast``: JPEGs of RGB and grey by libjpeg-turbo (simplejpeg), bilinear resizing by fast_image_resize
  (cykooz-resizer, vectorised); everything else, and whatever simplejpeg finds fault with, by Pillow.

The policy is the same: formats, checks, orientation, scale of the DCT, filter. What differs is rounding, by at most one
level of 255 in about a seventh of the bytes, because fast_image_resize rounds its weights and sums in another way. A
run records its decoder, and a resumed run asks for the same one.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal, TypeAlias

from portnet.errors import MissingDependencyError, UnknownNameError

__all__ = ["DECODERS", "Decoder", "choose", "choose_again", "describe"]

Decoder: TypeAlias = Literal["pillow", "fast"]
DECODERS = ("auto", "pillow", "fast")


def choose(name: str) -> Decoder:
    """Return the decoder that is meant: "auto" is the fast one if it is installed.

    Raises:
        UnknownNameError: another name.
        MissingDependencyError: the fast one is asked for and not installed.
    """
    if name not in DECODERS:
        raise UnknownNameError("decoder", name, DECODERS)
    installed = all(find_spec(package) for package in ("simplejpeg", "cykooz_resizer"))
    if name == "fast" and not installed:
        raise MissingDependencyError("the fast decoder is not installed: pip install 'portnet[fast]'")
    return "fast" if installed and name != "pillow" else "pillow"


def choose_again(name: str, libraries: str) -> Decoder:
    """Return the decoder of a run that goes on: the one it began with if it is there, else as `choose`.

    Args:
        name: what the run asks for.
        libraries: what `describe` said when it began.
    """
    if name == "auto" and libraries and not libraries.startswith("simplejpeg"):
        return "pillow"
    return choose(name)


def describe(decoder: Decoder) -> str:
    """Return its libraries and their versions, e.g. "Pillow 11.0.0"."""
    pillow = f"Pillow {version('pillow')}"
    if decoder == "pillow":
        return pillow
    return f"simplejpeg {version('simplejpeg')}, cykooz-resizer {version('cykooz-resizer')}, {pillow}"
