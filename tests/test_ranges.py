"""Between which numbers sizes lie, against the numbers that they are."""

import math

import pytest
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.ranges import bounds, larger

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
        (sympy.Max(5 - N, 0), (0, 4)),
        (-sympy.Max(-N, -5), (1, 5)),
        (sympy.Max(SAME, 1) + floor_of(sympy.Max(3 - N, 0) / 2), (1, 3)),
    ],
)
def test_bounds_hold_and_are_met(size, expected):
    assert bounds(size) == expected
    found = [float(size.subs({N: n, M: m})) for n in range(1, 8) for m in range(1, 8)]
    assert all(expected[0] <= number <= expected[1] for number in found)
    assert all(math.isinf(end) or end in found for end in expected)


def test_the_larger_one_is_one_of_the_two_or_left_open():
    assert (larger(SAME, 2), larger(-1, SAME), larger(N, 1)) == (2, SAME, N)
    assert larger(N, 5) == sympy.Max(N, 5)
