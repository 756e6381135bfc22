"""From a run to its report: what the page is made of is gathered here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portnet.errors import MissingDependencyError
from portnet.files import replace_file
from portnet.finetuning.metrics import Evaluation
from portnet.finetuning.recipe import recipe
from portnet.parity.report import Report
from portnet.report.page import Content, render

if TYPE_CHECKING:
    from portnet.finetuning.run import Run

__all__ = ["write_report"]


def write_report(
    run: Run, path: Path, evaluation: Evaluation | None, test_data: str, *, ambiguous: int, mistakes: int
) -> Path:
    """Write a run's page of HTML; see `Run.report`."""
    content = Content(
        record=run.record,
        curves=run.curves(),
        recipe=recipe(run.settings, run.record["data"]["source"]),
        parity=_parity(run),
        evaluation=evaluation,
        test_data=test_data,
        ambiguous=ambiguous,
        mistakes=mistakes,
    )
    page = render(content).encode()
    replace_file(path, lambda file: file.write(page))
    return path


def _parity(run: Run) -> Report | str:
    """Check the network on its engine, or say why that cannot be done here: a report may be made anywhere."""
    try:
        return run.check()
    except MissingDependencyError as error:
        return str(error)
