"""Between which numbers sizes lie, against the numbers that they are."""

import math

import pytest
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.ranges import bounds

N, M = sympy.symbols("n m", integer=True, positive=True)
SAME = 3 * -floor_of(-N / 3) - N


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SAME, (0, 2)),
        (SAME - 2, (-2, 0)),
        (floor_of((SAME + 2) / 2), (1, 2)),
        (N + M - 1, (1, math.inf)),
        (20 - N, (-math.inf, 19)),
        (N * M - 1, (0, math.inf)),
        (N - M, (-math.inf, math.inf)),
        (N / 2 - sympy.Rational(3, 4), (-0.25, math.inf)),
        (sympy.Integer(7), (7, 7)),
    ],
)
def test_bounds_hold_and_are_met(size, expected):
    assert bounds(size) == expected
    found = [float(size.subs({N: n, M: m})) for n in range(1, 8) for m in range(1, 8)]
    assert all(expected[0] <= number <= expected[1] for number in found)
    assert all(math.isinf(end) or end in found for end in expected)
