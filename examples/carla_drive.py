"""Drives a car through CARLA with a photoreal camera: CARLA's image and the photoreal one side by side.

python carla_drive.py                                   # in a window, until it is closed
python carla_drive.py --video drive.mp4 --frames 400    # into a file, on a machine without a screen

The world is made synchronous and waits for every photoreal image; at the end, also after Ctrl-C, car and cameras are
gone and the settings are as they were.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import carla
import cv2
import numpy as np

from plugins.carla import PhotorealCamera
from sim_bridge.errors import SimBridgeError

Show = Callable[[np.ndarray], bool]
"""Takes an image, uint8 ``(H, W, 3)`` BGR; False when nobody wants another."""


@contextmanager
def synchronous(world: carla.World, step: float) -> Iterator[None]:
    """The world waits for ``world.tick()``, which moves it by ``step`` seconds."""
    before, settings = world.get_settings(), world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, step
    world.apply_settings(settings)
    try:
        yield
    finally:
        world.apply_settings(before)


@contextmanager
def car_on_the_road(world: carla.World) -> Iterator[carla.Vehicle]:
    """A car at the first free spawn point."""
    library = world.get_blueprint_library()
    blueprint = [*library.filter("vehicle.tesla.*"), *library.filter("vehicle.*")][0]
    blueprint.set_attribute("role_name", "hero")
    for place in world.get_map().get_spawn_points():
        car = world.try_spawn_actor(blueprint, place)
        if car is not None:
            break
    else:
        raise RuntimeError("no spawn point of the map is free")
    world.tick()  # before its first tick the client knows nothing of an actor, and cannot destroy it
    try:
        yield car
    finally:
        car.destroy()


@contextmanager
def autopilot(client: carla.Client, car: carla.Vehicle, port: int) -> Iterator[None]:
    """CARLA's traffic manager drives; where the server has none the car goes straight on."""
    try:
        manager = client.get_trafficmanager(port)
        manager.set_synchronous_mode(True)
        car.set_autopilot(True, manager.get_port())
    except RuntimeError as error:
        print(f"no autopilot, straight on: {error}", file=sys.stderr)
        car.apply_control(carla.VehicleControl(throttle=0.4))
        yield
        return
    try:
        yield
    finally:
        car.set_autopilot(False, manager.get_port())
        manager.set_synchronous_mode(False)


@contextmanager
def window(width: int, height: int) -> Iterator[Show]:
    """Shows images until the window is closed."""
    try:
        import pygame
    except ImportError:
        raise RuntimeError("a window needs pygame: pip install pygame, or give --video FILE") from None
    pygame.init()
    screen = pygame.display.set_mode((width, height))
    pygame.display.set_caption("CARLA | photoreal")

    def show(image: np.ndarray) -> bool:
        screen.blit(pygame.surfarray.make_surface(image[..., ::-1].swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        return not any(event.type == pygame.QUIT for event in pygame.event.get())

    try:
        yield show
    finally:
        pygame.quit()


@contextmanager
def video(path: Path, width: int, height: int, rate: float) -> Iterator[Show]:
    """Writes images into a file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise RuntimeError(f"{path} cannot be written as a video: give a name that ends in .mp4, in a folder there is")

    def show(image: np.ndarray) -> bool:
        writer.write(image)
        return True

    try:
        yield show
    finally:
        writer.release()
        print(f"wrote {path}")


def drive(flags: argparse.Namespace) -> int:
    """Drives until there are enough frames or the window is closed; how many there were."""
    width, height = flags.size
    client = carla.Client(flags.host, flags.port)
    client.set_timeout(flags.timeout)
    world = client.get_world()
    with ExitStack() as stack:
        stack.enter_context(synchronous(world, flags.step))
        car = stack.enter_context(car_on_the_road(world))
        stack.enter_context(autopilot(client, car, flags.tm_port))
        # This is the one line that a script of your own needs; it may give bridge= in place of engine=.
        camera = stack.enter_context(
            PhotorealCamera(
                world, attach_to=car, image_size=(width, height), engine=flags.bundle, timeout=flags.timeout
            )
        )
        if flags.video is None:
            show = stack.enter_context(window(2 * width, height))
        else:
            show = stack.enter_context(video(flags.video, 2 * width, height, 1 / flags.step))
        stack.callback(client.set_timeout, 3.0)  # what cleans up does not wait long for a server that is gone
        done, goes_on = 0, True
        while goes_on and done != flags.frames:
            frame = world.tick()
            photoreal = camera.get(frame, flags.timeout)
            cg, _ = camera.inputs(frame)
            goes_on = show(np.hstack([cg.pixels[..., :3], photoreal.array[..., :3]]))
            done += 1
    return done


def size(text: str) -> tuple[int, int]:
    """Reads ``WxH``."""
    width, height = text.split("x")
    return int(width), int(height)


def main() -> int:
    """Reads the flags and drives."""
    parser = argparse.ArgumentParser(description="Drive a car through CARLA with a photoreal camera.")
    arguments: dict[str, dict[str, Any]] = {
        "--host": {"default": "127.0.0.1", "help": "machine of the CARLA server"},
        "--port": {"default": 2000, "type": int, "help": "its port"},
        "--tm-port": {"default": 8000, "type": int, "help": "port of its traffic manager"},
        "--timeout": {"default": 20.0, "type": float, "help": "seconds that an answer or an image may take"},
        "--size": {"default": (640, 360), "type": size, "metavar": "WxH", "help": "size of the images (640x360)"},
        "--bundle": {"default": "street-enhance", "help": "the network: a bundle's name or path"},
        "--step": {"default": 0.05, "type": float, "help": "simulator seconds of a tick"},
        "--frames": {"default": -1, "type": int, "help": "how many; else until the window is closed, or Ctrl-C"},
        "--video": {"default": None, "type": Path, "metavar": "FILE", "help": "write a video in place of a window"},
    }
    for name, argument in arguments.items():
        parser.add_argument(name, **argument)
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up like any other end
    try:
        print(f"{drive(flags)} photoreal frames")
    except KeyboardInterrupt:
        print("ended")
    except (RuntimeError, SimBridgeError) as error:  # the CARLA client's errors are RuntimeErrors
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
