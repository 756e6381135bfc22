"""Colours by role, so that one drawing suits a white page, a dark page and print.

Series colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart with any colour vision; in the dark
they are lighter. Kinds of layers have a pale fill and a dark outline, readable in grey as well.
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "SERIES", "paint_light", "paint_variable", "variables"]

SERIES = ("series-1", "series-2", "series-3", "series-4", "series-5", "series-6")

LIGHT: dict[str, str] = {
    "page": "#ffffff",
    "ink": "#1c2430",
    "muted": "#5c6675",
    "line": "#8a94a3",
    "grid": "#e6e9ee",
    "frame": "#f5f6f8",
    "frame-line": "#d8dde4",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#009e73",
    "series-4": "#b0569a",
    "series-5": "#b8860b",
    "series-6": "#56789c",
    "right": "#0072b2",
    "wrong": "#d55e00",
    "conv": "#dbe9f6",
    "conv-line": "#3b78b0",
    "dense": "#e6def3",
    "dense-line": "#7a5ba8",
    "pool": "#dcefe0",
    "pool-line": "#3f8f57",
    "activation": "#fdf0cf",
    "activation-line": "#b78a1d",
    "norm": "#fde4d3",
    "norm-line": "#c06a2b",
    "merge": "#f7dfe6",
    "merge-line": "#b04a6b",
    "other": "#eceef1",
    "other-line": "#808a98",
    "port": "#ffffff",
    "port-line": "#1c2430",
}

DARK: dict[str, str] = {
    **LIGHT,
    "page": "#14181f",
    "ink": "#e8ebf0",
    "muted": "#9aa5b4",
    "line": "#7c8796",
    "grid": "#2a313c",
    "frame": "#1b212a",
    "frame-line": "#343d4a",
    "series-1": "#56b4e9",
    "series-2": "#f08a3c",
    "series-3": "#3ec79b",
    "series-4": "#dc8fc6",
    "series-5": "#e0b84a",
    "series-6": "#9db6d0",
    "right": "#56b4e9",
    "wrong": "#f08a3c",
}


def paint_light(role: str) -> str:
    """Return the colour of a role on a white page, e.g. ``#0072b2``."""
    return LIGHT[role]


def paint_variable(role: str) -> str:
    """Return a role as a CSS variable, for a drawing inside a page that defines `variables`."""
    return f"var(--{role})"


def variables(colours: dict[str, str]) -> str:
    """Return CSS declarations of the colours, e.g. ``--ink:#1c2430;``."""
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())
