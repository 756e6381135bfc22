"""Images inside the page: small JPEGs as data URIs, and galleries of them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass

from portnet.data.images import ImageSource
from portnet.drawing.contact import thumbnail
from portnet.errors import DataError
from portnet.report.html import Html, join, tag

__all__ = ["Picture", "gallery"]

_SIDE = 224


@dataclass(frozen=True)
class Picture:
    """One image of a gallery and what a network says of it.

    Attributes:
        image: the image, or None where it is not known.
        guesses: (class, probability), likeliest first.
        true: its true class.
        note: small text below, e.g. its number.
    """

    image: ImageSource | None
    guesses: tuple[tuple[str, float], ...]
    true: str
    note: str = ""


def gallery(pictures: Iterable[Picture]) -> Html:
    """Return a grid of pictures with their guesses; the bar of a right guess is blue, of a wrong one orange."""
    return tag("ul", *(tag("li", _picture(picture)) for picture in pictures), class_="gallery")


def _picture(picture: Picture) -> Html:
    guesses = [_guess(name, probability, name == picture.true) for name, probability in picture.guesses]
    truth = tag("div", "is ", tag("b", picture.true), class_="truth")
    path = _path(picture.image)
    note = " · ".join(part for part in (picture.note, path) if part)
    caption = tag("div", note, class_="caption") if note else None
    return join(tag("div", _image(picture), class_="picture"), *guesses, truth, caption)


def _guess(name: str, probability: float, is_right: bool) -> Html:
    bar = tag("div", tag("i", style=f"width:{100 * probability:.1f}%"), class_="bar")
    return tag(
        "div",
        tag("span", name, class_="name", title=name),
        tag("span", f"{probability:.1%}"),
        bar,
        class_=f"guess {'right' if is_right else 'wrong'}",
    )


def _image(picture: Picture) -> Html:
    if picture.image is None:
        return tag("div", "no image", class_="gone")
    try:
        small = thumbnail(picture.image, _SIDE)
    except DataError as error:  # it was there when the network saw it
        return tag("div", str(error), class_="gone")
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return tag("img", src=source, alt=f"an image of {picture.true}", width=small.width, height=small.height)


def _path(image: ImageSource | None) -> str:
    return os.path.join(*os.fspath(image).split(os.sep)[-2:]) if isinstance(image, (str, os.PathLike)) else ""
