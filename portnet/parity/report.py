"""What a check found, as data, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from portnet.errors import ParityError

__all__ = ["EMPTY", "RELATIVE", "Comparison", "Report", "Tolerance", "compare_arrays"]


@dataclass(frozen=True)
class Tolerance:
    """Two values agree when |a − b| ≤ atol + rtol·|b|, b being the reference (numpy's ``allclose``).

    An output whose every value is below ``atol`` would agree with nothing but zeros: there, differences are measured
    against its largest value, and may be up to ten times ``rtol`` of it.

    Rounding grows with what a network adds up, and a wrong network shows in how its outputs differ from each other:
    ``relative`` judges by that, in place of the other two. A difference may be ``relative`` times the output's spread
    (its largest value less its smallest; of fewer than ten values, its largest magnitude), and 16 units in the last
    place of its largest magnitude. So outputs of 8 ± 8 may differ by more than 1e-4, and probabilities of 0.001 ±
    0.0001 must agree to 2e-8. Whole numbers must be equal.
    """

    atol: float = 1e-4
    rtol: float = 1e-4
    relative: float | None = None


# share of an output's spread by which a network may differ from the one that it was captured from
RELATIVE = 2e-4
_FEW, _UNITS = 10, 16
EMPTY = "the output is empty, so nothing is proved"


@dataclass(frozen=True)
class Comparison:
    """One output at one batch.

    Attributes:
        output: name in the reference.
        batch: what was fed, e.g. "random, batch 3".
        problem: "" when it agrees, else what differs, in words.
        max_abs: largest absolute difference.
        max_rel: largest difference over the reference's largest magnitude.
        cosine: cosine similarity of the two outputs as vectors.
        top1: share of rows whose largest entry is the same, for outputs (N, classes), else None.
        where: index of the largest difference.
    """

    output: str
    batch: str
    problem: str = ""
    max_abs: float = float("nan")
    max_rel: float = float("nan")
    cosine: float = float("nan")
    top1: float | None = None
    where: tuple[int, ...] = ()


@dataclass
class Report:
    """The result of `portnet.check`.

    Attributes:
        a: label of the first network.
        b: label of the second, the reference.
        tolerance: what counts as agreement.
        comparisons: one for each output and batch.
        problems: what differs before any value is compared: inputs, outputs, a network that does not run.
        first_divergence: name of the first layer whose output differs, when it was looked for.
    """

    a: str
    b: str
    tolerance: Tolerance
    comparisons: list[Comparison] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    first_divergence: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything that was compared agrees, and something was."""
        return not self.problems and bool(self.comparisons) and not any(c.problem for c in self.comparisons)

    @property
    def differs(self) -> bool:
        """Whether something that was compared does not agree; an empty output alone proves nothing either way."""
        return bool(self.problems) or any(c.problem not in ("", EMPTY) for c in self.comparisons)

    def leave_out_empty(self) -> None:
        """Leave out comparisons of empty outputs where the same output was compared with something in it as well."""
        full = {c.output for c in self.comparisons if c.problem != EMPTY}
        self.comparisons = [c for c in self.comparisons if c.problem != EMPTY or c.output not in full]

    @property
    def max_abs(self) -> float:
        """Largest absolute difference of all comparisons."""
        return max((c.max_abs for c in self.comparisons), default=float("nan"))

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [f"{self.a} against {self.b}: {'agree' if self.passed else 'DIFFER'}"]
        lines += [f"  {problem}" for problem in self.problems]
        for c in self.comparisons:
            top1 = "" if c.top1 is None else f", top-1 {c.top1:.0%}"
            verdict = c.problem or "ok"
            numbers = f"max abs {c.max_abs:.2e}, rel {c.max_rel:.2e}, cosine {c.cosine:.6f}{top1}"
            lines.append(f"  {c.output} ({c.batch}): {numbers}: {verdict}")
        if self.first_divergence:
            lines.append(f"  first layer that differs: {self.first_divergence}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {"passed": self.passed, "max_abs": self.max_abs, **asdict(self)}

    def raise_if_failed(self) -> None:
        """Raise when the two differ.

        Raises:
            ParityError: with what differs in one line.
        """
        if self.passed:
            return
        found = [*self.problems, *(f"{c.output}: {c.problem}" for c in self.comparisons if c.problem)]
        where = f"; first layer that differs: {self.first_divergence}" if self.first_divergence else ""
        what = found[0] if found else "nothing was compared"
        raise ParityError(f"{self.a} and {self.b} differ: {what}{where}")


def compare_arrays(output: str, batch: str, got: Any, reference: Any, tolerance: Tolerance) -> Comparison:
    """Compare two outputs: shape and dtype exactly, no broadcasting; then NaN; then values.

    A NaN or infinity in the reference itself is a problem too: it would hide every difference.
    """
    got, reference = np.asarray(got), np.asarray(reference)
    if got.shape != reference.shape:
        return Comparison(output, batch, f"shape {got.shape}, expected {reference.shape}")
    if got.dtype != reference.dtype:
        return Comparison(output, batch, f"dtype {got.dtype}, expected {reference.dtype}")
    if reference.size == 0:
        return Comparison(output, batch, EMPTY)
    if reference.dtype.kind not in "iufb" and reference.dtype.name not in ("bfloat16",):
        same = bool(np.array_equal(got, reference))
        return Comparison(output, batch, "" if same else "values differ", 0.0 if same else float("inf"))
    a, b = got.astype(np.float64), reference.astype(np.float64)
    if not np.isfinite(b).all() or not np.isfinite(a).all():
        who = "the reference" if not np.isfinite(b).all() else "the output"
        return Comparison(output, batch, f"{who} holds NaN or infinity")
    return _compare_values(output, batch, a, b, _allowed(b, reference.dtype, tolerance))


def _compare_values(output: str, batch: str, a: np.ndarray, b: np.ndarray, allowed: Any) -> Comparison:
    difference = np.abs(a - b)
    where = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    largest, scale = float(difference.max()), float(np.abs(b).max())
    agrees = bool((difference <= allowed).all())
    problem = "" if agrees else f"got {a[where]:.6g}, expected {b[where]:.6g} at {list(where)}, off by {largest:.3g}"
    return Comparison(
        output=output,
        batch=batch,
        problem=problem,
        max_abs=largest,
        max_rel=largest / scale if scale else largest,
        cosine=_cosine(a, b),
        top1=float((a.argmax(-1) == b.argmax(-1)).mean()) if a.ndim == 2 and a.shape[1] > 1 else None,
        where=where,
    )


def _allowed(b: np.ndarray, dtype: np.dtype, tolerance: Tolerance) -> Any:
    """Return the largest difference that still agrees: a number, or one for each value."""
    scale = float(np.abs(b).max())
    if tolerance.relative is not None:
        if dtype.kind in "iub":
            return 0.0
        spread = float(np.ptp(b)) if b.size >= _FEW else scale
        return tolerance.relative * spread + _UNITS * _unit(dtype) * scale
    if scale < min(tolerance.atol, Tolerance.atol):
        return 10 * max(tolerance.rtol, float(np.finfo(np.float32).eps)) * scale
    return tolerance.atol + tolerance.rtol * np.abs(b)


def _unit(dtype: np.dtype) -> float:
    """Return the unit in the last place of 1 in a type, or in float32 where that is coarser: networks compute in it."""
    own = 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
    return max(own, float(np.finfo(np.float32).eps))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norms if norms else float(np.array_equal(a, b))
