"""What is wrong with a file that holds nothing of what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

LFS_START: Final = b"version https://git-lfs"
READ: Final = len(LFS_START)
"""Bytes that :func:`missing_content` looks at."""


class Missing(NamedTuple):
    """What such a file is, and what to do."""

    fact: str
    advice: str


def missing_content(start: bytes) -> Missing | None:
    """Whether a file that begins so is empty, or Git LFS's pointer to another; None where neither holds."""
    if not start:
        return Missing("is empty", "fetch or write it again")
    if start.startswith(LFS_START):
        return Missing("is Git LFS's pointer to a file and not the file", "run git lfs pull")
    return None


def missing_file_content(file: Path) -> Missing | None:
    """As :func:`missing_content`; None also where the file cannot be read, which its reader says better."""
    try:
        with file.open("rb") as opened:
            return missing_content(opened.read(READ))
    except OSError:
        return None
