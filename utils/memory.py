"""What the process does with the memory that arrays have freed."""

from __future__ import annotations

import ctypes
import sys

# of mallopt: memory beyond which freed parts at the top go back to the system, memory asked for in
# advance, and the size from which an array is mapped apart, of which 32 MiB is the most
_OPTIONS = {-1: 256 << 20, -2: 64 << 20, -3: 32 << 20}


def keep_freed_memory() -> None:
    """Keep up to 256 MiB of freed memory for the next arrays; does nothing but on Linux.

    A step of training frees what the next one asks for again. Given back in between, each page is
    cleared anew, which takes a tenth of a step on a processor.
    """
    if sys.platform != "linux":
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # another libc
        return
    for option, size in _OPTIONS.items():
        set_option(option, size)
