"""Which taxonomy a CARLA server's semantic tags are of. They changed twice: with 0.9.10 and with 0.9.14."""

from __future__ import annotations

import re
from typing import Final

from sim_bridge.errors import LabelError, UsageError
from sim_bridge.pixels.labels import taxonomy, taxonomy_names

_RELEASE: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?!\d)")
_SERIES: Final = (0, 9)
_SINCE: Final = ((14, "carla-0.9.14"), (10, "carla-0.9.10"), (0, "carla-0.9.0"))
"""Third number of the first release with these tags, newest first."""
KNOWN: Final = "0.9.0 to 0.9.16"


def taxonomy_for(version: str, labels: str | None = None) -> str:
    """The name of the taxonomy of a server's semantic cameras.

    Args:
        version: What the server says, like ``0.9.16`` or ``0.9.15-12-gabc123``.
        labels: What the user says, which goes before.

    Raises:
        UsageError: The version is of no known series and the user says nothing, or the user's taxonomy is unknown.
    """
    if labels is not None:
        try:
            return taxonomy(labels).name
        except LabelError as error:
            raise UsageError(f"--labels {labels}: {error}") from error
    release = _RELEASE.match(version.strip())
    if release is not None and (int(release[1]), int(release[2])) == _SERIES:
        return next(name for first, name in _SINCE if int(release[3]) >= first)
    known = ", ".join(name for name in taxonomy_names() if name.startswith("carla"))
    raise UsageError(
        f"the CARLA server says that its version is {version!r}, and which class ids semantic cameras send is "
        f"known of {KNOWN} only: name the taxonomy by --labels, one of {known}"
    )
