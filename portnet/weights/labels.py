"""Lists of class names, in the order of a network's logits."""

from __future__ import annotations

from functools import cache
from importlib import resources

from portnet.errors import UnknownNameError

__all__ = ["labels"]

# name -> file beside this one. imagenet1k: the 1,000 classes of ILSVRC 2012 in order of their synset's number,
# in torchvision's short spelling (torchvision/models/_meta.py), which has no two alike.
_FILES = {"imagenet1k": "imagenet1k.txt"}


@cache
def labels(name: str = "imagenet1k") -> tuple[str, ...]:
    """Return the class names of a list, in order of the logits.

    >>> labels("imagenet1k")[281:284]
    ('tabby', 'tiger cat', 'Persian cat')

    Raises:
        UnknownNameError: no such list.
    """
    if name not in _FILES:
        raise UnknownNameError("list of labels", name, _FILES)
    text = resources.files("portnet.weights").joinpath(_FILES[name]).read_text("utf-8")
    return tuple(text.splitlines())
