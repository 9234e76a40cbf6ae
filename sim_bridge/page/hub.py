"""Brings ticks and status messages to the page's clients. Everything here lives in the page's event loop.

Newest wins, per client: a client is sent a tick, says when it is on its screen, and then gets the newest one there is.
Ticks that came meanwhile are never encoded for it. So a client that is slow sees fewer frames, one that does not read
at all costs nothing after :data:`MAX_IN_FLIGHT` ticks, and neither is ever waited for.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sim_bridge.errors import ImageError, SimBridgeError
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.work import Work
from sim_bridge.page.pictures import Panel, describe, encode, still

logger = logging.getLogger(__name__)

MAX_CLIENTS: Final = 32
"""Pages that may be open at the same time."""
MAX_IN_FLIGHT: Final = 2
"""Ticks on their way to one client: one on the network while the other is being drawn."""
SILENT_SECONDS: Final = 3.0
"""Without input for so long, the page says that the simulator is gone."""

_LENGTH: Final = struct.Struct(">I")


def pack(header: Mapping[str, object], payload: bytes = b"") -> bytes:
    """A binary message: length of the header (4 bytes, big-endian), the header as JSON, the payload."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTH.pack(len(head)) + head + payload


class Client:
    """What one open page looks at, and what is on its way to it."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.panels: tuple[Panel, ...] = ()
        self.changed = asyncio.Event()
        self.shown: Work | None = None
        self._last: tuple[Work, tuple[Panel, ...]] | None = None
        self._numbers = 0
        self._in_flight: dict[int, Work] = {}
        self._texts: dict[str, str] = {}
        self._stills: list[bytes] = []

    def watch(self, camera: str, panels: tuple[Panel, ...]) -> None:
        """Looks at something else from now on."""
        self.camera, self.panels = camera, panels
        self.changed.set()

    def say(self, key: str, message: Mapping[str, object]) -> None:
        """Leaves a JSON message for it; one with the same key that was not sent yet is replaced."""
        self._texts[key] = json.dumps({"type": key.partition(":")[0], **message}, separators=(",", ":"))
        self.changed.set()

    def give(self, still: bytes) -> None:
        """Leaves a still for it; an earlier one that was not fetched is dropped."""
        self._stills[:] = [still]
        self.changed.set()

    def acknowledge(self, number: int) -> None:
        """Notes that this tick is on its screen, and so are all sent before."""
        for sent in [sent for sent in self._in_flight if sent <= number]:
            self.shown = self._in_flight.pop(sent)
        self.changed.set()

    def wants(self, tick: Work | None) -> bool:
        """Whether this tick is to be sent to it now."""
        fresh = tick is not None and (self._last is None or self._last[0] is not tick or self._last[1] != self.panels)
        return fresh and bool(self.panels) and len(self._in_flight) < MAX_IN_FLIGHT

    def begin(self, tick: Work) -> int:
        """Notes that a tick is on its way; its number for :meth:`acknowledge`."""
        self._last = (tick, self.panels)
        self._numbers += 1
        self._in_flight[self._numbers] = tick
        return self._numbers

    def take_texts(self) -> list[str]:
        """The JSON messages that wait."""
        texts = list(self._texts.values())
        self._texts.clear()
        return texts

    def take_stills(self) -> list[bytes]:
        """The stills that wait."""
        stills = list(self._stills)
        self._stills.clear()
        return stills


class Hub:
    """Knows the clients and tells them what is new; the bridge's tap calls it from the bridge's threads.

    Args:
        bridge: The bridge.
        loop: The event loop in which everything but :meth:`on_tick` and :meth:`on_status` is called.
    """

    def __init__(self, bridge: Bridge, loop: asyncio.AbstractEventLoop) -> None:
        self._bridge = bridge
        self._loop = loop
        # One worker: encoding takes its turn beside the network and must not take all cores.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sim-bridge-page-pictures")
        self._encoded: dict[str, tuple[Work, dict[Panel, asyncio.Future[dict[str, Any]]]]] = {}
        self._bodies: dict[str, Mapping[str, object]] = {}
        self._received = dict.fromkeys(bridge.settings.topics, 0)
        self._heard: dict[str, float] = {}
        self._silence: dict[str, float] = {}
        self._at: dict[str, float] = {}
        """When the last status of a camera came, seconds of the monotonic clock."""
        self._logged: set[tuple[Panel, type[Exception]]] = set()
        self._sequence = dict.fromkeys(bridge.settings.topics, 0)
        self.clients: set[Client] = set()
        self._watched: frozenset[str] = frozenset()

    def close(self) -> None:
        """Ends the worker; what it has not begun is not done."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def on_tick(self, tick: Work) -> None:
        """Wakes the event loop if a client looks at this camera. Called in a thread of the bridge."""
        if tick.camera in self._watched:
            self._loop.call_soon_threadsafe(self._wake, tick.camera)

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """Passes a status message to the event loop. Called in a thread of the bridge."""
        self._loop.call_soon_threadsafe(self._take_status, camera, dict(body))

    def join(self, client: Client) -> None:
        """Takes a client in; it hears of every camera from now on."""
        self.clients.add(client)
        self.watch_changed()
        for camera in self._bridge.settings.topics:
            client.say(f"status:{camera}", self.view(camera))

    def leave(self, client: Client) -> None:
        """Forgets a client."""
        self.clients.discard(client)
        self.watch_changed()

    def watch_changed(self) -> None:
        """Notes which cameras are looked at; for the others :meth:`on_tick` does nothing."""
        self._watched = frozenset(client.camera for client in self.clients if client.panels)

    def tell(self) -> None:
        """Tells all clients that a control was changed, whoever did."""
        for camera in self._bridge.settings.topics:
            self._tell(camera)

    def view(self, camera: str) -> dict[str, object]:
        """What a page shows of a camera: its last status message, the controls, and how long it has been silent."""
        bridge, style, bundle = self._bridge, self._bridge.style(camera), self._bridge.bundles.state
        silence = self._silence.get(camera)
        return {
            **self._bodies.get(camera, {}),
            "camera": camera,
            "sequence": self._sequence[camera],
            "at": self._at.get(camera),
            "state": bridge.state,
            "style": dict(style),
            "controls": [control.describe() for control in bundle.styles],
            "bundle": {
                "name": bundle.bundle,
                "model": bundle.model,
                "loading": bundle.loading,
                "error": bundle.error,
            },
            "simulator_ended": bridge.simulator_ended,
            "silence": silence,
            "silent": silence is None or silence > SILENT_SECONDS,
        }

    def restart_silence(self) -> None:
        """Counts silence from now on: a simulator that waited for a pause to end has not been gone."""
        for camera in self._heard:
            self._heard[camera], self._silence[camera] = time.monotonic(), 0.0

    async def pictures(self, client: Client, tick: Work) -> list[bytes]:
        """The binary messages of a tick for a client, one a panel; clients that want the same share the encoding."""
        panels, number = client.panels, client.begin(tick)
        tick_header = describe(tick)
        messages = []
        for panel in panels:
            picture = await asyncio.shield(self._encode(tick, panel))
            header = {
                **tick_header,
                "type": "picture",
                "tick": number,
                "kind": panel,
                "of": len(panels),
                "error": picture["error"],
            }
            messages.append(pack(header, picture["payload"]))
        return messages

    async def still(self, tick: Work, panel: Panel) -> bytes | None:
        """A panel of a tick as a PNG with its metadata; None where the tick has no such picture.

        Raises ImageError when the picture cannot be made.
        """
        making = functools.partial(self._make_or_say, still)
        made = await self._loop.run_in_executor(self._worker, making, tick, panel)
        if made["error"] is not None:
            raise ImageError(made["error"])
        return made["payload"] or None

    def _encode(self, tick: Work, panel: Panel) -> asyncio.Future[dict[str, Any]]:
        kept = self._encoded.get(tick.camera)
        if kept is None or kept[0] is not tick:
            kept = self._encoded[tick.camera] = (tick, {})
        if panel not in kept[1]:
            making = functools.partial(self._make_or_say, encode)
            kept[1][panel] = self._loop.run_in_executor(self._worker, making, tick, panel)
        return kept[1][panel]

    def _make_or_say(self, make: Callable[[Work, Panel], bytes | None], tick: Work, panel: Panel) -> dict[str, Any]:
        """Payload and error of a panel; one that cannot be made is a sentence on the page, not the page's end."""
        try:
            return {"payload": make(tick, panel) or b"", "error": None}
        except SimBridgeError as error:
            return {"payload": b"", "error": str(error)}
        except Exception as error:  # edge maps come from a translator, which may be anyone's code
            if (panel, type(error)) not in self._logged:  # only the worker is here; not once a frame
                self._logged.add((panel, type(error)))
                logger.exception("the page's %s picture cannot be made; said once", panel)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            return {"payload": b"", "error": f"the {panel} picture cannot be made ({reason}): the log says where"}

    def _wake(self, camera: str) -> None:
        for client in self.clients:
            if client.camera == camera:
                client.changed.set()

    def _take_status(self, camera: str, body: Mapping[str, object]) -> None:
        received = self._bridge.ledger.snapshot()
        total = sum(count.received for topic, count in received.items() if topic.rpartition("/")[0] == camera)
        now = self._at[camera] = time.monotonic()
        if total != self._received[camera]:
            self._received[camera], self._heard[camera] = total, now
        if camera in self._heard:
            # Kept until the next status: only then is it known whether something came meanwhile.
            self._silence[camera] = now - self._heard[camera]
        self._bodies[camera] = body
        self._sequence[camera] += 1
        self._tell(camera)

    def _tell(self, camera: str) -> None:
        view = self.view(camera)
        for client in self.clients:
            client.say(f"status:{camera}", view)
