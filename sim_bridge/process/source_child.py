"""The child process that runs any source by its name; :mod:`sim_bridge.process.source_process` is the parent's side."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from sim_bridge.errors import SimBridgeError
from sim_bridge.process.child import DONE, READY, ignore_interrupts, note_answer, obey_in_thread, say, say_failed
from sim_bridge.process.drive import Drive, Link
from sim_bridge.process.logs import configure_logging
from sim_bridge.sources import load_source


def main() -> int:
    """Opens the source and publishes it until stdin ends or the source does; returns the exit code."""
    ignore_interrupts()
    asked = json.loads(sys.argv[1])
    configure_logging(asked["log_level"])
    if hasattr(os, "nice"):
        os.nice(asked["nice"])
    stop, runs = threading.Event(), threading.Event()
    try:
        source = load_source(asked["source"])
        drive = Drive(source, Link.from_json(asked["link"]), stop, asked["frames"])

        def end() -> None:
            if not runs.is_set():
                os._exit(0)  # nothing is open yet, and opening cannot be interrupted
            stop.set()
            source.close()

        obey_in_thread(drive.steering, end, lambda words: note_answer(source, words))
        source.open(asked["options"])
        runs.set()
        signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=end).start())
        try:
            drive.run(lambda address: say(f"{READY} {address}"))
        finally:
            source.close()
    except SimBridgeError as error:
        return say_failed(error)
    if not stop.is_set():
        say(f"{DONE} {drive.ticks}")
    return 0
