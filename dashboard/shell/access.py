"""MODE_ACCESS=token: only who has the token gets in, by an address that holds it or by a form, and then by a cookie."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

ACCESS, TOKEN = "MODE_ACCESS", "MODE_TOKEN"  # environment variables
SHORTEST = 16  # characters of a token that a person chose
_MOST = 4096  # bytes of the form
_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>MODE dashboard</title></head>
<body style="font: 16px/1.5 system-ui, sans-serif; margin: 4rem auto; max-width: 32rem">
<h1 style="font-size: 1.4rem">This dashboard asks for its token</h1><p>{told}</p>
<form method="post"><label>Token <input name="token" type="password" autofocus autocomplete="off"></label>
<button>Enter</button></form></body></html>"""
_ASKED = "It was printed in the terminal where the dashboard was started."
_WRONG = "That was not the token. " + _ASKED


@dataclass(frozen=True)
class Token:
    """The server's one secret. Compared in constant time; the browser keeps a digest of it, not itself."""

    value: str

    @classmethod
    def of_this_server(cls, environment: Mapping[str, str] = os.environ) -> Token | None:
        """As MODE_ACCESS asks: unset, everybody gets in; `token`: a fresh one, or that of MODE_TOKEN.

        Raises:
            SystemExit: another value, or a token that could be guessed.
        """
        if (asked := environment.get(ACCESS)) is None:
            return None
        if asked != "token":
            raise SystemExit(f"{ACCESS} is {asked!r}; set it to token, or leave it unset to let everybody in.")
        value = environment.get(TOKEN) or secrets.token_urlsafe(24)
        if len(value) < SHORTEST or not value.isascii():
            raise SystemExit(f"{TOKEN} needs {SHORTEST} or more ASCII characters; leave it unset to have one made.")
        return cls(value)

    @property
    def seal(self) -> str:
        """What the browser's cookie holds."""
        return hmac.new(self.value.encode(), b"MODE dashboard", hashlib.sha256).hexdigest()

    def known(self, scope: Scope) -> bool:
        """Does the request bring the cookie?"""
        held = Request({**scope, "type": "http"}).cookies.get(_cookie(scope), "")
        return hmac.compare_digest(held.encode(), self.seal.encode())

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """To who is not known: the way in for the right token, else the form and nothing more."""
        if scope["method"] == "POST":
            given = dict(parse_qsl((await _body(scope, receive)).decode("latin-1"))).get("token")
        else:
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        if given is not None and hmac.compare_digest(given.encode(), self.value.encode()):
            return self._enter(scope)
        told = _ASKED if given is None else _WRONG
        return HTMLResponse(_FORM.format(told=told), 401, {"Cache-Control": "no-store"})

    def _enter(self, scope: Scope) -> Response:
        """On to the same address without the token in it; a browser is known from then on."""
        kept = [(name, value) for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name != "token"]
        where = "/" + scope["path"].lstrip("/\\") + ("?" + urlencode(kept) if kept else "")
        entered = RedirectResponse(where, 303, {"Cache-Control": "no-store"})
        secure = scope["scheme"] == "https"
        entered.set_cookie(_cookie(scope), self.seal, httponly=True, samesite="lax", secure=secure)
        return entered


def _cookie(scope: Scope) -> str:
    """Cookies are shared between the ports of a machine: each dashboard has a name of its own."""
    return f"mode_access_{(scope.get('server') or ('', ''))[1]}"


async def _body(scope: Scope, receive: Receive) -> bytes:
    if int(Headers(scope=scope).get("content-length") or _MOST + 1) > _MOST:
        return b""
    return await Request(scope, receive).body()
