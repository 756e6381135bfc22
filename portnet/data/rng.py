"""Random numbers: one independent stream for each decision.

A stream is named by its purpose and its key, such as (seed, epoch), and by nothing else. So a decision
does not depend on how many numbers another one drew, and a run can be resumed anywhere.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from portnet.errors import InputError

__all__ = ["Purpose", "generator"]


class Purpose(IntEnum):
    """What random numbers are drawn for. It comes first in the seed: streams of two purposes differ."""

    SPLIT = 1
    ORDER = 2
    AUGMENT = 3
    CROP = 4
    MIX = 5
    TEST_SPLIT = 6
    OVERSAMPLE = 7


def generator(purpose: Purpose, *key: int) -> np.random.Generator:
    """Return NumPy's PCG64 generator for ``purpose`` and ``key``, non-negative integers.

    Raises:
        InputError: a negative number in the key.
    """
    if min(key) < 0:
        raise InputError(f"{purpose.name.lower()}: got the seed {key}, expected integers from 0 on.")
    return np.random.default_rng([int(purpose), *key])
