"""The simulator's process of the demo; told what to do by JSON at its start and lines on stdin.

``pause``, ``resume`` and ``step`` are what they are on the page; ``answered SESSION NUMBER`` says that the bridge is
done with a tick. The end of stdin ends the simulation, even while the town is being built.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sim_bridge.process.child import READY, ignore_interrupts, obey_in_thread, say

if TYPE_CHECKING:
    from plugins.toytown.run.source import ToytownSource

ANSWERED: Final = "answered"
NICE: Final = 5
"""How far the simulator stands back behind the network."""


def note_answer(source: ToytownSource, words: Sequence[str]) -> None:
    """Takes ``answered SESSION NUMBER``; an answer to the simulator that was here before is none."""
    match words:
        case [order, session, number] if order == ANSWERED and session == source.session:
            source.answered(int(number))
        case _:
            pass


def main() -> int:
    """Runs the simulator; 2 where it cannot be built as asked."""
    ignore_interrupts()
    if hasattr(os, "nice"):
        # The network is what the demo waits for; the simulator has time left in every frame.
        os.nice(NICE)
    from plugins.toytown.run.source import ToytownSource
    from sim_bridge.client import Publisher
    from sim_bridge.errors import SimBridgeError

    asked = json.loads(sys.argv[1])
    source, stands = ToytownSource(), threading.Event()

    def end() -> None:
        if not stands.is_set():
            os._exit(0)  # nothing is open yet, and the building cannot be interrupted
        source.close()

    obey_in_thread(source, end, lambda words: note_answer(source, words))
    try:
        source.open(asked["options"])
        with Publisher(asked["address"], session=source.session) as publisher:
            stands.set()
            say(READY)
            for frame in source:
                publisher.publish(frame)
    except SimBridgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
