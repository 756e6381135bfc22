"""The page: a head, tiles, badges, and the sections that there is something to say in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from portnet.drawing.curves import Curves
from portnet.drawing.text import figure
from portnet.drawing.theme import DARK, LIGHT, variables
from portnet.report import evaluation as about_evaluation
from portnet.report import provenance
from portnet.report.html import Html, join, tag
from portnet.report.training import training

if TYPE_CHECKING:
    from portnet.finetuning.metrics import Evaluation
    from portnet.parity.report import Report

__all__ = ["Content", "render"]

# nothing may be fetched and nothing may run: the browser holds the page to it
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Content:
    """What the page is made of.

    Attributes:
        record: the run's record, as in run.json.
        curves: its losses and accuracies.
        recipe: the call that repeats it.
        parity: the check against onnxruntime, or why there was none.
        evaluation: on images it has not seen, or None.
        test_data: what these images are called.
        ambiguous: how many ambiguous images to show.
        mistakes: how many images with a wrong name to show.
    """

    record: Mapping[str, Any]
    curves: Curves
    recipe: str
    parity: Report | str
    evaluation: Evaluation | None = None
    test_data: str = ""
    ambiguous: int = 10
    mistakes: int = 25


def render(content: Content) -> str:
    """Return the page as HTML."""
    settings = content.record["settings"]
    name = f"{settings['backbone']}, {len(content.record['data']['classes'])} classes"
    sections = _sections(content)
    body = tag(
        "main",
        tag("header", tag("h1", name), tag("p", _subtitle(content), class_="muted"), _tiles(content), _badges(content)),
        tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title, *_ in sections)),
        *(_section(*section) for section in sections),
        tag("footer", f"Made by PortNet {content.record['environment'].get('portnet', '')}."),
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", name),
        tag("style", Html(_style())),
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _style() -> str:
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}"
    sheet = files("portnet.report").joinpath("style.css").read_text(encoding="utf-8")
    # paper is white, whatever the screen is
    return f":root {{ {variables(LIGHT)} }}\n{dark}\n@media print {{ :root {{ {variables(LIGHT)} }} }}\n{sheet}"


def _subtitle(content: Content) -> str:
    settings, environment = content.record["settings"], content.record["environment"]
    policy, rule, engine = settings["freeze"], settings["optimizer"], settings["backend"]
    frozen = f"{policy['kind']}:{policy['argument']}" if policy["argument"] else policy["kind"]
    parts = [
        f"fine-tuned on {engine} {environment.get(engine, '')} ({settings['device']})",
        f"{len(content.record['history']['epochs'])} of {settings['epochs']} epochs",
        f"freeze {frozen}",
        f"{rule['name']} at {rule['lr']:g}",
        f"seed {settings['seed']}",
    ]
    return ", ".join(parts)


def _tiles(content: Content) -> Html:
    epochs = content.record["history"]["epochs"]
    tiles: list[tuple[str, str]] = []
    if content.evaluation is not None:
        found = content.evaluation
        tiles += [
            ("test accuracy", f"{found.accuracy:.2%}"),
            *([("top-5 accuracy", f"{found.top5:.2%}")] if found.has_top5 else []),
            ("test loss (nats)", figure(found.loss)),
            ("calibration error", f"{found.calibration_error:.2%}"),
            ("test images", f"{found.count:,}"),
        ]
    best = content.record.get("best")
    if best:
        tiles.append((f"validation accuracy, epoch {best['epoch']:.4g}", f"{best['accuracy']:.2%}"))
    elif epochs and epochs[-1]["val_accuracy"] is not None:
        tiles.append(("validation accuracy", f"{epochs[-1]['val_accuracy']:.2%}"))
    tiles.append(("training time", _duration(sum(epoch["seconds"] for epoch in epochs))))
    return tag(
        "div",
        *(tag("div", tag("b", number), tag("span", what), class_="tile") for what, number in tiles),
        class_="tiles",
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _badges(content: Content) -> Html:
    badges: list[tuple[str, str]] = []
    proof = content.record.get("frozen_proof") or {}
    proven = [part for part in (proof, *proof.get("phases", [])) if part.get("frozen_initializers")]
    if proven:
        is_same = all(part["sha256_before"] == part["sha256_after"] for part in proven)
        badges.append(("frozen part unchanged", "good") if is_same else ("frozen part moved", "bad"))
    if isinstance(content.parity, str):
        badges.append(("parity not checked", ""))
    elif content.parity.passed:
        badges.append((f"onnxruntime agrees to {content.parity.max_abs:.1e}", "good"))
    else:
        badges.append(("onnxruntime differs", "bad"))
    if content.record.get("interrupted"):
        badges.append(("interrupted", "bad"))
    return tag("div", *(tag("span", text, class_=f"badge {kind}".strip()) for text, kind in badges), class_="badges")


_Section = tuple[str, str, str, Html]


def _section(anchor: str, title: str, lead: str, content: Html) -> Html:
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, content, id=anchor)


def _sections(content: Content) -> list[_Section]:
    record = content.record
    sections: list[_Section] = [("training", "Training", "", training(content.curves, record))]
    if content.evaluation is not None:
        sections += _evaluation_sections(content, content.evaluation)
    sections += [
        ("policy", "Freeze policy", "What training could move, layer by layer.", provenance.policy(record)),
        ("frozen", "Proof of frozenness", "", provenance.frozen(record)),
        (
            "parity",
            "Parity",
            "The trained network on its engine against onnxruntime.",
            provenance.parity(content.parity),
        ),
        ("data", "Data", "", provenance.data(record)),
        ("settings", "Settings", "This call repeats the run.", provenance.settings(record, content.recipe)),
        ("environment", "Made with", "", provenance.environment(record)),
    ]
    return sections


def _evaluation_sections(content: Content, found: Evaluation) -> list[_Section]:
    of = f" of {content.test_data}" if content.test_data else ""
    left_out = f" ({len(found.skipped):,} left out)" if found.skipped else ""
    where = f"On {found.count:,} images{of}{left_out}"
    rows = "Rows are true classes, columns what they were called; the shade is the share of the row."
    calibrated = (
        f"Expected calibration error {found.calibration_error:.2%} (15 bins; Guo et al. 2017). A calibrated network's "
        "dots lie on the dashed line; below it, it is surer than it should be."
    )
    ambiguity = "The second-largest probability over the largest: the images that the network could hardly decide."
    return [
        ("classes", "Classes", f"{where}, worst recall first.", about_evaluation.classes(found)),
        ("confusion", "Confusion", rows, about_evaluation.confusion(found)),
        ("calibration", "Calibration", calibrated, about_evaluation.calibration(found)),
        ("ambiguous", "Most ambiguous", ambiguity, about_evaluation.ambiguous(found, content.ambiguous)),
        ("mistakes", "Called by a wrong name", "", about_evaluation.mistakes(found, content.mistakes)),
    ]
