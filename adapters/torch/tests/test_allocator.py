import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from portnet_torch.allocator import keep_freed_memory

def faults_of_a_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(16 << 20, np.float32).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults_of_a_block()
before, told = faults_of_a_block(), keep_freed_memory()
faults_of_a_block()
print(told, before, faults_of_a_block())
"""


def faults(**environment: str) -> tuple[bool, int, int]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=inherited | environment, capture_output=True, text=True, check=True
    )
    told, before, after = done.stdout.split()
    return told == "True", int(before), int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc's malloc")
def test_a_freed_block_is_used_again_without_page_faults():
    told, before, after = faults()
    assert told
    assert after < before / 10


def test_what_the_user_has_set_stays():
    assert faults(MALLOC_TRIM_THRESHOLD_="131072")[0] is False
