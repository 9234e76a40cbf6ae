"""The live page's HTTP and WebSocket server: one thread with its event loop beside the bridge, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sim_bridge import __version__
from sim_bridge.errors import LabelError, MissingExtraError, SimBridgeError, UsageError
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.latency import Stage
from sim_bridge.live.ledger import Outcome
from sim_bridge.live.work import Work
from sim_bridge.translators.load import translator_names
from sim_bridge.translators.styles import check_style

try:
    import uvicorn
    import wsproto  # noqa: F401 - uvicorn takes it by name, when the first WebSocket comes
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    raise MissingExtraError((error.name or "starlette").partition(".")[0], "page", "the live page") from error

from sim_bridge.page import metrics
from sim_bridge.page.connections import BoundedProtocol
from sim_bridge.page.hub import MAX_CLIENTS, Client, Hub, pack
from sim_bridge.page.orders import ChooseBundle, Order, Run, SaveStill, SetStyle, Shown, Watch, read_order
from sim_bridge.page.pictures import Panel, describe
from sim_bridge.page.security import Guard

logger = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
MAX_ORDER_BYTES: Final = 16 << 10
CLOSE_SECONDS: Final = 1
"""How long open connections may take to end; a client that does not read must not hold the bridge's end."""
START_SECONDS: Final = 30.0

_INTERNAL_ERROR: Final = 1011  # a WebSocket's close codes
_TRY_LATER: Final = 1013


