"""The simulator's process of the demo: ``python -m plugins.demo.child JSON``; told what to do by lines on stdin.

``pause``, ``resume`` and ``step`` are what they are on the page; ``answered SESSION NUMBER`` says that the bridge is
done with a tick. The end of stdin ends the simulation: so it ends with its parent, however that was ended, even while
the town is being built.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from plugins.toytown.source import ToytownSource

READY: Final = "ready"
"""The line on stdout that says that the town stands."""
ANSWERED: Final = "answered"
NICE: Final = 5
"""How far the simulator stands back behind the network."""


def obey(source: ToytownSource, lines: Iterable[str], stands: threading.Event) -> None:
    """Follows orders until there are no more, then ends the simulation."""
    orders = {"pause": source.pause, "resume": source.resume, "step": source.step}
    for line in lines:
        match line.split():
            case [order] if order in orders:
                orders[order]()
            case [order, session, number] if order == ANSWERED and session == source.session:
                source.answered(int(number))
            case _:  # an answer to the simulator that was here before
                pass
    if not stands.is_set():
        os._exit(0)  # nothing is open yet, and the building cannot be interrupted
    source.close()


def main() -> int:
    """Runs the simulator; 2 where it cannot be built as asked."""
    # A terminal's Ctrl-C reaches the whole process group: the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        # The network is what the demo waits for; the simulator has time left in every frame.
        os.nice(NICE)
    from plugins.toytown.source import ToytownSource
    from sim_bridge.client import Publisher
    from sim_bridge.errors import SimBridgeError

    asked = json.loads(sys.argv[1])
    source, stands = ToytownSource(), threading.Event()
    threading.Thread(target=obey, args=(source, sys.stdin, stands), daemon=True).start()
    try:
        source.open(asked["options"])
        with Publisher(asked["address"], session=source.session) as publisher:
            stands.set()
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()
            for frame in source:
                publisher.publish(frame)
    except SimBridgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
