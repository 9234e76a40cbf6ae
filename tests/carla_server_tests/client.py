"""The real client, as tests use it."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import carla
import numpy as np
import numpy.typing as npt

from tests.carla_server.blueprints import CameraKind
from tests.carla_server.handle import ROOT, CarlaServer
from tests.carla_server.stamp import Stamp, read_stamp

SECONDS: Final = 20.0
"""How long anything may take on a busy machine."""
SIZE: Final = (64, 32)
MOUNT: Final = carla.Transform(carla.Location(1.5, 0.2, 2.4), carla.Rotation(pitch=-10))


def connect(server: CarlaServer, seconds: float = SECONDS) -> Any:
    """A client with that time-out."""
    client = carla.Client("127.0.0.1", server.port)
    client.set_timeout(seconds)
    return client


def synchronize(world: Any, seconds: float = 0.05) -> None:
    """Makes a world synchronous."""
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, seconds
    world.apply_settings(settings)


def blueprint(world: Any, kind: str, **attributes: object) -> Any:
    """A blueprint with some attributes set."""
    found = world.get_blueprint_library().find(kind)
    for name, value in attributes.items():
        found.set_attribute(name, str(value))
    return found


def spawn_vehicle(world: Any, place: int = 0) -> Any:
    """A vehicle at one of the map's places."""
    points = world.get_map().get_spawn_points()
    return world.spawn_actor(blueprint(world, "vehicle.tesla.model3", role_name="hero"), points[place])


def until(condition: Callable[[], bool]) -> None:
    """Waits until something holds, by asking the client again and again."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"it did not come true within {SECONDS:g} s"


def meet(world: Any, actor: Any) -> None:
    """Waits until the client knows an actor's state.

    Before, `is_alive`, `actor_state` and what `destroy` makes of them come from memory that nobody set.
    """
    until(lambda: world.get_snapshot().has_actor(actor.id))


def run_script(code: str) -> None:
    """Runs a test's code in a process of its own, for what leaves traces in the client's.

    The process ends without the client's farewell: where a sensor could not be destroyed that may abort.
    """
    names = "Camera, CameraKind, CarlaServer, connect, meet, spawn_vehicle, synchronize"
    script = f"import os\nfrom {__name__} import {names}\n{code}\nprint('done', flush=True)\nos._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


class Camera:
    """A camera that listens, with its pictures in a queue.

    Attributes:
        actor: The client's sensor.
    """

    def __init__(
        self,
        server: CarlaServer,
        world: Any,
        kind: CameraKind,
        parent: Any = None,
        mount: Any = MOUNT,
        size: tuple[int, int] = SIZE,
        **attributes: object,
    ) -> None:
        found = blueprint(world, str(kind), image_size_x=size[0], image_size_y=size[1], **attributes)
        self._server = server
        self._images: queue.Queue[Any] = queue.Queue()
        self.actor = world.spawn_actor(found, mount, attach_to=parent)
        self.listen()

    def listen(self) -> None:
        """Begins to listen, and waits until the server knows it."""
        self.actor.listen(self._images.put)
        self._server.wait_for_readers(self.actor.id)

    def next(self) -> Any:
        """The next picture."""
        return self._images.get(timeout=SECONDS)

    def frames(self, count: int) -> list[int]:
        """The numbers of the next pictures, sorted: callbacks run in several threads and may overtake each other."""
        return sorted(self.next().frame for _ in range(count))

    @property
    def is_empty(self) -> bool:
        """Whether no picture waits."""
        return self._images.empty()


def pixels(image: Any) -> npt.NDArray[np.uint8]:
    """A copy of a picture's pixels, ``(H, W, 4)``, BGRA: the client's buffer goes with the image."""
    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4).copy()


def flow(image: Any) -> npt.NDArray[np.float32]:
    """A copy of an optical flow picture, ``(H, W, 2)``."""
    return np.frombuffer(image.raw_data, np.float32).reshape(image.height, image.width, 2).copy()


def stamp(image: Any) -> Stamp:
    """The stamp in a picture."""
    return read_stamp(flow(image)[..., 0] if isinstance(image, carla.OpticalFlowImage) else pixels(image)[..., 2])


def matrix(transform: Any) -> npt.NDArray[np.float64]:
    """The client's own matrix of a pose."""
    return np.array(transform.get_matrix())
