"""What stands before every route of the server, websocket and static files included, from the first request on.

It refuses names that are not this server's, pages of other origins, frames, and whoever lacks the token where one is
asked for. It tells the pages two things, in headers that no client can set: whether the asker sits at this machine,
and which visitor it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.shell import ahead
from dashboard.shell.access import Token
from dashboard.shell.hosts import GIVEN, Hosts, loopback, split
from dashboard.state.visitor import LOCAL, VISITOR

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SECURITY = {
    "Content-Security-Policy": "frame-ancestors 'none'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "object-src 'none'; form-action 'self'; base-uri 'self'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_COOKIE = re.compile(r"[\w-]{22}")


class Door:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, hosts: Hosts, token: Token | None):
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visitor, known = _visitor(scope)
        send = _answering(send, None if known else f"{_cookie(scope)}={visitor}; Path=/; HttpOnly; SameSite=Lax")
        if refused := self._refused(scope):
            await _close(scope, receive, send, PlainTextResponse(refused, 403))
        elif self._token is None or self._token.known(scope) or scope["path"].endswith("/_stcore/health"):
            await self._app(_telling(scope, visitor, is_local(scope, self._hosts)), receive, send)
        else:
            answer = await self._token.answer(scope, receive) if scope["type"] == "http" else PlainTextResponse("", 401)
            await _close(scope, receive, send, answer)

    def _refused(self, scope: Scope) -> str | None:
        """Why the request is not for this server; None where it is."""
        headers, port = Headers(scope=scope), (scope.get("server") or (None, None))[1]
        for name, prefix in (("host", ""), ("origin", r"https?://")):
            given = headers.getlist(name)
            if name == "origin" and not given:
                continue
            netloc = re.sub(f"^{prefix}", "", given[0]) if len(given) == 1 else ""
            if not self._hosts.allow(netloc, scope["scheme"], port):
                return (
                    f"This server does not answer to {given[:1]!r:.200} ({name}). Open it by its own address and port "
                    f"({port}), or start it with the environment variable {GIVEN} naming the host, as in "
                    f"{GIVEN}=mode.example.com or {GIVEN}=localhost:9000."
                )
        return None


def middleware() -> list[Middleware]:
    """The door of this server, as it is configured.

    Raises:
        SystemExit: a setting that cannot be meant.
    """
    return [Middleware(Door, hosts=Hosts.of_this_server(), token=_token())]


_token = cache(Token.of_this_server)  # one for the life of the process


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    """At the start, tell the address that lets in, and import ahead."""
    ahead.begin()
    if (token := _token()) is not None:
        address, port = st.get_option("server.address"), st.get_option("server.port")
        host = st.get_option("browser.serverAddress") if address in (None, "0.0.0.0", "::") else address
        print(f"  Only with its token: http://{host}:{port}/?token={token.value}\n", flush=True)
    yield {}


def is_local(scope: Scope, hosts: Hosts) -> bool:
    """Does the asker sit at this machine, by every sign there is: address, name, origin, and no proxy in between?"""
    headers = Headers(scope=scope)
    names = [headers["host"], *(origin.partition("://")[2] for origin in headers.getlist("origin"))]
    return (
        not hosts.given
        and loopback((scope.get("client") or (None,))[0])
        and all(loopback((split(name) or (None,))[0]) for name in names)
        and not any(name in headers for name in _FORWARDED)
    )


def _telling(scope: Scope, visitor: str, local: bool) -> Scope:
    ours = {VISITOR.lower().encode(): visitor.encode(), LOCAL.lower().encode(): b"yes" if local else b"no"}
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in ours]
    return {**scope, "headers": [*kept, *ours.items()]}


def _cookie(scope: Scope) -> str:
    return f"mode_visitor_{(scope.get('server') or ('', ''))[1]}"


def _visitor(scope: Scope) -> tuple[str, bool]:
    """Who asks, by the cookie of an earlier answer; else a new one."""
    held = Request({**scope, "type": "http"}).cookies.get(_cookie(scope), "")
    known = _COOKIE.fullmatch(held) is not None
    return (held if known else secrets.token_urlsafe(16)), known


def _answering(send: Send, cookie: str | None) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
            if cookie:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return answer


async def _close(scope: Scope, receive: Receive, send: Send, answer: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # not yet accepted: seen as a 403
    else:
        await answer(scope, receive, send)
