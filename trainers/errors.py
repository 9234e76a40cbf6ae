"""Errors of trainings."""

from __future__ import annotations

from sim_bridge.errors import SimBridgeError


class TrainingError(SimBridgeError):
    """A training cannot go on."""
