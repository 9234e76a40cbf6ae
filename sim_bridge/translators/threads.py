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


def halve_cores(environment: MutableMapping[str, str] = os.environ, cores: int | None = None) -> None:
    """Lets the network compute on half of the cores, unless the user's environment says otherwise.

    For a simulator that shares the machine: threads that have to meet after every layer wait for the one whose core the
    simulator has just taken. On two cores one thread takes longer for a frame than two that have the machine alone, but
    computes 20 % less, and the demo shows more frames.

    Takes effect only before torch is imported, and in the processes that are started later. A container's share of
    the processor's time is not seen, only which cores it may use.

    Args:
        environment: Where the number goes.
        cores: Of the machine; None counts those that this process may use.
    """
    available = len(os.sched_getaffinity(0)) if cores is None and hasattr(os, "sched_getaffinity") else cores
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (available or os.cpu_count() or 1) // 2)))
