"""How long the images of a tick are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from plugins.carla.rig.sensors import ArrivalQueue, SensorKey

BETWEEN_SECONDS: Final = 1.0
"""How long the next image of a tick may take after the one before."""
AGAIN_SECONDS: Final = 30.0
"""After which a stream that was given up is waited for as long as at first."""
_LEAST_SHARE: Final = 1 / 64
_LOOK_SECONDS: Final = 0.1


class Patience:
    """Waits for the images of a tick, for as long as it makes sense.

    A weak GPU may take long: until the first image it waits for the whole time-out, then for :data:`BETWEEN_SECONDS`
    from each image to the next. A stream that loses images, or is always some ticks late, must not stop the world:
    with every tick in a row that lacks an image both times are halved, down to 1/64.

    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._share = 1.0
        self._since = 0.0
        """When the first of the ticks in a row that lacked an image was."""

    def wait(
        self, queue: ArrivalQueue, keys: Sequence[SensorKey], number: int, asked: float, go_on: Callable[[], bool]
    ) -> list[SensorKey]:
        """Waits until all sensors have sent that frame or a later one; returns those that have not.

        ``asked`` is when the world was asked for the tick, seconds of the monotonic clock; ``go_on`` False ends it.
        """
        began = time.monotonic()
        if self._share < 1 and began - self._since > AGAIN_SECONDS:
            self._share = 1.0
        while True:
            count = queue.count
            missing = queue.wait_for(keys, number, 0)
            patience = self._timeout if queue.came < asked else BETWEEN_SECONDS
            left = max(began, queue.came) + patience * self._share - time.monotonic()
            if not missing or left <= 0 or not go_on():
                break
            queue.wait_for_more(count, min(left, _LOOK_SECONDS))
        self._learn(bool(missing), began)
        return missing

    def _learn(self, lacked: bool, began: float) -> None:
        if not lacked:
            self._share = 1.0
            return
        if self._share == 1.0:
            self._since = began
        self._share = max(_LEAST_SHARE, self._share / 2)
