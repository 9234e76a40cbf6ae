"""How the C library treats memory that a frame has used."""

from __future__ import annotations

import ctypes
from typing import Final

# mallopt's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (at its highest: what is mapped is always given back).
_MALLOC_OPTIONS: Final = ((-1, 256 << 20), (-2, 64 << 20), (-3, 32 << 20))


def keep_freed_memory() -> bool:
    """Lets the C library keep freed memory instead of giving it back to the system after every frame.

    A network's activations are some tens of MB that are freed and asked for again 25 times a second; given back, each
    page of them faults again (``lite`` at 512x256: 2200 faults, 3 ms a frame). It affects the whole process; its peak
    use of memory stays the same.

    Returns:
        Whether the C library took the settings; only glibc knows them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [mallopt(option, value) == 1 for option, value in _MALLOC_OPTIONS]
    return all(taken)
