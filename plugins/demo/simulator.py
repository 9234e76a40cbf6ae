"""Keeps the demo's simulator running in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from plugins.demo.child import ANSWERED
from sim_bridge.errors import SimBridgeError
from sim_bridge.live.work import Work
from sim_bridge.process.supervisor import KeptProcess


class SimulatorProcess(KeptProcess):
    """The embedded simulator, told by the bridge's tap which ticks are done.

    Args:
        address: Where it publishes.
        options: Of :class:`~plugins.toytown.run.options.ToytownOptions`.
        wanted: See :class:`~sim_bridge.process.supervisor.KeptProcess`, as the others.
        on_failure: As there.
        on_change: As there.
    """

    def __init__(
        self,
        address: str,
        options: Mapping[str, object],
        *,
        wanted: Callable[[], bool],
        on_failure: Callable[[SimBridgeError], None],
        on_change: Callable[[bool], None] = lambda ended: None,
    ) -> None:
        asked = {"address": address, "options": options}
        super().__init__("plugins.demo.child", asked, wanted=wanted, on_failure=on_failure, on_change=on_change)

    def on_tick(self, tick: Work) -> None:
        """Lets the simulator make another one; see :class:`~sim_bridge.live.tap.Watcher`."""
        self.say(f"{ANSWERED} {tick.pair.rgb.session} {tick.pair.rgb.number}")

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """See :class:`~sim_bridge.live.tap.Watcher`."""
