"""What stands between a driver and the appliance, so that what happens on the way can be chosen."""

from __future__ import annotations

import enum
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3

from ashlar_cinder.client import Identity, wire
from ashlar_cinder.client.transport import MEDIA_TYPE, PROBLEM_MEDIA_TYPE
from tests.appliance import Appliance

#: How long what is slow takes.
SLOWLY = 1.5
_PIECE = 1 << 16


class Trouble(enum.Enum):
    """What may happen to a request."""

    REFUSED = "the connection ends before anything is asked"
    CUT = "the connection ends within the request, or within a stream"
    LOST = "it is done, and the answer is lost"
    SLOW = "it is answered late"
    BUSY = "it may succeed later"
    STOPPING = "the agent is being stopped"
    KILLED = "the agent is killed while it works on it"
    FULL = "the pool has no room"


_PROBLEMS = {
    Trouble.BUSY: ("busy", 409, True),
    Trouble.STOPPING: ("stopping", 503, True),
    Trouble.FULL: ("no-space", 507, False),
}

Edit = Callable[[Any], Any]


class Between:
    """A TLS peer with the appliance's certificate that hands on what it is asked."""

    def __init__(self, appliance: Appliance, identity: Identity | None = None) -> None:
        identity = identity or appliance.identity()
        host, port = appliance.endpoint.rsplit(":", 1)
        self.appliance = appliance
        self.pool = urllib3.HTTPSConnectionPool(
            host, int(port), maxsize=16, ssl_context=identity.context()
        )
        #: What is changed of requests and of answers that are CBOR.
        self.of_requests: Edit | None = None
        self.of_answers: Edit | None = None
        self._troubles: list[Trouble] = []
        self._always: Trouble | None = None
        self._lock = threading.Lock()
        between = self

        class Handler(_Handler):
            stands = between

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(appliance.pki / "server.pem", appliance.pki / "server.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def meet(self, *troubles: Trouble) -> None:
        """What happens to the next requests, one after the other."""
        with self._lock:
            self._troubles = list(troubles)

    def always(self, trouble: Trouble | None) -> None:
        """What happens to every request from now on."""
        with self._lock:
            self._always = trouble

    def untroubled(self) -> bool:
        """Whether all that was to happen has happened."""
        with self._lock:
            return not self._troubles

    def next(self) -> Trouble | None:
        with self._lock:
            return self._troubles.pop(0) if self._troubles else self._always

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.pool.close()


class _Handler(BaseHTTPRequestHandler):
    stands: Between
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        pass

    def _relay(self) -> None:
        trouble = self.stands.next()
        if trouble is Trouble.REFUSED:
            self._hang_up()
        elif trouble in _PROBLEMS:
            for _ in self._pieces():
                pass
            code, status, retryable = _PROBLEMS[trouble]
            self._say(status, PROBLEM_MEDIA_TYPE, _problem(code, status, retryable=retryable))
        elif trouble is Trouble.CUT and self.command == "GET" and "/data" not in self.path:
            self._hang_up()
        else:
            self._hand_on(trouble)

    do_GET = do_PUT = do_POST = do_DELETE = _relay  # noqa: N815 - their names

    def _hand_on(self, trouble: Trouble | None) -> None:
        try:
            response = self._ask(trouble)
        except (urllib3.exceptions.HTTPError, OSError):
            # Cut by us, or the agent was killed.
            self._hang_up()
            return
        media_type = response.headers.get("content-type", "")
        with response:
            if trouble is Trouble.KILLED:
                self.stands.appliance.order("kill-agent")
                self._hang_up()
            elif trouble is Trouble.LOST:
                response.read()
                self._hang_up()
            elif media_type.endswith("cbor") or not media_type:
                data = response.read()
                edit = self.stands.of_answers
                if edit and data and media_type == MEDIA_TYPE:
                    data = wire.encode(edit(wire.decode(data)))
                if trouble is Trouble.SLOW:
                    time.sleep(SLOWLY)
                self._say(response.status, media_type, data)
            else:
                self._stream(response, media_type, trouble)

    def _ask(self, trouble: Trouble | None) -> Any:
        kept = ("accept", "ashlar-request-id", "prefer", "content-type")
        headers = {name: self.headers[name] for name in kept if name in self.headers}
        length = self.headers.get("content-length")
        is_stream = "/data" in self.path
        body: Any = _cut(self._pieces()) if trouble is Trouble.CUT else self._pieces()
        if not is_stream:
            body = b"".join(body)
            if self.stands.of_requests and body:
                body = wire.encode(self.stands.of_requests(wire.decode(body)))
        elif length:
            headers["content-length"] = length
        has_body = is_stream and self.command == "PUT"
        return self.stands.pool.urlopen(
            self.command,
            self.path,
            body=body if has_body or not is_stream else None,
            headers=headers,
            chunked=has_body and not length,
            timeout=urllib3.Timeout(connect=10, read=90),
            retries=False,
            redirect=False,
            preload_content=False,
        )

    def _pieces(self) -> Iterator[bytes]:
        """The request's body."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            piece = self.rfile.read(min(left, _PIECE))
            if not piece:
                raise OSError("the driver ended within a request")
            left -= len(piece)
            yield piece

    def _stream(self, response: Any, media_type: str, trouble: Trouble | None) -> None:
        self.send_response(response.status)
        self.send_header("content-type", media_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while piece := response.read1(_PIECE):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if trouble is Trouble.CUT:
                self._hang_up()
                return
        if trouble is Trouble.SLOW:
            time.sleep(SLOWLY)
        self.wfile.write(b"0\r\n\r\n")

    def _say(self, status: int, media_type: str, data: bytes) -> None:
        self.send_response(status)
        if media_type:
            self.send_header("content-type", media_type)
        if status != 204:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile = _Nowhere()  # type: ignore[assignment]
        self.connection.shutdown(socket.SHUT_RDWR)


class _Nowhere:
    """Where nothing is written to any more."""

    closed = False

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from (next(pieces, b"")[:100],)
    raise OSError("cut")


def _problem(code: str, status: int, *, retryable: bool) -> bytes:
    entry = {"code": code, "retryable": retryable}
    return wire.encode({-1: code, -2: "it was made up", -4: status, "urn:ashlar:problem": entry})


def over_rdma(between: Between) -> None:
    """Has the appliance say that it serves RDMA. What is attached over it is so over TCP."""

    def renamed(value: Any, old: str, new: str) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item, old, new) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item, old, new) for item in value]
        return new if value == old else value

    between.of_requests = lambda body: renamed(body, "nvme-rdma", "nvme-tcp")
    between.of_answers = lambda body: renamed(body, "nvme-tcp", "nvme-rdma")


def with_portals(between: Between, *portals: str) -> None:
    """Has the appliance say that it is at these addresses."""

    def told(body: Any) -> Any:
        for access in ("iscsi", "nvme"):
            if isinstance(body, dict) and access in body:
                body[access]["portals"] = list(portals)
        return body

    before = between.of_answers
    between.of_answers = lambda body: told(before(body) if before else body)
