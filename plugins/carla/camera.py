"""A photoreal camera in a CARLA script: one line more than a camera of CARLA's own."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from plugins.carla.rig.link import BridgeLink, Mode
from plugins.carla.rig.photoreal import PhotorealImage
from plugins.carla.rig.rig import DEFAULT_CAMERA, DEFAULT_FOV, DEFAULT_PLACE, DEFAULT_SIZE, single_camera
from plugins.carla.rig.sensors import FrameMaker, SensorSet
from plugins.carla.world.poses import Placement
from plugins.carla.world.server import DEFAULT_TIMEOUT, VehicleLostError, WorldAccess, import_carla
from plugins.carla.world.tags import taxonomy_for
from sim_bridge.errors import FrameTimeoutError, ImageError, MissedFrameError, UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.live.once import OncePerCause
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, SIMULATOR_ADDRESS

if TYPE_CHECKING:
    import carla

    from sim_bridge.translators import Translator

KEPT: Final = 16
"""Photoreal images that :meth:`PhotorealCamera.get` still finds; of 1920x1080 they take 133 MB."""
SENT_KEPT: Final = 4
"""Ticks that can be sent again, and that :meth:`PhotorealCamera.inputs` still finds."""
ASKED_KEPT: Final = 64
"""Ticks that :meth:`PhotorealCamera.get` asked for and that are remembered."""
RESEND_SECONDS: Final = 1.0
"""After which a tick is sent to the bridge again; more than most networks take, as the answer would come twice."""
OPEN_SECONDS: Final = 0.25
"""After ``listen`` the client opens a stream in a thread of its own, and does not say when it is open."""
END_SECONDS: Final = 5.0
"""How long the end waits for a callback."""
_KINDS: Final = (Kind.RGB, Kind.SEMANTIC)
_LOOK_SECONDS: Final = 0.1
_GONE: Final = "its vehicle, its sensors or its world are gone, make a new PhotorealCamera"

_log = logging.getLogger(__name__)


class PhotorealCamera:
    """Makes photoreal images of what a CARLA camera sees, with the world's frame numbers.

    It places an RGB and a semantic camera of equal attributes, sends their images to a bridge, and hands out what
    comes back as :class:`~plugins.carla.rig.photoreal.PhotorealImage`, which reads like ``carla.Image``.
    The world stays the script's: nothing here ticks it or changes its settings.

    Example:
        >>> with PhotorealCamera(world, attach_to=car) as camera:  # doctest: +SKIP
        ...     while driving:
        ...         image = camera.get(world.tick(), timeout=5.0)

    Args:
        world: The ``carla.World``.
        attach_to: The actor that carries it; None places it in the world.
        transform: Where, as for ``spawn_actor``; None is above the bonnet of a car.
        image_size: Width and height, pixels.
        fov: Horizontal field of view, degrees.
        bridge: Address that a running ``sim-bridge`` publishes on, or a :class:`~plugins.carla.rig.link.BridgeLink`
            that several cameras share.
        engine: In place of ``bridge``: a translator, or the name or path of a bundle, to run in this process.
        publish: Address to publish CARLA's images on, the bridge's ``input``.
        name: The camera's name, the bridge's ``--topic``.
        labels: Taxonomy of the semantic images; None goes by the version of the client package, which should be the
            server's.
        every: Only ticks whose frame number is a multiple go through the network by themselves; :meth:`get` has any of
            the last few ticks translated. For data sets, which keep one tick of several.
        attributes: Of the blueprint of the RGB camera, like ``{"gamma": 2.4}``; those of the lens go to both cameras.
        settings: With ``engine``: settings of its bridge, by their names in docs/settings.md: ``device``,
            ``precision``, ``style_seed``, ``style``, ``size``. Unset, the network works at the size of the images.
        mode: With ``engine``: ``lockstep`` translates every frame, ``realtime`` the newest it has time for; None is
            lockstep in a synchronous world.
        timeout: Seconds to wait for the bridge; for the server, the client's own time-out counts.
        curve_keys: Folder with the CURVE keys of the setup; for a bridge on another machine.
        insecure: Allow a bridge on another machine without keys.

    Raises:
        UsageError: An argument cannot be used, or the client's version is of no known taxonomy.
        FrameTimeoutError: (a TimeoutError) No bridge answers.
        CarlaError: The server refuses a sensor, or does not answer.

    Attributes:
        session: Id of this camera's run; another camera has another one.
        malformed: Images that were left out because they were not what was asked for.
    """

    def __init__(
        self,
        world: carla.World,
        attach_to: carla.Actor | None = None,
        transform: carla.Transform | None = None,
        image_size: tuple[int, int] = DEFAULT_SIZE,
        fov: float = DEFAULT_FOV,
        *,
        bridge: str | BridgeLink = BRIDGE_ADDRESS,
        engine: Translator | str | None = None,
        publish: str = SIMULATOR_ADDRESS,
        name: str = DEFAULT_CAMERA,
        labels: str | None = None,
        every: int = 1,
        attributes: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
        mode: Mode | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        curve_keys: Path | None = None,
        insecure: bool = False,
    ) -> None:
        import_carla()
        if engine is not None and bridge != BRIDGE_ADDRESS:
            raise UsageError("a camera was given bridge and engine: give one, engine runs a bridge of its own")
        if engine is None and settings is not None:
            raise UsageError("settings are of a bridge in this process: give engine, too, or set them where it runs")
        if every < 1:
            raise UsageError(f"every is {every}: every tick is 1, every second one 2")
        place = DEFAULT_PLACE if transform is None else Placement.of(transform)
        rig = single_camera(image_size, fov, place, name, attributes)
        taxonomy = taxonomy_for(_client_version(), labels)
        self._every = every
        self.name, self.session = name, f"carla-{uuid.uuid4().hex[:16]}"
        self.malformed = 0
        self._access = WorldAccess(world, "the CARLA server")
        self._synchronous = bool(self._access.settings().synchronous_mode)
        self._maker = FrameMaker(self.session, taxonomy, rig)
        self._changed = threading.Condition()
        self._images: OrderedDict[int, PhotorealImage] = OrderedDict()
        self._kept: OrderedDict[int, dict[Kind, Frame]] = OrderedDict()
        self._asked: OrderedDict[int, None] = OrderedDict()
        self._callback: Callable[[PhotorealImage], None] | None = None
        self._closed = threading.Event()
        self._once = OncePerCause(_log)
        self._own_link: BridgeLink | None = None
        self._sensors: SensorSet | None = None
        self._threads: list[threading.Thread] = []
        if isinstance(bridge, BridgeLink):
            self._link = bridge
        elif engine is not None:
            chosen = mode or ("lockstep" if self._synchronous else "realtime")
            sized = {"size": "x".join(map(str, image_size)), **(settings or {})}
            self._link = self._own_link = BridgeLink.in_process(engine, (name,), chosen, sized)
        else:
            self._link = self._own_link = BridgeLink(bridge, publish, curve_keys=curve_keys, insecure=insecure)
        self._subscriber = self._link.subscribe(name)
        atexit.register(self.destroy)  # a sensor that is left to the interpreter's end can abort the process there
        try:
            self._link.wait_until_ready(name, self._subscriber, timeout)
            self._sensors = SensorSet(self._access, attach_to, rig, _KINDS, f"sim-bridge-camera-{name}")
            self._start(self._sensors)
        except BaseException:
            self.destroy()
            raise

    def _start(self, sensors: SensorSet) -> None:
        self._threads = [
            threading.Thread(target=self._send_all, args=(sensors,), name=f"{self.name}-send", daemon=True),
            threading.Thread(target=self._receive_all, name=f"{self.name}-receive", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._closed.wait(OPEN_SECONDS)

    def listen(self, callback: Callable[[PhotorealImage], None]) -> None:
        """Has every photoreal image from now on given to ``callback``, in a thread of this camera's.

        What the callback raises is logged, and the next image comes all the same. When vehicle, sensors or world are
        gone no more come: that is logged, and :attr:`is_alive` tells.
        """
        self._callback = callback

    @property
    def is_alive(self) -> bool:
        """Whether images can still come: vehicle, sensors and world are there, as far as the client has heard."""
        sensors = self._sensors
        return sensors is not None and self._access.is_same_world() and sensors.alive

    def is_listening(self) -> bool:
        """Whether a callback gets images."""
        return self._callback is not None

    def stop(self) -> None:
        """Gives the callback no more images; :meth:`get` goes on."""
        self._callback = None

    def get(self, frame: int, timeout: float = DEFAULT_TIMEOUT) -> PhotorealImage:
        """The photoreal image of a tick.

        Args:
            frame: The world's frame number, as ``world.tick()`` returns it.
            timeout: Seconds to wait for it.

        Raises:
            FrameTimeoutError: (a TimeoutError) It did not come in time; it says what of it did.
            MissedFrameError: It cannot come any more: the bridge passed over it, or it is too long ago.
            VehicleLostError: Sensors, vehicle or world are gone.
            Exception: What ended a bridge in this process.
        """
        self._ask_for(frame)
        deadline = time.monotonic() + timeout
        resend = time.monotonic() + RESEND_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: frame in self._images or self._is_missed(frame), _LOOK_SECONDS)
                if frame in self._images:
                    return self._images[frame]
                if self._is_missed(frame):
                    raise MissedFrameError(self._why_missed(frame))
            self._link.check_engine()
            self._check_sensors(frame)
            now = time.monotonic()
            if now > deadline:
                raise FrameTimeoutError(self._why_nothing(frame, timeout))
            if now > resend:
                self._send_again(frame)
                resend = now + RESEND_SECONDS

    def inputs(self, frame: int) -> tuple[Frame, Frame]:
        """What CARLA's own cameras saw at a tick: the RGB frame (BGRA) and the semantic frame (class ids).

        Args:
            frame: The world's frame number, of one of the last few ticks.

        Raises:
            MissedFrameError: It is too long ago, or one of the two has not come.
        """
        with self._changed:
            found = self._kept.get(frame, {})
            if len(found) == len(_KINDS):
                return found[Kind.RGB], found[Kind.SEMANTIC]
        raise MissedFrameError(
            f"what CARLA's cameras saw at frame {frame} is not here: ask after get({frame}), at most {SENT_KEPT} ticks "
            "later"
        )

    def destroy(self) -> bool:
        """Destroys the sensors and ends the threads; a second call does nothing.

        Returns:
            Whether the sensors are gone.
        """
        if self._closed.is_set():
            return True
        self._closed.set()
        self._callback = None
        sensors, self._sensors = self._sensors, None
        left = 0 if sensors is None else sensors.destroy()
        if left and not self._access.lost:
            _log.warning("%d sensors of camera %r could not be destroyed: tick the world once before", left, self.name)
        self._subscriber.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(END_SECONDS)
            if thread.is_alive() and thread is not threading.current_thread():
                _log.warning(
                    "camera %r ends without its callback, which has not returned from an image for %g s: see what it "
                    "waits for",
                    *(self.name, END_SECONDS),
                )
        if self._own_link is not None:
            self._own_link.close()
        atexit.unregister(self.destroy)
        return left == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def _send_all(self, sensors: SensorSet) -> None:
        """A thread's body: CARLA's images to the bridge."""
        while not self._closed.is_set():
            arrival = sensors.queue.get(_LOOK_SECONDS)
            if not (self._access.is_same_world() and sensors.alive):
                # Sensors of another run of the server may have taken the place of ours.
                if not self._closed.is_set():  # somebody else ended them
                    self._once.warn("gone", f"camera {self.name!r} gets no more images: {_GONE}")
                continue
            if arrival is None:
                continue
            try:
                frame = self._maker.frame(arrival)
            except ImageError as error:
                self.malformed += 1
                self._once.warn(arrival.kind, f"{arrival.kind} frame {arrival.number} is left out: {error}")
                continue
            with self._changed:
                self._kept.setdefault(frame.number, {})[frame.kind] = frame
                if len(self._kept) > SENT_KEPT:
                    self._kept.popitem(last=False)
                wanted = self._is_sent(frame.number)
            if wanted:
                self._link.send(frame)

    def _receive_all(self) -> None:
        """A thread's body: photoreal frames from the bridge."""
        while not self._closed.is_set():
            try:
                frame = self._subscriber.next_frame(_LOOK_SECONDS)
            except FrameTimeoutError:
                continue
            if frame.session == self.session:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        try:
            image = PhotorealImage(frame)
        except ImageError as error:
            self._once.warn("photoreal", str(error))
            return
        with self._changed:
            if frame.number in self._images:
                return  # sent again, the same bytes
            self._images[frame.number] = image
            if len(self._images) > KEPT:
                self._images.popitem(last=False)
            self._changed.notify_all()
        callback = self._callback
        if callback is not None:
            try:
                callback(image)
            except Exception:  # noqa: BLE001 - the script's own code; one image must not end the others
                _log.exception("the callback of camera %r failed on frame %d", self.name, image.frame)

    def _send_again(self, number: int) -> None:
        """In lockstep a message that got lost is sent again; its identity makes that harmless."""
        status = self._subscriber.status
        if status is None or status.mode != "lockstep":
            return
        with self._changed:
            frames = list(self._kept.get(number, {}).values())
        if len(frames) == len(_KINDS):
            for frame in frames:
                self._link.send(frame)

    def _is_sent(self, number: int) -> bool:
        """Whether a tick goes to the bridge; the rest waits to be asked for."""
        return number % self._every == 0 or number in self._asked

    def _ask_for(self, number: int) -> None:
        """Sends a tick that was not sent by itself; the images that are not here yet follow when they come."""
        with self._changed:
            gone = number not in self._kept and max(self._kept, default=-1) > number
            if self._is_sent(number) or gone:
                return
            self._asked[number] = None
            if len(self._asked) > ASKED_KEPT:
                self._asked.popitem(last=False)
            frames = list(self._kept.get(number, {}).values())
        for frame in frames:
            self._link.send(frame)

    def _is_missed(self, number: int) -> bool:
        """Whether a frame that is not here cannot come: a newer one is, and the bridge goes by the newest."""
        if number not in self._images and not self._is_sent(number):
            return True
        if number in self._images or not self._images or max(self._images) < number:
            return False
        status = self._subscriber.status
        return status is None or status.mode != "lockstep" or self._is_forgotten(number)

    def _is_forgotten(self, number: int) -> bool:
        """Whether too many frames came after this one for it to be kept."""
        return len(self._images) == KEPT and number < min(self._images)

    def _why_missed(self, number: int) -> str:
        if not self._is_sent(number):
            return (
                f"photoreal frame {number} of camera {self.name!r} was not asked for in time, with every={self._every}:"
                f" ask for it at most {SENT_KEPT} ticks later"
            )
        if self._is_forgotten(number):
            return (
                f"photoreal frame {number} of camera {self.name!r} is not here any more, as {KEPT} later ones are: ask "
                "for it sooner"
            )
        return (
            f"photoreal frame {number} of camera {self.name!r} was missed, as frame {max(self._images)} is here "
            "already: a bridge in lockstep misses none"
        )

    def _check_sensors(self, number: int) -> None:
        sensors = self._sensors
        if sensors is None:
            raise VehicleLostError(f"photoreal frame {number} cannot come: camera {self.name!r} is destroyed")
        if not self.is_alive:
            raise VehicleLostError(f"photoreal frame {number} of camera {self.name!r} cannot come: {_GONE}")

    def _why_nothing(self, number: int, timeout: float) -> str:
        sensors = self._sensors
        newest = {kind: -1 if sensors is None else sensors.queue.newest((self.name, kind)) for kind in _KINDS}
        late = [f"{kind} (last one {last if last >= 0 else 'none'})" for kind, last in newest.items() if last < number]
        sentence = f"photoreal frame {number} of camera {self.name!r} did not come within {timeout:g} s"
        if late:
            return f"{sentence}: CARLA sent no {' and no '.join(late)} of it; see that the world was ticked that far"
        status = self._subscriber.status
        state = "has said nothing" if status is None else f"is {status.state}, mode {status.mode}"
        failed = 0 if status is None else status.counters.get(f"{self.name}/rgb", {}).get("failed", 0)
        if failed:
            state += f", and has failed on {failed} of its frames"
        return f"{sentence}: CARLA's images came, and the bridge at {self._link.bridge} {state}; see its log"


def _client_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("carla")
    except PackageNotFoundError:  # an egg beside the simulator, as older releases have it
        return str(import_carla().Client("127.0.0.1").get_client_version())
