"""The demo's simulator: toytown in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sim_bridge.errors import SimBridgeError
from sim_bridge.live.work import Work
from sim_bridge.process.drive import Link
from sim_bridge.process.source_process import SourceProcess

NICE: Final = 5
"""The demo waits for the network; the simulator has time left in every frame."""


class SimulatorProcess(SourceProcess):
    """Toytown; the bridge's tap tells it which ticks are done.

    Args:
        address: Where it publishes.
        options: Of :class:`~plugins.toytown.run.options.ToytownOptions`.
        wanted: See :class:`~sim_bridge.process.supervisor.Supervisor`, as the others.
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
        super().__init__(
            "toytown", options, Link(address), wanted=wanted, on_failure=on_failure, on_change=on_change, nice=NICE
        )

    def on_tick(self, tick: Work) -> None:
        """Lets the simulator make another one; see :class:`~sim_bridge.live.tap.Watcher`."""
        self.answered(tick.pair.rgb.session, tick.pair.rgb.number)

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """See :class:`~sim_bridge.live.tap.Watcher`."""
