"""What a photoreal camera adds to a synchronous CARLA tick, with the real client against the stand-in server.

The null network passes images through, so that what is left is the way: CARLA's images to the bridge and back to the
script. The stand-in's pictures come from a cache. For 1 and for 3 cameras the same sensors are ticked twice: once until
all of CARLA's images of a tick are there, once until its photoreal images are.

    python -m benchmarks.carla_ticks
    python -m benchmarks.carla_ticks --server 127.0.0.1:2000     # a real one
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plugins.carla import BridgeLink, PhotorealCamera
from plugins.carla.rig.rig import DEFAULT_PLACE, Rig, RigCamera
from plugins.carla.rig.sensors import SensorSet
from plugins.carla.world.server import Server, Where
from plugins.carla.world.vehicles import spawn_vehicle
from sim_bridge.frames import Kind
from sim_bridge.settings import parse_size
from sim_bridge.translators.null import NullTranslator
from tests.carla_server.handle import CarlaServer

if TYPE_CHECKING:
    import carla

NAMES = ("front", "left", "right")
WARM_UP_TICKS = 50
SECONDS = 20.0
"""How long one image may take."""
Seconds = npt.NDArray[np.float64]


def time_ticks(tick: Callable[[], None], count: int) -> Seconds:
    """Seconds of each tick, ``(count,)``."""
    taken = []
    for _ in range(WARM_UP_TICKS + count):
        start = time.perf_counter()
        tick()
        taken.append(time.perf_counter() - start)
    return np.array(taken[WARM_UP_TICKS:])


def without(server: Server, car: carla.Actor, rig: Rig, count: int) -> Seconds:
    """Ticks until CARLA's own images are there."""
    sensors = SensorSet(server, car, rig, (Kind.RGB, Kind.SEMANTIC), "benchmark")

    def tick() -> None:
        number = server.tick()
        if missing := sensors.queue.wait_for(sensors.keys, number, SECONDS):
            raise TimeoutError(f"frame {number} of {missing} did not come within {SECONDS:g} s")
        sensors.queue.clear()

    try:
        server.tick()
        time.sleep(1.0)  # the client opens streams in the background and does not say when they stand
        return time_ticks(tick, count)
    finally:
        sensors.destroy()


def with_photoreal(server: Server, car: carla.Actor, rig: Rig, count: int) -> Seconds:
    """Ticks until all photoreal images are there."""
    with BridgeLink.in_process(NullTranslator(), rig.names) as link, ExitStack() as stack:
        cameras = [
            stack.enter_context(
                PhotorealCamera(server.world, car, image_size=camera.size, bridge=link, name=name, timeout=SECONDS)
            )
            for name, camera in rig.cameras.items()
        ]

        def tick() -> None:
            number = server.tick()
            for camera in cameras:
                camera.get(number, SECONDS)

        server.tick()
        time.sleep(1.0)
        return time_ticks(tick, count)


@contextmanager
def driven(address: str | None) -> Iterator[Server]:
    """A synchronous world, of the stand-in or of a server at ``HOST:PORT``."""
    with ExitStack() as stack:
        if address is None:
            where = Where(port=stack.enter_context(CarlaServer()).port, timeout=SECONDS)
        else:
            where = Where.parse(address, SECONDS)
        server = Server(where)
        server.drive(0.05)
        try:
            yield server
        finally:
            server.restore()


def row(name: str, taken: Seconds, base: Seconds | None) -> str:
    """A line of the table; what is added counts from the median without."""
    columns = [f"{name:<28}", f"{1 / taken.mean():>8.1f}"]
    for values in (taken, None if base is None else taken - np.median(base)):
        parts = [] if values is None else np.percentile(values, (50, 95, 99)) * 1e3
        columns.append(" / ".join(f"{part:.2f}" for part in parts).rjust(24))
    return "  ".join(columns).rstrip() + "\n"


def measure(server: Server, car: Any, size: tuple[int, int], count: int) -> None:
    """Prints the table."""
    sys.stdout.write(
        f"{size[0]}x{size[1]}, {count} ticks, client {server.client_version}, server {server.version}\n"
        f"{'':<28}  {'ticks/s':>8}  {'tick p50/p95/p99 ms':>24}  {'added p50/p95/p99 ms':>24}\n"
    )
    for cameras in (1, len(NAMES)):
        rig = Rig(cameras={name: RigCamera(**DEFAULT_PLACE._asdict(), size=size) for name in NAMES[:cameras]})
        name = "1 camera" if cameras == 1 else f"{cameras} cameras"
        base = without(server, car, rig, count)
        sys.stdout.write(row(f"{name}, CARLA's images", base, None))
        sys.stdout.write(row(f"{name}, photoreal", with_photoreal(server, car, rig, count), base))
        sys.stdout.flush()


def main() -> None:
    """Reads the flags and measures."""
    parser = argparse.ArgumentParser(description="Time synchronous CARLA ticks with and without photoreal cameras.")
    parser.add_argument("--server", default=None, metavar="HOST:PORT", help="a real server (default: the stand-in)")
    parser.add_argument("--size", type=parse_size, default=(512, 256), metavar="WxH", help="of the images (512x256)")
    parser.add_argument("--ticks", type=int, default=1000, help="how many of each (%(default)s)")
    flags = parser.parse_args()
    with driven(flags.server) as server:
        car = spawn_vehicle(server, "benchmark")
        server.tick()
        try:
            measure(server, car, flags.size, flags.ticks)
        finally:
            server.destroy(car)


if __name__ == "__main__":
    main()
