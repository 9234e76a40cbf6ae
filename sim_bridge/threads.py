"""How the network's threads wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

SPINS: Final = "1000"
"""Turns that a thread of the network waits awake for the others before it sleeps; some microseconds."""


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets the network's threads sleep while they wait, unless the user's environment says otherwise.

    OpenMP's default is to spin. Where another process, a simulator say, wants one of the cores, a spinning thread uses
    up its share of time doing nothing and the others wait for it: ``lite`` took 2 s a frame instead of 74 ms on two
    cores with one of them busy. On an idle machine sleeping costs some five per cent.

    Takes effect only before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
