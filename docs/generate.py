"""``python docs/generate.py``: write docs/cli.md and docs/zoo.md from the code."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from portnet import zoo
from portnet.cli.app import app

HERE = Path(__file__).parent
NOTE = "Written by `make docs`; do not edit."


def main() -> None:
    """Write both pages."""
    (HERE / "cli.md").write_text(cli())
    (HERE / "zoo.md").write_text(networks())


def cli() -> str:
    """Return the reference of every command: what it does, arguments, options."""
    parts = ["# Commands", NOTE]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        parts.append(f"## portnet {name}\n\n{' '.join((command.help or '').split())}")
        rows = [_row(parameter) for parameter in command.params]
        if rows:
            parts.append("\n".join(["| argument | meaning | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _row(parameter: object) -> str:
    names = ", ".join(f"`{name}`" for name in getattr(parameter, "opts", []))
    meaning = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    default = getattr(parameter, "default", None)
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    return f"| {names} | {meaning} | {shown} |"


def networks() -> str:
    """Return the table of the zoo."""
    rows = ["| network | depth | parameters | size | input | source |", "|---|---|---|---|---|---|"]
    for entry in map(zoo.info, zoo.names()):
        size = "×".join(map(str, entry.size))
        numbers = f"{entry.depth} | {entry.parameters:,} | {entry.megabytes:.1f} MB"
        rows.append(f"| `{entry.name}` | {numbers} | {size} | {entry.source} |")
    return "\n\n".join(["# Zoo", NOTE, "\n".join(rows)]) + "\n"


if __name__ == "__main__":
    main()
