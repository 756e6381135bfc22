"""What the run was made of and what was proved of it: policy, parity, data, settings, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from portnet.report.html import Html, join, tag
from portnet.report.tables import details, facts, flat, table

if TYPE_CHECKING:
    from portnet.parity.report import Report

__all__ = ["data", "environment", "frozen", "parity", "policy", "settings"]


def policy(record: Mapping[str, Any]) -> Html:
    """Return the freeze policy's table, a row a layer."""
    rows = [tuple(row.values()) for row in record["policy"]]
    classes = ["" if row["trainable"].startswith("yes") else "frozen" for row in record["policy"]]
    trains = sum(not name for name in classes)
    columns = ("#", "layer", "stage", "parameters", "trainable", "lr ×")
    summary = f"{trains} of {len(rows)} layers with weights train"
    return details(summary, table(columns, rows, numbers=(0, 3, 5), classes=classes), is_open=len(rows) <= 30)


def frozen(record: Mapping[str, Any]) -> Html:
    """Return the proof that what was frozen did not move."""
    proof = record.get("frozen_proof") or {}
    if not proof:
        return tag("p", "No proof: the run did not come to its end.")
    phases = proof.get("phases", [])
    if not proof["frozen_initializers"]:
        if not any(phase["frozen_initializers"] for phase in phases):
            return tag("p", "Nothing was frozen: every weight and every running statistic could move.")
        return join(tag("p", "Nothing was to be frozen all through the run. While a phase lasted:"), _phases(phases))
    is_same = proof["sha256_before"] == proof["sha256_after"]
    verdict = "bit-identical before and after training" if is_same else "NOT the same after training"
    return join(
        tag("p", f"{proof['frozen_initializers']:,} frozen arrays, weights and running statistics, are {verdict}."),
        facts(
            {
                "SHA-256 before": tag("code", proof["sha256_before"]),
                "SHA-256 after": tag("code", proof["sha256_after"]),
            }
        ),
        _phases(phases),
    )


def _phases(phases: Sequence[Mapping[str, Any]]) -> Html:
    """Return what each phase of a gradual policy froze, and whether it stayed."""
    rows = [
        (
            str(phase["from_epoch"]),
            phase["policy"],
            f"{phase['frozen_initializers']:,}",
            "bit-identical" if phase["sha256_before"] == phase["sha256_after"] else "NOT the same",
        )
        for phase in phases
    ]
    columns = ("from epoch", "policy", "frozen arrays", "before and after the phase")
    return table(columns, rows, numbers=(0, 2)) if rows else join()


def parity(report: Report | str) -> Html:
    """Return what the check of the trained network against onnxruntime found, or why there was none."""
    if isinstance(report, str):
        return tag("p", f"Not checked: {report}")
    verdict = "agree" if report.passed else "DIFFER"
    tolerance = f"|a − b| ≤ {report.tolerance.atol:g} + {report.tolerance.rtol:g}·|b|"
    rows = [
        (c.output, c.batch, f"{c.max_abs:.2e}", f"{c.max_rel:.2e}", f"{c.cosine:.6f}", c.problem or "ok")
        for c in report.comparisons
    ]
    columns = ("output", "inputs", "max abs", "max rel", "cosine", "verdict")
    return join(
        tag("p", f"{report.a} and {report.b} {verdict} ({tolerance})."),
        *(tag("p", problem) for problem in report.problems),
        table(columns, rows, numbers=(2, 3, 4)) if rows else None,
        tag("p", f"First layer that differs: {report.first_divergence}") if report.first_divergence else None,
    )


def data(record: Mapping[str, Any]) -> Html:
    """Return where the images came from, how many of each class, and their digests."""
    found = record["data"]
    sets = [found["train"], found["val"] or {}, *([found["test"]] if found.get("test") else [])]
    rows = [(name, *(f"{part[name]:,}" if name in part else "–" for part in sets)) for name in found["classes"]]
    rows.append((tag("b", "all"), *(f"{sum(part.values()):,}" if part else "–" for part in sets)))
    digests = [tag("div", tag("code", digest)) for digest in found["digest"] if digest]
    content = tag(
        "div",
        table(
            ("class", "training", "validation", "test")[: len(sets) + 1], rows, numbers=tuple(range(1, len(sets) + 1))
        ),
        class_="narrow",
    )
    skipped = found.get("skipped") or []
    return join(
        facts(
            {
                "source": _source(found["source"]),
                "SHA-256 of the images": join(*(tag("div", tag("code", digest)) for digest in digests))
                if digests
                else None,
                "decoded by": "; then ".join(found.get("decoder") or []) or None,
                "accuracy on the test images": f"{record['test']['accuracy']:.2%}" if record.get("test") else None,
            }
        ),
        content if len(rows) <= 26 else details(f"images of {len(rows) - 1} classes", content),
        details(f"{len(skipped)} images were left out", table(("image", "reason"), skipped)) if skipped else None,
    )


def settings(record: Mapping[str, Any], recipe: str) -> Html:
    """Return the call that repeats the run, how it was asked for, and every setting."""
    origin, weights = record.get("origin") or {}, record.get("weights") or {}
    return join(
        tag("pre", tag("code", recipe)),
        facts(
            {
                "asked for by": tag("code", origin["command_line"]) if origin else None,
                "begun": origin.get("begun"),
                "rule and schedule": "; ".join(f"{k}: {v}" for k, v in (record.get("definitions") or {}).items())
                or None,
                "SHA-256 of all weights before": tag("code", weights["sha256_start"]) if weights else None,
                "and after": tag("code", weights["sha256_end"]) if weights.get("sha256_end") else None,
            }
        ),
        details("every setting", facts(flat(record["settings"]))),
    )


def environment(record: Mapping[str, Any]) -> Html:
    """Return versions and system, the backbone's origin and the preprocessing."""
    return tag(
        "div",
        tag("div", tag("h3", "Environment"), facts(record["environment"])),
        tag("div", tag("h3", "Backbone"), facts(flat(_origin(record)))),
        tag("div", tag("h3", "Preprocessing"), facts(flat(record.get("preprocessing") or {"": "not known"}))),
        class_="columns",
    )


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the backbone, without the list of where each array came from."""
    known = dict(record.get("backbone_provenance") or {"origin": "not known"})
    if isinstance(known.get("match"), dict):
        known["match"] = {key: value for key, value in known["match"].items() if key != "arrays"}
    return known


def _source(source: str | dict[str, str] | None) -> str:
    if isinstance(source, dict):
        return ", ".join(f"{name}: {folder}" for name, folder in source.items())
    return source or "from memory"
