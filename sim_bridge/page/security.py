"""Who may look at the page and change things on it.

On a loopback address everybody on this machine may, but no web page of somebody else: the ``Host`` header must name
this machine (a name of theirs that resolves to 127.0.0.1, DNS rebinding, does not), and where a browser sends an
``Origin`` it must be ours (browsers let any page open a WebSocket anywhere). With a token nobody may without it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sim_bridge.wire.addresses import is_loopback

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Sent with every answer: nothing from elsewhere runs on the page, and no other page frames or reads it."""

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class Guard:
    """Lets through what may pass, HTTP and WebSocket alike, and answers the rest with one sentence.

    Args:
        app: What is guarded.
        host: The address that the page is served on.
        token: The secret that is asked for, or None.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app = app
        self._host = host
        self._token = token
        # The cookie is no way back to the token, which may serve elsewhere too.
        self._ticket = None if token is None else hashlib.sha256(f"sim-bridge page {token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(scope, Headers(scope=scope))

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _sentence(
                HTTPStatus.FORBIDDEN,
                f"The host {host[:80]!r} is not this page's: open it by the address that sim-bridge printed.",
            )
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            return _sentence(
                HTTPStatus.FORBIDDEN, f"A page of {origin[:80]!r} may not use this one: open it by itself."
            )
        return None if self._ticket is None else self._ask(scope, headers, host)

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].lower()
        # Off the machine it has names that we do not know; there a token is asked for, which no foreign page has.
        return is_loopback(name) or name.strip("[]") == self._host.lower() or not is_loopback(self._host)

    def _ask(self, scope: Scope, headers: Headers, host: str) -> Response | None:
        """Takes the token as a bearer, or its cookie; one in the address becomes the cookie and leaves the address."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        bears = scheme.lower() == "bearer" and self._is_token(given.strip())
        if bears or self._is_ticket(_cookies(headers).get(_cookie_name(host), "")):
            return None
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and self._is_token(asked):
            # One slash: a path that begins with two would name another host.
            answer = RedirectResponse("/" + scope["path"].lstrip("/"), HTTPStatus.SEE_OTHER)
            answer.set_cookie(_cookie_name(host), self._ticket or "", httponly=True, samesite="strict")
            return answer
        return _sentence(
            HTTPStatus.UNAUTHORIZED, "This page needs its token: open it as /?token=..., or send it as a bearer token."
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _is_ticket(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._ticket or "").encode())


def _netloc(origin: str) -> str | None:
    """Host and port of an origin, in lower case; None when it is no address at all."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _sentence(status: HTTPStatus, text: str) -> Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return PlainTextResponse(text + "\n", status, challenge)


def _cookie_name(host: str) -> str:
    """One per port: browsers give a cookie to every port of a host."""
    return "sim_bridge_" + (host.rpartition(":")[2] if host[-1:].isdigit() and ":" in host else "80")


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}