class Page:
    """Serves the live page of a bridge while the ``with`` block lasts.

    Args:
        bridge: The bridge to show; its settings say where.

    Raises:
        UsageError: The port is in use, or the host is not this machine's.
        MissingExtraError: The packages of the extra ``page`` are not installed.
        SimBridgeError: It does not start.
    """

    def __init__(self, bridge: Bridge) -> None:
        settings = bridge.settings
        self._bridge = bridge
        self._socket = _listen(settings.page_host, settings.page or 0)
        self._hub: Hub | None = None
        self._bundles = _bundles(settings.bundle)
        host = f"[{settings.page_host}]" if ":" in settings.page_host else settings.page_host
        self.address: str = f"http://{host}:{self._socket.getsockname()[1]}/"
        """Where the page is, the port resolved."""
        config = uvicorn.Config(
            Guard(self._routes(), settings.page_host, settings.page_token),
            http=BoundedProtocol,
            ws="wsproto",
            ws_max_size=MAX_ORDER_BYTES,
            ws_per_message_deflate=False,  # pictures are compressed already
            lifespan="off",
            log_config=None,
            access_log=False,  # addresses may hold the token
            server_header=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._ready = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sim-bridge-page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._error is not None:
            reason = self._error or f"not ready after {START_SECONDS:g} s"
            self.close()
            raise SimBridgeError(
                f"the page at {self.address} did not start ({reason}): leave --page away to run without it"
            ) from self._error
        logger.info("the page is at %s%s", self.address, "?token=..." if self._bridge.settings.page_token else "")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server; clients get the close code for it."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(self._serve())
        except Exception as error:
            self._error = error
            logger.exception("the page at %s has ended; the bridge goes on", self.address)
            self._ready.set()

    async def _serve(self) -> None:
        hub = self._hub = Hub(self._bridge, asyncio.get_running_loop())
        self._bridge.tap.open(hub)
        self._ready.set()  # the socket listens since the constructor: a client that comes now waits some milliseconds
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._bridge.tap.close(hub)
            hub.close()
            await self._cut()

    async def _cut(self) -> None:
        """Cuts what still hangs on a client that does not read: the loop must not end with open sockets."""
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for _ in range(2):  # the loop closes them in its next round
            await asyncio.sleep(0)

    def _routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", _index),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/taxonomies/{name}", self._taxonomy),
                WebSocketRoute("/ws", self._connect),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )

    async def _health(self, request: Request) -> Response:
        """200 while it can translate, 503 while it loads or stops; a silent simulator is no illness of the bridge."""
        state = self._bridge.state
        well = state in ("running", "paused")
        return JSONResponse({"state": state}, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _taxonomy(self, request: Request) -> Response:
        """Names and colours of a taxonomy's classes by id."""
        try:
            table = self._bridge.taxonomies.named(request.path_params["name"])
        except LabelError as error:
            return PlainTextResponse(f"{error}\n", HTTPStatus.NOT_FOUND)
        classes = {number: {"name": name, "color": table.palette[number]} for number, name in table.ids.items()}
        return JSONResponse({"name": table.name, "classes": classes})

    async def _metrics(self, request: Request) -> Response:
        clients = len(self._hub.clients) if self._hub else 0
        return PlainTextResponse(metrics.render(self._bridge, clients), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _connect(self, websocket: WebSocket) -> None:
        hub = self._hub
        if hub is None:
            await websocket.close(_TRY_LATER)
            return
        await websocket.accept()
        if len(hub.clients) >= MAX_CLIENTS:
            await websocket.close(_TRY_LATER, f"{MAX_CLIENTS} pages are open, which is the limit: close one")
            return
        client = Client(self._bridge.settings.topics[0])
        client.say("hello", self._greeting())
        hub.join(client)
        sending = asyncio.create_task(_send(websocket, client, hub, self._bridge.tap.latest))
        try:
            while True:
                await self._obey(client, hub, await websocket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: a binary message, which is no order
            pass
        finally:
            hub.leave(client)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _greeting(self) -> dict[str, object]:
        settings = self._bridge.settings
        return {
            "version": __version__,
            "cameras": settings.topics,
            "bundles": self._bundles,
            "input": settings.input,
            "output": self._bridge.output_address,
            "outcomes": [str(outcome) for outcome in Outcome],
            "stages": [str(stage) for stage in Stage],
        }

    async def _obey(self, client: Client, hub: Hub, text: str) -> None:
        try:
            order = read_order(text)
            if isinstance(order, SaveStill):
                await self._save(client, hub, order.panel)
            else:
                self._follow(client, hub, order)
        except SimBridgeError as error:
            client.say("error", {"text": str(error)})

    def _follow(self, client: Client, hub: Hub, order: Order) -> None:
        match order:
            case Shown():
                client.acknowledge(order.tick)
            case Watch():
                client.watch(self._camera(order.camera), order.panels)
                hub.watch_changed()
            case Run():
                was_paused = self._bridge.state == "paused"
                {"pause": self._bridge.pause, "resume": self._bridge.resume, "step": self._bridge.step}[order.op]()
                if was_paused and order.op != "pause":
                    hub.restart_silence()
                hub.tell()
            case SetStyle():
                style = check_style(self._bridge.bundles.state.styles, order.style)
                self._bridge.set_style(self._camera(order.camera), style)
                hub.tell()
            case ChooseBundle():
                if order.bundle not in self._bundles:
                    raise UsageError(f"the bundle {order.bundle!r} is not among {', '.join(self._bundles)}")
                self._bridge.bundles.wish(order.bundle)
                hub.tell()

    def _camera(self, name: str) -> str:
        if name not in self._bridge.settings.topics:
            raise UsageError(f"there is no camera {name!r}: it is one of {', '.join(self._bridge.settings.topics)}")
        return name

    async def _save(self, client: Client, hub: Hub, panel: Panel) -> None:
        tick = client.shown
        png = None if tick is None else await hub.still(tick, panel)
        if tick is None or png is None:
            raise UsageError(f"there is no {panel} picture to save: wait for a frame that has one")
        client.give(pack({**describe(tick), "type": "still", "kind": panel}, png))


async def _send(websocket: WebSocket, client: Client, hub: Hub, latest: Callable[[str], Work | None]) -> None:
    """Sends a client what waits for it, one thing after the other; a client that does not read stops only this."""
    try:
        while True:
            await client.changed.wait()
            client.changed.clear()
            await _put(websocket, [*client.take_texts(), *client.take_stills()])
            tick = latest(client.camera)
            if tick is not None and client.wants(tick):
                await _put(websocket, await hub.pictures(client, tick))
                client.changed.set()  # something newer may have come meanwhile
    except WebSocketDisconnect:
        pass  # the receiving side sees it, too
    except Exception:  # a page that gets nothing more must know, so that it comes back
        logger.exception("a page's connection is closed")
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(_INTERNAL_ERROR)


async def _put(websocket: WebSocket, messages: Iterable[str | bytes]) -> None:
    """Sends messages. Raises WebSocketDisconnect when the client is gone."""
    try:
        for message in messages:
            await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))
    except RuntimeError as error:  # it was closed between two messages
        raise WebSocketDisconnect from error


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        where = f"the page's address {host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"{where} is in use: give another port with --page, or end what holds it") from error
        reason = error.strerror or str(error)
        raise UsageError(f"{where} cannot be listened on ({reason}): give another --page or --page-host") from error


def _bundles(current: str) -> list[str]:
    """What the page offers: the bundle it began with, the shipped ones that translate, and ``null``.

    No other paths: a page must not be a way to look for files.
    """
    names, translators = [current], translator_names()
    with contextlib.suppress(ImportError):
        from models.bundles.files import BundleError, read_card, shipped_bundles

        for name, path in shipped_bundles().items():
            with contextlib.suppress(BundleError):
                if read_card(path).arch in translators:
                    names.append(name)
    return list(dict.fromkeys([*names, "null"]))
