"""The process that holds the CARLA client: kept running for a bridge, or making one recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from plugins.carla.run.child import PATIENCE_SECONDS, RECORDED, SESSION, VERSIONS
from plugins.carla.run.options import unique_tag
from plugins.carla.world.versions import Versions, crash_sentence
from sim_bridge.errors import SimBridgeError
from sim_bridge.process.drive import Link
from sim_bridge.process.parent import END_SECONDS, ChildRun
from sim_bridge.process.source_process import SourceProcess
from sim_bridge.process.supervisor import reported_failure
from sim_bridge.settings import BridgeSettings


class CarlaProcess(SourceProcess):
    """The CARLA client in a process of its own; the other arguments are :class:`SourceProcess`'s.

    Args:
        settings: Of the bridge that it feeds.
        photoreal: Where that bridge publishes, the port resolved.
        options: Of :class:`~plugins.carla.run.options.CarlaOptions`, as JSON has them.
        on_session: Called, from a thread, with a sentence when a session begins.
        timeout: Seconds that an answer of the server may take, and its end beyond the usual.

    Attributes:
        sessions: How many sessions there were.
    """

    _episode: int | None = None
    _versions: Versions | None = None

    def __init__(
        self,
        settings: BridgeSettings,
        photoreal: str,
        options: Mapping[str, object],
        *,
        wanted: Callable[[], bool],
        on_failure: Callable[[SimBridgeError], None],
        on_change: Callable[[bool], None],
        on_session: Callable[[str], None],
        timeout: float,
    ) -> None:
        self.sessions = 0
        self._on_session = on_session
        lockstep = settings.mode == "lockstep"
        super().__init__(
            "carla",
            # All that is made in the world has this name: a restarted process destroys what the one before left.
            {**options, "tag": unique_tag()},
            Link(
                settings.input,
                photoreal if lockstep else None,
                timeout=PATIENCE_SECONDS,
                curve_keys=settings.curve_keys,
                insecure=settings.insecure,
                resend_after=PATIENCE_SECONDS,
            ),
            wanted=wanted,
            on_failure=on_failure,
            on_change=on_change,
            log_level=settings.log_level,
            module="plugins.carla.run.child",
            on_line=self._hear,
            end_seconds=END_SECONDS + timeout,
        )

    def _hear(self, line: str) -> None:
        match line.split():
            case [word, episode, session, version, labels] if word == SESSION:
                self.sessions += 1
                self._episode = int(episode)
                self._on_session(f"session {self.sessions} is {session}: CARLA {version}, class ids of {labels}")
            case [word, client, server] if word == VERSIONS:
                self._versions = Versions(client, server)
            case _:
                pass

    def _arguments(self) -> Mapping[str, object]:
        return {**super()._arguments(), "episode": self._episode}

    def _crash_error(self, code: int) -> SimBridgeError:
        return SimBridgeError(crash_sentence(code, self._versions)) if code < 0 else super()._crash_error(code)


class RecordingProcess(ChildRun):
    """The CARLA client in a process of its own, which writes a recording and ends; :meth:`stop` ends it earlier.

    Attributes:
        written: Ticks on disk.
        left_out: Ticks in between that are not, as they were not whole.
    """

    def __init__(self, folder: Path, options: Mapping[str, object], frames: int, every: int, timeout: float) -> None:
        self.written = self.left_out = 0
        asked = {"folder": str(folder), "frames": frames, "every": every, "log_level": "info"}
        super().__init__("plugins.carla.run.child", {**asked, "options": options}, END_SECONDS + timeout)

    def progress(self) -> Iterator[int]:
        """Yields how many ticks are on disk, now and then, until it ends. Raises SimBridgeError: it could not go on."""
        versions: Versions | None = None
        for line in self:
            match line.split():
                case [word, client, server] if word == VERSIONS:
                    versions = Versions(client, server)
                case [word, written, left_out] if word == RECORDED:
                    self.written, self.left_out = int(written), int(left_out)
                    yield self.written
                case _:
                    if (failure := reported_failure(line)) is not None:
                        raise failure
        if self.code < 0:
            raise SimBridgeError(crash_sentence(self.code, versions))
        if self.code > 0:
            raise SimBridgeError(f"the recording ended (exit code {self.code}): see above")
