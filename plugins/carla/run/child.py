"""The process that holds the CARLA client.

The client's calls hold Python's lock and a dead server freezes them, so it lives apart from the bridge and speaks the
wire to it. Orders on stdin are those of :mod:`sim_bridge.process.child`; each session is a line on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plugins.carla.run.attachment import Attachment
from plugins.carla.run.recorder import Recorder
from plugins.carla.run.source import CarlaSource
from plugins.carla.world.versions import Versions
from sim_bridge.errors import LockstepTimeoutError, SimBridgeError
from sim_bridge.process.child import READY, ignore_interrupts, obey_in_thread, say, say_failed
from sim_bridge.process.drive import Drive, Link
from sim_bridge.process.logs import configure_logging

SESSION: Final = "session"
"""First word of the line that tells of a new session; then the episode, its id, the server's version, the taxonomy."""
VERSIONS: Final = "versions"
"""First word of the line that tells the client's and the server's version; what comes next may crash."""
RECORDED: Final = "recorded"
"""First word of the line that tells how many ticks were written, and how many left out."""
PATIENCE_SECONDS: Final = 1.0
"""After which a tick without an answer is sent again: while sockets connect a message can get lost. A bridge that is
paused, or loads its network, takes longer."""
COMPLAIN_SECONDS: Final = 30.0
TELL_TICKS: Final = 100
"""After how many a recording tells how far it is."""


def tell_session(_number: int, attachment: Attachment) -> None:
    """Tells the parent that a session began."""
    server = attachment.server
    say(f"{SESSION} {server.episode} {attachment.session} {server.version} {attachment.labels}")


def tell_versions(versions: Versions) -> None:
    """Tells the parent with which versions a session will begin."""
    say(f"{VERSIONS} {versions.client} {versions.server}")


class Complaint:
    """Waits for an answer as long as the source goes on; says now and then that it does."""

    def __init__(self, source: CarlaSource) -> None:
        self._source = source
        self._late = self._next = 0.0

    def wait_again(self, error: LockstepTimeoutError) -> bool:
        """Whether to wait on."""
        now = time.monotonic()
        if now - self._late > 2 * PATIENCE_SECONDS:  # the answer before came in time
            self._next = now + COMPLAIN_SECONDS
        self._late = now
        if now > self._next:
            sys.stderr.write(f"carla: {error}\n")
            self._next = now + COMPLAIN_SECONDS
        return self._source.goes_on


def publish(source: CarlaSource, asked: Mapping[str, Any]) -> None:
    """Publishes what comes in; in lockstep it makes a tick when the photoreal frames of the one before are there."""
    source.open(asked["options"])
    link, never = Link.from_json(asked["link"]), threading.Event()  # the source ends the iteration by itself
    Drive(source, link, never, wait_again=Complaint(source).wait_again, copy=False).run(lambda address: say(READY))


def record(source: CarlaSource, asked: Mapping[str, Any]) -> None:
    """Writes a recording."""
    with Recorder(source, Path(asked["folder"]), asked["options"]) as recorder:
        for done in recorder.record(asked["frames"], asked["every"]):
            if done % TELL_TICKS == 0:
                say(f"{RECORDED} {done} {recorder.left_out}")
    say(f"{RECORDED} {recorder.written} {recorder.left_out}")


def run(asked: Mapping[str, Any]) -> int:
    """Runs until the parent ends, or until an error that no new connection can help; the exit code."""
    source = CarlaSource(tell_session, tell_versions, after=asked.get("episode"))
    for number in (signal.SIGTERM, signal.SIGHUP):  # a terminal that closes reaches the whole group, too
        signal.signal(number, lambda number, frame: source.stop())
    obey_in_thread(source, source.stop)
    try:
        (record if "folder" in asked else publish)(source, asked)
    except SimBridgeError as error:
        return say_failed(error)
    finally:
        source.close()
        if source.malformed or source.incomplete or source.dropped:
            sys.stderr.write(
                f"carla: {source.malformed} images were malformed, {source.dropped} came too fast to be sent, "
                f"{source.incomplete} ticks lacked an image\n"
            )
    return 0


def main() -> None:
    """Runs, and ends without the interpreter's own end, in which the client library may abort the process."""
    ignore_interrupts()
    asked = json.loads(sys.argv[1])
    configure_logging(asked["log_level"])
    code = run(asked)
    sys.stderr.flush()
    os._exit(code)
