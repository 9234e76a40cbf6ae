"""A bridge as a CARLA script reaches it: in a process of its own, or in this one."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from plugins.carla.rig.rig import batched
from sim_bridge.client import Publisher, Subscriber
from sim_bridge.errors import FrameTimeoutError, UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.load_settings import load_settings
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, SIMULATOR_ADDRESS

if TYPE_CHECKING:
    from sim_bridge.live.bridge import Bridge
    from sim_bridge.translators import Translator

Mode = Literal["realtime", "lockstep"]

_LOOK_SECONDS: Final = 0.02
_BUFFER: Final = 64
_DRAIN_SECONDS: Final = 1.0
_OWN_SETTINGS: Final = frozenset({"topics", "input", "output", "mode", "bundle"})


class BridgeLink:
    """Where the cameras of one script publish, and where the bridge answers.

    A script with one camera needs none: :class:`~plugins.carla.camera.PhotorealCamera` makes its own. Several cameras
    share one, as only one socket can be bound to an address. Close it after its cameras.

    Example:
        >>> with BridgeLink() as link:  # doctest: +SKIP
        ...     front = PhotorealCamera(world, attach_to=car, bridge=link, name="front")
        ...     left = PhotorealCamera(world, attach_to=car, bridge=link, name="left", transform=to_the_left)

    Args:
        bridge: Address that the bridge publishes on.
        publish: Address to bind, the bridge's ``input``.
        curve_keys: Folder with the CURVE keys of the setup; for a bridge on another machine.
        insecure: Allow a bridge on another machine without keys.

    Raises:
        UsageError: An address or the keys cannot be used.
    """

    def __init__(
        self,
        bridge: str = BRIDGE_ADDRESS,
        publish: str = SIMULATOR_ADDRESS,
        *,
        curve_keys: Path | None = None,
        insecure: bool = False,
    ) -> None:
        self.bridge = bridge
        self._curve_keys, self._insecure = curve_keys, insecure
        self._publisher = Publisher(publish, curve_keys=curve_keys, insecure=insecure)
        self._lock = threading.Lock()
        self._engine: _Engine | None = None

    @classmethod
    def in_process(
        cls,
        engine: Translator | str,
        cameras: Sequence[str] = ("camera",),
        mode: Mode = "lockstep",
        settings: Mapping[str, object] | None = None,
    ) -> Self:
        """A link to a bridge that runs in threads of this process.

        Args:
            engine: A translator, or the name or path of a bundle.
            cameras: Names of the cameras that will be.
            mode: ``lockstep`` translates every frame, ``realtime`` the newest that it has time for.
            settings: Of the bridge, by their names in docs/settings.md: ``device``, ``precision``, ``size``,
                ``style_seed``, ``style``. With ``size`` the network warms up at once, not in the first frame.

        Raises:
            UsageError: A setting is unknown or out of bounds.
            SimBridgeError: The bundle cannot be loaded.
        """
        asked = settings or {}
        if taken := sorted(asked.keys() & _OWN_SETTINGS):
            raise UsageError(
                f"settings has {taken[0]!r}, which a bridge in this process has from elsewhere: leave it out"
            )
        running = _Engine(engine, cameras, mode, asked)
        try:
            link = cls(running.output, running.input)
        except BaseException:
            running.close()
            raise
        link._engine = running
        return link

    def send(self, frame: Frame) -> None:
        """Publishes a frame whose pixels will not change any more; from any thread."""
        with self._lock:
            self._publisher.publish(frame, copy=False)

    def subscribe(self, camera: str) -> Subscriber:
        """What reads the photoreal frames of a camera."""
        kinds = (Kind.PHOTOREAL, Kind.STATUS)
        return Subscriber(
            self.bridge,
            camera=camera,
            kinds=kinds,
            buffer=_BUFFER,
            curve_keys=self._curve_keys,
            insecure=self._insecure,
        )

    def wait_until_ready(self, camera: str, subscriber: Subscriber, timeout: float) -> None:
        """Waits until the bridge listens to that camera, answers, and has loaded its network.

        Raises:
            FrameTimeoutError: It did not in time; it says what is missing.
            SimBridgeError: A bridge in this process has failed.
        """
        deadline = time.monotonic() + timeout
        for kind in (Kind.RGB, Kind.SEMANTIC):
            self._wait_for_listener(camera, kind, deadline, timeout)
        while (status := subscriber.status) is None or status.state in ("loading", "stopping"):
            self.check_engine()
            if time.monotonic() > deadline:
                found = "sent no status message" if status is None else f"was still {status.state}"
                raise FrameTimeoutError(
                    f"the bridge at {self.bridge} {found} within {timeout:g} s: see that it is one for --topic {camera}"
                    ", or wait longer by timeout"
                )
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Unbinds, and ends a bridge in this process; a second call does nothing."""
        with self._lock:
            self._publisher.close(linger=0.0)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for_listener(self, camera: str, kind: Kind, deadline: float, timeout: float) -> None:
        while True:
            self.check_engine()
            try:
                with self._lock:
                    self._publisher.wait_for_subscriber(camera, kind, _LOOK_SECONDS)
            except FrameTimeoutError as error:
                if time.monotonic() > deadline:
                    raise FrameTimeoutError(
                        f"no bridge listens to {camera}/{kind} at {self._publisher.address} after {timeout:g} s: start "
                        f"'sim-bridge --topic {camera}', or give engine= instead of bridge="
                    ) from error
            else:
                return

    def check_engine(self) -> None:
        """Raises what ended a bridge in this process, if something did."""
        if self._engine is not None and self._engine.error is not None:
            raise self._engine.error


class _Engine:
    """A bridge in a thread of this process."""

    def __init__(
        self, engine: Translator | str, cameras: Sequence[str], mode: Mode, asked: Mapping[str, object]
    ) -> None:
        from sim_bridge.live.bridge import Bridge
        from sim_bridge.translators.load import load_translator

        self._folder = tempfile.TemporaryDirectory(prefix="sim-bridge-")
        # Files instead of ports: nothing else can be in their place.
        self.input, self.output = (f"ipc://{self._folder.name}/{name}" for name in ("carla", "photoreal"))
        flags: dict[str, object] = {"topics": tuple(cameras), "input": self.input, "output": self.output, "mode": mode}
        bundle = {"bundle": engine} if isinstance(engine, str) else {}
        try:
            settings = batched(load_settings({"drain_timeout": _DRAIN_SECONDS, **asked, **flags, **bundle}))
        except UsageError:
            self._folder.cleanup()
            raise
        translator = (lambda: load_translator(settings)) if isinstance(engine, str) else engine
        self.error: Exception | None = None
        self._bridge: Bridge = Bridge(settings, translator)
        self._thread = threading.Thread(target=self._run, name="photoreal-bridge", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._bridge.run()
        except Exception as error:  # noqa: BLE001 - a translator may be anyone's code; it is raised where its frames are asked for
            self.error = error

    def close(self) -> None:
        """Ends it; a translator that does not come back is left behind, as the bridge's own end is bounded."""
        self._bridge.stop()
        self._thread.join()
        self._folder.cleanup()
