"""An option that may stand without its value: ``--augment`` alone, and ``--augment flip,rotate:10``."""

from __future__ import annotations

import os
from typing import Any

from typer.core import TyperCommand

__all__ = ["WithAugment"]

OPTION = "--augment"


class WithAugment(TyperCommand):
    """A command whose ``--augment`` means ``--augment default``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the value that is meant before anything is parsed."""
        return super().parse_args(ctx, _completed(args) if OPTION in args else args)


def _completed(args: list[str]) -> list[str]:
    completed = []
    for place, argument in enumerate(args):
        completed.append(argument)
        if argument == OPTION and not _is_value(args[place + 1 : place + 2]):
            completed.append("default")
    return completed


def _is_value(following: list[str]) -> bool:
    """Whether what follows is the option's own: another option is not, and a path that exists is the data."""
    from portnet.data.augment_text import is_augmentation

    if not following or following[0].startswith("-"):
        return False
    return is_augmentation(following[0]) or not os.path.exists(following[0])
