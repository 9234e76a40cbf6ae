"""The simulation: lets the world tick, by itself or on cue, and hands each tick's messages to the streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

from tests.carla_server.payloads import MAP_CHANGED, episode_state, picture
from tests.carla_server.pictures import Moment, Pictures, Shot
from tests.carla_server.rpc import RpcError
from tests.carla_server.streams import EPISODE_STREAM, Message, Streams, token
from tests.carla_server.structures import ActorRecord, Description, Settings, Transform
from tests.carla_server.world import Actor, Camera, Vehicle, World

LOADING_SECONDS: Final = 0.3
"""A new map takes a simulator far longer. Without this silence the client, which drops its old stream of the episode
then, crashes about every tenth time: it frees a connection that is being read."""


class Simulation:
    """A world with its streams. All methods may be called from any thread.

    Args:
        world: The world.
        pictures: What its cameras see.
        stream_port: Port of the streams; 0 lets the system choose.
        vehicle_tag: Semantic tag that vehicles have.

    Attributes:
        world: The world; hold its lock to read or change it.
        streams: Its streams.
    """

    def __init__(self, world: World, pictures: Pictures, stream_port: int, vehicle_tag: int) -> None:
        self.world = world
        self._pictures, self._vehicle_tag = pictures, vehicle_tag
        self.streams = Streams(stream_port, self._is_known, self._first_message)
        self._ticking = threading.Lock()
        """Held from a tick to its last message: ticks never overtake each other."""
        self._loaded_at: float | None = None
        self._frozen = threading.Event()
        self._changed = threading.Event()

    def start(self) -> None:
        """Begins to serve streams and, while the world is asynchronous, to tick."""
        self.streams.start()
        threading.Thread(target=self._run_freely, daemon=True, name="ticker").start()

    @property
    def is_synchronous(self) -> bool:
        """Whether the world waits for cues."""
        return self.world.settings.synchronous_mode

    def cue(self) -> int:
        """A client's cue: a tick of a synchronous world. Returns the number of the frame to wait for."""
        if not self.is_synchronous or self._frozen.is_set():
            return self.world.frame + 1
        return self.tick()

    def tick(self, *, on_cue: bool = True) -> int:
        """One tick: all messages of it are on their way when this returns. Returns the number of the last frame."""
        with self._ticking:
            self._finish_loading()
            with self.world.lock:
                if self.is_synchronous != on_cue:  # the settings changed at the last moment
                    return self.world.frame
                self.world.advance()
                frame, wait = self.world.frame, self.is_synchronous
                messages = list(self._messages())
            for stream, message in messages:
                self.streams.publish(stream, message, wait=wait)
            return frame

    def _finish_loading(self) -> None:
        """Tells all readers of the new episode, once it is loaded."""
        if self._loaded_at is None:
            return
        time.sleep(max(0.0, self._loaded_at - time.monotonic()))
        self._loaded_at = None
        with self.world.lock:
            state = episode_state(self.world, MAP_CHANGED)
        self.streams.publish(EPISODE_STREAM, state, wait=self.is_synchronous)

    def pace(self, hertz: float) -> None:
        """Lets an asynchronous world tick so often in a second."""
        self.world.rate = hertz
        self._changed.set()

    def freeze(self, on: bool) -> None:
        """Stops the ticks, also those on cue, or lets them go on."""
        (self._frozen.set if on else self._frozen.clear)()
        self._changed.set()

    def apply(self, settings: Settings) -> int:
        """Takes new settings; returns the present frame."""
        with self.world.lock:
            self.world.settings = settings
            self._changed.set()
            return self.world.frame

    def new_episode(self, town: str, *, reset_settings: bool) -> None:
        """Loads a map: all actors and their streams are gone, and for a while nothing is sent."""
        with self._ticking:
            with self.world.lock:
                gone = [camera.stream for camera in self.world.cameras()]
                self.world.new_episode(town, reset_settings=reset_settings)
            for stream in gone:
                self.streams.close(stream)
            self._loaded_at = time.monotonic() + LOADING_SECONDS
            self._changed.set()

    def spawn(self, description: Description, place: Transform, parent: int = 0) -> ActorRecord:
        """Puts an actor into the world, attached to another one where ``parent`` is not 0.

        Raises:
            RpcError: It cannot be, see :meth:`World.spawn`; or there are no such pictures.
        """
        with self.world.lock:
            if parent and parent not in self.world.actors:
                raise RpcError(f"unable to attach actor: parent actor {parent} not found")
            actor = self.world.spawn(description, place, self.world.actors.get(parent))
            if isinstance(actor, Camera) and actor.kind not in self._pictures.kinds:
                self.world.destroy(actor.id)
                raise RpcError(f"there are no pictures of {actor.kind} here: start the server with others")
            return self.record(actor)

    def destroy(self, number: int) -> None:
        """Takes an actor out of the world and cuts its stream.

        Raises:
            RpcError: There is none of that id.
        """
        with self.world.lock:
            actor = self.world.destroy(number)
        if isinstance(actor, Camera):
            self.streams.close(actor.stream)

    def record(self, actor: Actor) -> ActorRecord:
        """An actor as the client is told of it."""
        tags = bytes([self._vehicle_tag]) if isinstance(actor, Vehicle) else b""
        where = self.token(actor.stream) if isinstance(actor, Camera) else b""
        parent = actor.parent.id if actor.parent else 0
        return ActorRecord(actor.id, parent, actor.description, actor.box, tags, where)

    def token(self, stream: int) -> bytes:
        """Where a stream can be read."""
        return token(stream, self.streams.port)

    def _messages(self) -> Iterator[tuple[int, Message]]:
        """The messages of the present frame, by stream."""
        yield EPISODE_STREAM, episode_state(self.world)
        for camera in self.world.cameras():
            for message in camera.faults.arrange(self.world.frame, self._picture(camera)):
                yield camera.stream, message

    def _picture(self, camera: Camera) -> Message | None:
        world = self.world
        if world.settings.no_rendering_mode or not self.streams.has_readers(camera.stream):
            return None
        if not camera.is_due(world.seconds):
            return None
        now, before = Moment(camera.world_pose, world.seconds), Moment(camera.before, world.seconds - world.delta)
        mount = (camera.parent.id if camera.parent else 0, camera.place)
        shot = Shot(camera.kind, camera.id, world.frame, camera.lens, now, before, mount)
        return picture(camera, world, self._pictures.paint(shot))

    def _is_known(self, stream: int) -> bool:
        with self.world.lock:
            return stream == EPISODE_STREAM or any(camera.stream == stream for camera in self.world.cameras())

    def _first_message(self, stream: int) -> Message | None:
        """A client that joins a synchronous world would else see no actors before the next tick."""
        if stream != EPISODE_STREAM or self._loaded_at is not None:
            return None
        with self.world.lock:
            return episode_state(self.world)

    def _run_freely(self) -> None:
        last = time.monotonic()
        while True:
            with self._ticking:
                self._finish_loading()
            idle = self.is_synchronous or self._frozen.is_set()
            period = 1 / self.world.rate
            self._changed.wait(None if idle else max(0.0, last + period - time.monotonic()))
            self._changed.clear()
            if not idle and (now := time.monotonic()) >= last + period:
                self.tick(on_cue=False)
                # A burst of late ticks helps nobody: the schedule moves on.
                last = max(last + period, now - period)
