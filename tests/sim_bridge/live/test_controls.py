"""Pause and drain."""

from sim_bridge.frames import Style
from sim_bridge.live.controls import Controls


def test_a_pause_while_the_bridge_drains_holds_nothing() -> None:
    controls = Controls(["camera"], Style())
    controls.pause()
    assert not controls.admit("camera")
    controls.stop()
    controls.pause()
    assert not controls.paused
    assert controls.admit("camera", wait=True)
