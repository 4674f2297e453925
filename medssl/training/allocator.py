"""What the C library does with memory that was freed."""

import ctypes
import platform

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

KEPT_BYTES = 2**30
"""Blocks up to this size, and so much at the end of the heap, are kept for the next step."""


def keep_freed_memory() -> None:
    """Ask glibc to keep the memory of one training step for the next, instead of returning it to the system.

    Otherwise the system hands out and zeroes the same pages at every step; `bin/bench step` tells what that
    costs. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
    glibc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
