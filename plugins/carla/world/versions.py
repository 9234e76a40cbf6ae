"""Which versions client and server have: asked before the world, as a client of another version may crash at that.

The streams' messages begin with a number out of a list of sensors, which grows from version to version, and the client
does not check it: with a server of 0.9.15 the client 0.9.16 takes the world's state for another sensor's.
"""

from __future__ import annotations

import signal
from typing import Final, NamedTuple

from plugins.carla.world.server import Where, asking, import_carla, probe

_REMEDY: Final = (
    "install the wheel that the server's own package has in PythonAPI/carla/dist, if it is one for this Python, or "
    "publish from the simulator's own Python as examples/publish_any_simulator.py does"
)
"""What helps where the client crashes: PyPI has no older client for the Pythons that this project runs on."""
MISFIT_ADVICE: Final = f"cameras may work all the same; where the client crashes, {_REMEDY}"


class Versions(NamedTuple):
    """Of a client package and a server."""

    client: str
    server: str

    @property
    def fit(self) -> bool:
        """Whether they are the same."""
        return self.client == self.server

    def __str__(self) -> str:
        return f"client {self.client}, server {self.server}"


def ask_versions(where: Where) -> Versions:
    """Asks a server for its version and touches no world; errors as :class:`~plugins.carla.world.server.Server`."""
    package = import_carla()
    probe(where)
    client = package.Client(where.host, where.port)
    client.set_timeout(where.timeout)
    with asking("its version", f"the CARLA server at {where}"):
        return Versions(str(client.get_client_version()), str(client.get_server_version()))


def crash_sentence(code: int, versions: Versions | None) -> str:
    """What to say of a client's process that a signal ended; its exit code is minus the signal's number."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    crash = f"CARLA's client crashed ({name})"
    if versions is None or versions.fit:
        return f"{crash}: see above, and look at the server's log"
    return f"{crash}, as the versions do not fit ({versions}): {_REMEDY}"
