"""``sim-bridge doctor --carla HOST:PORT``: what a running server is, and whether its cameras send pairs. Read-only.

The checks are made in a process of its own: a client that does not fit the server may crash, or abort at its end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Final

from plugins.carla.world.server import Where
from plugins.carla.world.versions import Versions, crash_sentence
from sim_bridge.process.parent import END_SECONDS, ChildRun
from sim_bridge.tools.doctor import Check, Examination

LIMIT_SECONDS: Final = 120.0
"""How long all of it may take; every question to the server has a time-out of its own."""


def examine(text: str) -> Iterator[Check]:
    """Looks at the server at ``HOST:PORT``; the first check that fails because it is not there is the last.

    Raises:
        UsageError: The text is no address.
    """
    where = Where.parse(text)
    late = threading.Event()
    versions: Versions | None = None
    with ChildRun("plugins.carla.run.checks", {"server": str(where)}, END_SECONDS + where.timeout) as child:

        def give_up() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(LIMIT_SECONDS, give_up)
        timer.start()
        try:
            for line in child:
                match json.loads(line):
                    case {"versions": [client, server]}:
                        versions = Versions(client, server)
                    case {"check": fields}:
                        yield Check(**fields)
                    case _:
                        pass
        finally:
            timer.cancel()
        if late.is_set():
            yield Check("carla", False, f"the checks of {where} did not end within {LIMIT_SECONDS:g} s: see its log")
        elif child.code < 0:
            yield Check("carla client", False, crash_sentence(child.code, versions))
        elif child.code > 0:
            yield Check("carla client", False, f"the checks ended with exit code {child.code}: see above")


examination = Examination(metavar="HOST:PORT", examine=examine)
"""The entry point of the group ``sim_bridge.doctor``."""
