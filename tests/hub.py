"""A stand-in of the hub on 127.0.0.1: the part of its interface that an upload uses, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """`files`: repository → path → content; `private`: repository → bool. Who has no `token` is refused."""

    def __init__(self, token: str = "hf_stand_in"):
        super().__init__(("127.0.0.1", 0), _Asked)
        self.token = token
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.messages: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Asked(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: object, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, told in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), told)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        name = re.sub(r"^/api/models/", "", self.path).split("/revision/")[0].split("?")[0]
        if name in self.server.files:
            siblings = [{"rfilename": path} for path in self.server.files[name]]
            return self._answer({"id": name, "sha": "0" * 40, "siblings": siblings, "private": False, "tags": []})
        return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def do_PUT(self) -> None:
        content = self._body()
        self.server.large[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def do_POST(self) -> None:
        content, path = self._body(), self.path.split("?")[0]
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._answer({"error": "Invalid credentials"}, 401)
        if path == "/api/repos/create":
            told = json.loads(content)
            name = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
            known = name in self.server.files
            self.server.files.setdefault(name, {})
            self.server.private.setdefault(name, told.get("private", told.get("visibility") == "private"))
            return self._answer({"url": f"{self.server.address}/{name}"}, 409 if known else 200)
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(content)["files"]
            modes = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                      "shouldIgnore": False} for f in files]  # fmt: skip
            return self._answer({"files": modes})
        if re.fullmatch(r"/.+\.git/info/lfs/objects/batch", path):
            objects = json.loads(content)["objects"]
            href = f"{self.server.address}/large"
            made = [one | {"actions": {"upload": {"href": href, "header": {}}}} for one in objects]
            return self._answer({"transfer": "basic", "objects": made})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in content.splitlines() if line])
        return self._answer({"error": f"nothing at {path}"}, 404)

    def _commit(self, name: str, lines: list[dict]) -> None:
        kept = self.server.files[name]
        for line in lines:
            told = line["value"]
            if line["key"] == "header":
                self.server.messages.append(told["summary"])
            elif line["key"] == "file":
                kept[told["path"]] = base64.b64decode(told["content"])
            elif line["key"] == "lfsFile":
                kept[told["path"]] = self.server.large[told["oid"]]
        self._answer({"commitUrl": f"{self.server.address}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40})


@contextmanager
def hub() -> Iterator[Hub]:
    """The stand-in, answering while the block runs."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
