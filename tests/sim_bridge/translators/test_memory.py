"""The allocator's settings: taken where there is glibc, and a frame's memory then stays mapped."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from sim_bridge.translators.memory import keep_freed_memory

# Frees and asks for 4 MB again, as every 1280x720 frame does, and counts the page faults of the second half.
PROGRAM = """
import resource, sys
import numpy as np
from sim_bridge.translators.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for half in range(2):
    before = faults()
    for _ in range(20):
        blocks = [np.ones(4 << 20, np.uint8) for _ in range(4)]
        del blocks
print(faults() - before)
"""


def count_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout)


def test_only_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_memory_of_the_last_frame_is_used_again() -> None:
    assert count_faults("keep") < 200 < count_faults("default")
