"""An image service over HTTP, as far as Cinder's client of it asks: version 2 of Glance's API."""

from __future__ import annotations

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TEXTS = (
    "id",
    "name",
    "status",
    "disk_format",
    "container_format",
    "visibility",
    "owner",
    "direct_url",
)
_SCHEMA = {
    "name": "image",
    "properties": {name: {"type": ["null", "string"]} for name in _TEXTS}
    | {name: {"type": ["null", "integer"]} for name in ("size", "min_disk", "min_ram")}
    | {"protected": {"type": "boolean"}, "tags": {"type": "array"}, "locations": {"type": "array"}},
    "additionalProperties": {"type": "string"},
}
_IMAGE = re.compile(r"/v2/images/([0-9a-f-]+)(/file)?")


class ImageService:
    """Images in memory, all of one owner's. They may be elsewhere, as far as Cinder says so."""

    def __init__(self, owner: str | None = None) -> None:
        self.owner = owner
        self.images: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        service = self

        class Handler(_Handler):
            images = service

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, content: bytes, disk_format: str) -> str:
        """An image of somebody's."""
        made = self.new({"disk_format": disk_format, "container_format": "bare", "name": "one"})
        self.fill(made["id"], content)
        return str(made["id"])

    def new(self, asked: dict[str, Any]) -> dict[str, Any]:
        image: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "status": "queued",
            "visibility": "public",
            "protected": False,
            "tags": [],
            "min_disk": 0,
            "min_ram": 0,
            "size": None,
            "owner": self.owner,
            "locations": [],
        } | asked
        self.images[image["id"]] = image
        return image

    def fill(self, image: str, content: bytes) -> None:
        self.contents[image] = content
        self.images[image] |= {"status": "active", "size": len(content)}

    def place(self, image: str, changes: list[dict[str, Any]]) -> None:
        """Notes where it is; how long it is there, nobody looks."""
        for change in changes:
            if change["path"].startswith("/locations"):
                where = change["value"]
                self.images[image]["locations"].append(where)
                self.images[image] |= {
                    "status": "active",
                    "size": 1 << 30,
                    "direct_url": where["url"],
                }


class _Handler(BaseHTTPRequestHandler):
    images: ImageService
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/v2/schemas/image"):
            self._say(200, json.dumps(_SCHEMA).encode())
        elif self.path.endswith("/versions"):
            self._say(300, json.dumps({"versions": [{"id": "v2.9"}]}).encode())
        elif match := _IMAGE.fullmatch(self.path):
            image, content = match[1], bool(match[2])
            if image not in self.images.images:
                self._say(404, b"{}")
            elif content:
                self._say(200, self.images.contents[image], "application/octet-stream")
            else:
                self._say(200, json.dumps(self.images.images[image]).encode())
        else:
            self._say(404, b"{}")

    def do_POST(self) -> None:
        self._say(201, json.dumps(self.images.new(json.loads(self._body()))).encode())

    def do_PUT(self) -> None:
        match = _IMAGE.fullmatch(self.path)
        assert match
        self.images.fill(match[1], self._body())
        self._say(204, b"")

    def do_PATCH(self) -> None:
        match = _IMAGE.fullmatch(self.path)
        assert match
        self.images.place(match[1], json.loads(self._body()))
        self._say(200, json.dumps(self.images.images[match[1]]).encode())

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        self.send_response(status)
        if body:
            self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
