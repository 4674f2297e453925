"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from medssl.training.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_the_same_pages_are_used_again():
    given, kept = (
        int(subprocess.check_output([sys.executable, "-c", COUNT_FAULTS, wish])) for wish in ("give", "keep")
    )
    assert kept < given / 10
