"""The door before every route: whom it lets in, under which names, and what it tells the pages."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie

import pytest
from streamlit import config

from dashboard.shell.access import Token
from dashboard.shell.door import Door
from dashboard.shell.hosts import Hosts

HERE = ("127.0.0.1", 50000)
SECRET = "a-token-nobody-guesses"
ROUTES = ("/", "/budget", "/static/js/index.js", "/media/a.png", "/_stcore/upload_file/a/b", "/_stcore/health")


def ask(door: Door, path: str = "/", *, kind: str = "http", method: str = "GET", host: str | None = "localhost:8501",
        client: tuple[str, int] = HERE, query: str = "", body: bytes = b"", **headers: str) -> dict:  # fmt: skip
    """One request: `status`, `headers` of the answer (name → values), and `seen`, what came through to the app."""
    told = {"host": host, "content-length": str(len(body)) if body else None} | headers
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items() if value is not None]
    scope = {
        "type": kind, "method": method, "path": path, "query_string": query.encode(), "headers": raw, "client": client,
        "server": ("127.0.0.1", 8501), "scheme": "ws" if kind == "websocket" else "http", "root_path": "",
    }  # fmt: skip
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(door(scope, receive, send))
    answer: dict = {"status": sent[0].get("status", sent[0]["type"]), "seen": door._app.seen, "headers": {}}
    for name, value in sent[0].get("headers", []):
        answer["headers"].setdefault(name.decode().lower(), []).append(value.decode())
    answer["body"] = b"".join(message.get("body", b"") for message in sent).decode()
    return answer


class App:
    """What stands behind the door: remembers the headers that reached it, of several of a name the first."""

    seen: dict[str, str] | None = None

    async def __call__(self, scope, receive, send) -> None:
        self.seen = {name.decode().lower(): value.decode() for name, value in reversed(scope["headers"])}
        accepted = {"type": "websocket.accept"} if scope["type"] == "websocket" else None
        await send(accepted or {"type": "http.response.start", "status": 200, "headers": []})


def door(token: str | None = None, **hosts) -> Door:
    named = Hosts(frozenset({"localhost", "127.0.0.1", "[::1]"}), **hosts)
    return Door(App(), named, Token(token) if token else None)


def cookies(answer: dict) -> dict[str, str]:
    held = SimpleCookie()
    for one in answer["headers"].get("set-cookie", ()):
        held.load(one)
    return {name: morsel.value for name, morsel in held.items()}


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", [*ROUTES, "/_stcore/stream"])
def test_another_name_gets_nothing_on_any_route(kind: str, path: str):
    for host in ("evil.test:8501", "localhost.evil.test:8501", "localhost", "localhost:8502", "10.0.0.9:8501", "",
                 "localhost:8501@evil.test", "evil.test:8501#localhost:8501", "localhost:8501/", None):  # fmt: skip
        answer = ask(door(), path, kind=kind, host=host)
        assert answer["seen"] is None and answer["status"] in (403, "websocket.close"), host
    for host in ("localhost:8501", "LOCALHOST:8501", "127.0.0.1:8501", "[::1]:8501", "localhost.:8501"):
        assert ask(door(), path, kind=kind, host=host)["seen"] is not None, host


def test_the_refusal_says_what_to_do():
    body = ask(door(), host="gpu7:9000")["body"]
    assert "gpu7:9000" in body and "MODE_HOSTS=localhost:9000" in body and "8501" in body


@pytest.mark.parametrize("origin", ["http://evil.test:8501", "http://localhost:9999", "null", "file://"])
def test_a_page_of_another_origin_may_not_connect(origin: str):
    assert ask(door(), kind="websocket", origin=origin)["seen"] is None
    assert ask(door(), kind="websocket", origin="http://localhost:8501")["seen"] is not None


def test_no_page_may_frame_it_not_even_the_refusal():
    for answer in (ask(door()), ask(door(), host="evil.test:8501"), ask(door(SECRET))):
        assert answer["headers"]["x-frame-options"] == ["DENY"]
        [policy] = answer["headers"]["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "img-src 'self' data: blob:" in policy


def test_what_the_server_is_called(monkeypatch):
    held = {"server.address": "127.0.0.1", "browser.serverAddress": "localhost", "browser.serverPort": 8501}
    monkeypatch.setattr(config, "get_option", held.get)
    monkeypatch.setattr("socket.gethostname", lambda: "GPU7")
    monkeypatch.setattr("dashboard.shell.hosts._addresses", lambda: {"192.168.1.5", "[fe80::1]"})

    def allowed(*netlocs: str, **environment: str) -> list[bool]:
        hosts = Hosts.of_this_server(environment)
        return [hosts.allow(netloc, "http", 8501) for netloc in netlocs]

    assert allowed("gpu7:8501", "192.168.1.5:8501", "mode.example.com") == [False, False, False]
    assert allowed("mode.example.com", "mode.example.com:44", "x.org:443", "x.org:80", "y.org",
                   MODE_HOSTS="mode.example.com, x.org:443") == [True, True, True, False, False]  # fmt: skip
    for odd in ("*", "http://a.org", "a.org/b", "a b"):
        with pytest.raises(SystemExit, match="MODE_HOSTS holds"):
            Hosts.of_this_server({"MODE_HOSTS": odd})
    held["server.address"] = "0.0.0.0"
    assert allowed("gpu7:8501", "192.168.1.5:8501", "[fe80:0::1]:8501", "evil.test:8501", "192.168.1.5:80") == [
        True, True, True, False, False]  # fmt: skip
    held["server.address"] = "10.1.2.3"
    assert allowed("10.1.2.3:8501", "localhost:8501", "gpu7:8501") == [True, True, False]


def test_the_pages_are_told_who_asks_and_nobody_else_can_say_it():
    here = ask(door(), x_mode_local="yes", x_mode_visitor="somebody")
    assert here["seen"]["x-mode-local"] == "yes" and here["seen"]["x-mode-visitor"] != "somebody"
    known = cookies(here)["mode_visitor_8501"]
    assert here["seen"]["x-mode-visitor"] == known
    again = ask(door(), cookie=f"mode_visitor_8501={known}")
    assert again["seen"]["x-mode-visitor"] == known and not cookies(again)


@pytest.mark.parametrize("sign", [
    {"client": ("10.0.0.9", 1)}, {"client": None}, {"x_forwarded_for": "127.0.0.1"}, {"forwarded": "for=1"},
    {"host": "mode.example.com"}, {"origin": "https://mode.example.com"}, {},
])  # fmt: skip
def test_any_sign_of_elsewhere_is_elsewhere(sign: dict):
    given = frozenset({("mode.example.com", None)})  # behind a proxy nobody is known to sit here
    answer = ask(door(given=given), x_mode_local="yes", **sign)
    assert answer["seen"]["x-mode-local"] == "no"
    if sign and "mode.example.com" not in str(sign):
        assert ask(door(), **sign)["seen"]["x-mode-local"] == "no"


@pytest.mark.parametrize("path", [*ROUTES[:-1], "/_stcore/stream"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_without_the_token_nothing_is_served(path: str, kind: str):
    wrong = Token("another-token-nobody-guesses").seal
    for cookie in (None, "mode_access_8501=", f"mode_access_8501={wrong}", f"mode_access_8501={SECRET}"):
        answer = ask(door(SECRET), path, kind=kind, cookie=cookie)
        assert answer["seen"] is None and answer["status"] in (401, "websocket.close")
    held = f"mode_access_8501={Token(SECRET).seal}"
    assert ask(door(SECRET), path, kind=kind, cookie=held)["seen"] is not None
    assert ask(door(SECRET), path, kind=kind, cookie=held, host="evil.test:8501")["seen"] is None


def test_the_right_token_is_taken_out_of_the_address():
    entered = ask(door(SECRET), "/budget", query=f"bits=2.5&token={SECRET}")
    assert entered["status"] == 303 and entered["headers"]["location"] == ["/budget?bits=2.5"]
    assert cookies(entered)["mode_access_8501"] == Token(SECRET).seal != SECRET
    assert "HttpOnly" in str(entered["headers"]["set-cookie"]) and SECRET not in str(entered["headers"])
    posted = ask(door(SECRET), "/budget", method="POST", body=f"token={SECRET}".encode())
    assert posted["status"] == 303 and cookies(posted)["mode_access_8501"] == Token(SECRET).seal
    away = ask(door(SECRET), "//evil.test/", query=f"token={SECRET}")
    assert away["headers"]["location"] == ["/evil.test/"]


def test_a_wrong_token_gets_the_form_again():
    for asked in ({"query": "token=wrong"}, {"query": "token=é"}, {"method": "POST", "body": b"token=wrong"},
                  {"method": "POST", "body": b"token=" + b"x" * 5000}, {"query": f"token={SECRET}x"}):  # fmt: skip
        answer = ask(door(SECRET), **asked)
        assert answer["status"] == 401 and "mode_access_8501" not in cookies(answer) and "<form" in answer["body"]


def test_settings_that_cannot_be_meant_start_no_server():
    assert Token.of_this_server({}) is None
    made = Token.of_this_server({"MODE_ACCESS": "token"}).value
    assert len(made) >= 32 and made != Token.of_this_server({"MODE_ACCESS": "token"}).value
    assert Token.of_this_server({"MODE_ACCESS": "token", "MODE_TOKEN": SECRET}).value == SECRET
    for odd in ("", "Token", "yes", "none"):
        with pytest.raises(SystemExit, match="MODE_ACCESS is"):
            Token.of_this_server({"MODE_ACCESS": odd})
    with pytest.raises(SystemExit, match="16 or more"):
        Token.of_this_server({"MODE_ACCESS": "token", "MODE_TOKEN": "short"})
