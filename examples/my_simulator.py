"""A simulator in one file. These lines in its pyproject.toml make it known.

[project.entry-points."sim_bridge.sources"]
mysim = "my_simulator:MySimulator"

Then ``sim-bridge run --source mysim rate=10`` publishes it and ``sim-bridge`` makes it photoreal.
"""

import time
import uuid
from collections.abc import Iterator, Mapping

import numpy as np

from sim_bridge.frames import Encoding, Frame, Kind


class MySimulator:
    """A road that passes below the camera."""

    def open(self, options: Mapping[str, object]) -> None:
        """Takes the option ``rate``, ticks per second."""
        self.period, self.open_ = 1 / float(str(options.get("rate", 20))), True

    def __iter__(self) -> Iterator[Frame]:
        """Yields both frames of every tick."""
        session, number = uuid.uuid4().hex, 0
        while self.open_:
            ids = np.full((128, 256), 7, np.uint8)  # Cityscapes: 7 road, 23 sky
            ids[:64] = 23
            rgb = np.where(ids[..., None] == 7, (90 + number % 20,) * 3, (140, 180, 220)).astype(np.uint8)
            about = (number, number * self.period, session)
            yield Frame("camera", Kind.RGB, *about, Encoding.RGB8, 256, 128, rgb, 0)
            yield Frame("camera", Kind.SEMANTIC, *about, Encoding.MONO8, 256, 128, ids, 0, labels="cityscapes")
            time.sleep(self.period)
            number += 1

    def close(self) -> None:
        """Ends the iteration."""
        self.open_ = False
