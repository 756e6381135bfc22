"""The watch over damaged files tells what ends otherwise than in a model or one line."""

import time

import pytest

from portnet.errors import ModelError
from portnet.testing.watch import ending


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (lambda: None, ""),
        (lambda: _raise(ModelError("one line")), ""),
        (lambda: _raise(ModelError("two\nlines")), "error of several lines"),
        (lambda: _raise(KeyError("x")), "KeyError: 'x' at"),
        (lambda: _raise(MemoryError()), "MemoryError"),
        (lambda: time.sleep(30), "more than 1 s"),
    ],
    ids=["model", "line", "lines", "crash", "memory", "hang"],
)
def test_what_an_action_ends_in_is_told(action, told):
    found = ending(action, 1)
    assert told in found
    assert bool(told) == bool(found)
