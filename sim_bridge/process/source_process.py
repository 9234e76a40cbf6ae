"""A source kept running in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sim_bridge.errors import SimBridgeError
from sim_bridge.process.child import ANSWERED
from sim_bridge.process.drive import Link
from sim_bridge.process.parent import END_SECONDS
from sim_bridge.process.supervisor import Supervisor


class SourceProcess(Supervisor):
    """Runs a source by its entry point's name; the arguments not listed are :class:`Supervisor`'s.

    Args:
        frames: How many ticks to publish; None all.
        nice: How far it steps back behind other processes.
        module: What runs in the child; it gets all of the above as its arguments.
    """

    def __init__(
        self,
        source: str,
        options: Mapping[str, object],
        link: Link,
        *,
        wanted: Callable[[], bool],
        on_failure: Callable[[SimBridgeError], None],
        on_change: Callable[[bool], None] = lambda ended: None,
        frames: int | None = None,
        nice: int = 0,
        log_level: str = "info",
        module: str = "sim_bridge.process.source_child",
        on_line: Callable[[str], None] = lambda line: None,
        end_seconds: float = END_SECONDS,
    ) -> None:
        asked = {
            "source": source,
            "options": options,
            "link": link.to_json(),
            "frames": frames,
            "nice": nice,
            "log_level": log_level,
        }
        super().__init__(
            module,
            asked,
            wanted=wanted,
            on_failure=on_failure,
            on_change=on_change,
            on_line=on_line,
            end_seconds=end_seconds,
        )

    def answered(self, session: str, number: int) -> None:
        """Tells the source that the bridge is done with a tick."""
        self.say(f"{ANSWERED} {session} {number}")
