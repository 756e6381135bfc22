"""Garbage collection is put off while a network is lowered, and comes back whatever happens."""

from __future__ import annotations

import gc

import pytest

from portnet.graph.garbage import no_collection


def test_it_comes_back_after_an_error_too():
    found = []

    def fail():
        with no_collection():
            found.append(gc.isenabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert found == [False]
    assert gc.isenabled()


def test_whoever_turned_it_off_finds_it_off():
    gc.disable()
    try:
        with no_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
