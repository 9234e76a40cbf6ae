"""Records a data set in CARLA: photoreal images, the CG images they were made of, exact labels, times and poses.

python carla_dataset.py town10 --images 2000 --every 10

It drives as carla_drive.py does, which must lie beside it, and moves the car to another place now and then. The folder
has the layout of docs/recordings.md, so that 'sim-bridge sheet' shows it and the trainers read it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import carla
from carla_drive import autopilot, car_on_the_road, size, synchronous

from plugins.carla import PhotorealCamera, PhotorealImage
from sim_bridge.errors import SimBridgeError
from sim_bridge.frames import Frame
from sim_bridge.recordings.read import DEFAULT_CAMERA, DESCRIPTION, CameraInfo, Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter

SETTLE = 10
"""Ticks that a car that was moved needs to stand on the road."""

ASKED = 1_000_000
"""Ticks between those that are translated by themselves: none of these is, only what ``get`` asks for."""

Scene = tuple[Frame, Frame, PhotorealImage]
"""What one tick shows: RGB, class ids, photoreal."""


def scenes(
    world: carla.World, car: carla.Vehicle, camera: PhotorealCamera, flags: argparse.Namespace
) -> Iterator[Scene]:
    """Drives on for ever, from place to place."""
    places = world.get_map().get_spawn_points()
    random.Random(flags.seed).shuffle(places)
    for place in itertools.cycle(places):
        car.set_transform(place)
        for _ in range(SETTLE):
            world.tick()
        for _ in range(flags.per_place):
            for _ in range(flags.every):
                frame = world.tick()
            photoreal = camera.get(frame, flags.timeout)
            yield *camera.inputs(frame), photoreal


def describe(scene: Scene, bundle: str) -> RecordingInfo:
    """What ``recording.json`` is to say."""
    rgb, semantic, photoreal = scene
    made = {"bundle": bundle, "model": photoreal.provenance.model} if photoreal.provenance else {"bundle": bundle}
    return RecordingInfo(
        cameras={DEFAULT_CAMERA: CameraInfo(width=rgb.width, height=rgb.height, fov=rgb.fov)},
        taxonomy=semantic.labels,
        session=rgb.session,
        translation=made,
    )


def write(writer: RecordingWriter, scene: Scene) -> None:
    """Writes the images of a tick, and its line in the manifest."""
    rgb, semantic, photoreal = scene
    images = {
        Folder.RGB: rgb.pixels[..., 2::-1],
        Folder.SEMANTIC: semantic.pixels,
        Folder.PHOTOREAL: photoreal.array[..., 2::-1],
    }
    number = rgb.number
    files = {kind: writer.write_image(DEFAULT_CAMERA, kind, number, pixels) for kind, pixels in images.items()}
    writer.add(RecordedFrame(DEFAULT_CAMERA, number, rgb.time, rgb.pose, files))


def record(flags: argparse.Namespace) -> int:
    """Records until there are enough images; how many there are."""
    if (flags.folder / DESCRIPTION).exists():
        raise RuntimeError(f"{flags.folder} holds a recording already: choose another folder, or remove it")
    client = carla.Client(flags.host, flags.port)
    client.set_timeout(flags.timeout)
    world = client.get_world()
    with ExitStack() as stack:
        stack.enter_context(synchronous(world, 0.05))
        car = stack.enter_context(car_on_the_road(world))
        stack.enter_context(autopilot(client, car, flags.tm_port))
        camera = stack.enter_context(
            PhotorealCamera(
                world, attach_to=car, image_size=flags.size, engine=flags.bundle, every=ASKED, timeout=flags.timeout
            )
        )
        stack.callback(client.set_timeout, 3.0)  # what cleans up does not wait long for a server that is gone
        writer: RecordingWriter | None = None
        for done, scene in enumerate(itertools.islice(scenes(world, car, camera, flags), flags.images), 1):
            if writer is None:
                writer = stack.enter_context(RecordingWriter(flags.folder, describe(scene, flags.bundle)))
            write(writer, scene)
            if done % 100 == 0:
                print(f"{done} of {flags.images} images")
    return done


def main() -> int:
    """Reads the flags and records."""
    parser = argparse.ArgumentParser(description="Record a photoreal data set with labels in CARLA.")
    parser.add_argument("folder", type=Path, help="where to; a new folder")
    parser.add_argument("--host", default="127.0.0.1", help="machine of the CARLA server")
    parser.add_argument("--port", type=int, default=2000, help="its port")
    parser.add_argument("--tm-port", type=int, default=8000, help="port of its traffic manager")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds that an answer or an image may take")
    parser.add_argument("--size", type=size, default=(960, 540), metavar="WxH", help="size of the images (960x540)")
    parser.add_argument("--bundle", default="street-enhance", help="the network: a bundle's name or path")
    parser.add_argument("--images", type=int, default=500, help="how many (500)")
    parser.add_argument("--every", type=int, default=10, help="ticks of 0.05 s from one image to the next (10)")
    parser.add_argument("--per-place", type=int, default=20, help="images before the car is moved elsewhere (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the places")
    flags = parser.parse_args()
    if min(flags.images, flags.every, flags.per_place) < 1:
        parser.error("--images, --every and --per-place must be 1 or more")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up like any other end
    try:
        print(f"{record(flags)} images in {flags.folder}")
    except KeyboardInterrupt:
        print("ended: what was written is whole")
    except (RuntimeError, SimBridgeError) as error:  # the CARLA client's errors are RuntimeErrors
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
