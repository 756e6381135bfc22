"""``python docs/generate.py``: write docs/cli.md, docs/zoo.md and docs/architectures.md from the code and its rows."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from portnet import zoo
from portnet.cli.app import app
from portnet.testing.architecture_rows import read_rows, table

HERE = Path(__file__).parent
NOTE = "Written by `make docs`; do not edit."


def main() -> None:
    """Write the pages."""
    (HERE / "cli.md").write_text(cli())
    (HERE / "zoo.md").write_text(networks())
    (HERE / "architectures.md").write_text(architectures())


def cli() -> str:
    """Return the reference of every command: what it does, arguments, options."""
    parts = ["# Commands", NOTE]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        parts.append(f"## portnet {name}\n\n{told(command.help or '')}")
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


def told(text: str) -> str:
    """Return a command's help: its paragraphs, and its examples as what they are, lines to type."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    examples = [f"    {each.removeprefix('Example: ')}" for each in paragraphs if each.startswith("Example: ")]
    said = [each for each in paragraphs if each and not each.startswith("Example: ")]
    return "\n\n".join([*said, "\n".join(examples)])


def networks() -> str:
    """Return the table of the zoo."""
    rows = ["| network | depth | parameters | size | input | source |", "|---|---|---|---|---|---|"]
    for entry in map(zoo.info, zoo.names()):
        size = "×".join(map(str, entry.size))
        numbers = f"{entry.depth} | {entry.parameters:,} | {entry.megabytes:.1f} MB"
        rows.append(f"| `{entry.name}` | {numbers} | {size} | {entry.source} |")
    return "\n\n".join(["# Zoo", NOTE, "\n".join(rows)]) + "\n"


def architectures() -> str:
    """Return the table of networks that were captured and lowered everywhere, a collection at a time."""
    rows = read_rows(HERE / "architectures.jsonl")
    passed = sum(row.passed for row in rows)
    parts = [
        "# Networks captured from the frameworks' own collections",
        NOTE,
        f"{passed} of the {len(rows)} networks run so far pass. Each was opened by its own framework with untrained "
        "weights that carry a signal, captured, compared with the original at batches of 1 and 3, lowered onto the two "
        "other engines and compared with onnxruntime there. A number is the largest difference over the spread of the "
        "outputs (how far they are from their mean over three images as unlike as photos), which must be below 1e-3, "
        "or else below four times what rounding the input alone makes; parameters are those that train, equal to the "
        "framework's own count of what inference reads.",
        "The rows of timm are no rate of success: they are networks that were tried, and tried again until they "
        "passed, and what still fails.",
        "    python -m portnet.testing.architectures --list torchvision > names.txt\n"
        "    python -m portnet.testing.architectures @names.txt --engines keras,gluon --out docs/architectures.jsonl",
    ]
    titles = {
        "torchvision": "torchvision",
        "keras": "keras.applications",
        "gluon": "gluon.model_zoo",
        "timm": "timm, small networks of its families",
    }
    for name, title in titles.items():
        own = [row for row in rows if row.source.startswith(name + ":")]
        parts.append(f"## {title}: {len(own)}\n\n{table(own)}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


if __name__ == "__main__":
    main()
