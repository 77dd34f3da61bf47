"""What stands between a driver and the appliance, so that what happens on the way can be chosen."""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

from ashlar_cinder.client import wire
from ashlar_cinder.client.transport import MEDIA_TYPE
from tests.appliance import Appliance

_PIECE = 1 << 16


class Trouble(enum.Enum):
    """What may happen to a request."""

    GONE = "the connection ends before anything is handed on"
    CUT = "the connection ends within a stream"
    LOST = "it is done, and the answer is lost"
    LATE = "it is done, and the answer does not come"
    KILLED = "the agent is killed while it works on it, and started again"


Edit = Callable[[Any], Any]


class Between:
    """A TLS peer with the appliance's certificate that hands on what it is asked."""

    def __init__(self, appliance: Appliance, certificate: Path | None = None) -> None:
        self.appliance = appliance
        self._identity = appliance.identity()
        self.pool = self._new_pool()
        #: What is changed of requests and of answers that are CBOR.
        self.of_requests: Edit | None = None
        self.of_answers: Edit | None = None
        self._once: Trouble | None = None
        self._first: Trouble | None = None
        self._always: Trouble | None = None
        self._attempts: dict[str, int] = {}
        self._lock = threading.Lock()
        between = self

        class Handler(_Handler):
            stands = between

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own = certificate or appliance.pki / "server.pem"
        context.load_cert_chain(own, appliance.pki / "server.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        # Looks so often whether it is to end.
        serve = functools.partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, daemon=True).start()

    def _new_pool(self) -> urllib3.HTTPSConnectionPool:
        host, port = self.appliance.endpoint.rsplit(":", 1)
        context = self._identity.context()
        return urllib3.HTTPSConnectionPool(host, int(port), maxsize=16, ssl_context=context)

    def meet(
        self,
        *,
        once: Trouble | None = None,
        first: Trouble | None = None,
        always: Trouble | None = None,
    ) -> None:
        """What happens from now on: to the next change alone, to the first attempt of each request
        otherwise, and to all other attempts.
        """
        with self._lock:
            self._once, self._first, self._always = once, first, always
            self._attempts.clear()

    def attempts(self) -> list[int]:
        """How often each request came since, without what happened once."""
        with self._lock:
            return list(self._attempts.values())

    def next(self, request_id: str, *, change: bool) -> Trouble | None:
        """What happens to an attempt of a request."""
        with self._lock:
            if self._once and change:
                once, self._once = self._once, None
                return once
            attempts = self._attempts.get(request_id, 0)
            self._attempts[request_id] = attempts + 1
            return self._always if attempts else self._first or self._always

    def kill(self) -> None:
        """Has the agent killed and started again, and lets go of what was connected to it."""
        self.appliance.order("kill-agent")
        self.pool = self._new_pool()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.pool.close()


class _Handler(BaseHTTPRequestHandler):
    stands: Between
    protocol_version = "HTTP/1.1"
    timeout = 60
    # An answer is sent in pieces, the second of which would wait for an acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        pass

    def _relay(self) -> None:
        request_id = self.headers.get("ashlar-request-id", "")
        trouble = self.stands.next(request_id, change=self.command != "GET")
        if trouble is Trouble.GONE:
            self._hang_up()
        else:
            self._hand_on(trouble)

    do_GET = do_PUT = do_POST = do_DELETE = _relay  # noqa: N815 - their names

    def _hand_on(self, trouble: Trouble | None) -> None:
        try:
            response = self._ask(trouble)
        except (urllib3.exceptions.HTTPError, OSError):
            # By us, or the agent is being started again.
            self._hang_up()
            return
        media_type = response.headers.get("content-type", "")
        with response:
            if trouble in {Trouble.KILLED, Trouble.LOST, Trouble.LATE}:
                response.read()
                if trouble is Trouble.KILLED:
                    self.stands.kill()
                elif trouble is Trouble.LATE:
                    self._wait_for_the_end()
                self._hang_up()
            elif media_type.endswith("cbor") or not media_type:
                data = response.read()
                edit = self.stands.of_answers
                if edit and data and media_type == MEDIA_TYPE:
                    data = wire.encode(edit(wire.decode(data)))
                self._say(response.status, media_type, data)
            else:
                self._stream(response, media_type, trouble)

    def _wait_for_the_end(self) -> None:
        """Until the driver waits no longer."""
        with contextlib.suppress(OSError):
            self.rfile.read(1)

    def _ask(self, trouble: Trouble | None) -> Any:
        kept = ("accept", "ashlar-request-id", "prefer", "content-type")
        headers = {name: self.headers[name] for name in kept if name in self.headers}
        length = self.headers.get("content-length")
        sends = self.command == "PUT" and "/data" in self.path
        body: Any = self._pieces()
        if not sends:
            body = b"".join(body)
            if self.stands.of_requests and body:
                body = wire.encode(self.stands.of_requests(wire.decode(body)))
            if trouble is Trouble.KILLED:
                # Its answer is that it is under way.
                headers["prefer"] = "wait=0"
        else:
            if length:
                headers["content-length"] = length
            if trouble in {Trouble.CUT, Trouble.KILLED}:
                body = self._broken(body, trouble)
        return self.stands.pool.urlopen(
            self.command,
            self.path,
            body=body,
            headers=headers,
            chunked=sends and not length,
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

    def _broken(self, pieces: Iterator[bytes], trouble: Trouble) -> Iterator[bytes]:
        """The beginning of a stream that is cut, or whose agent is killed."""
        yield from itertools.islice(pieces, 2)
        if trouble is Trouble.KILLED:
            self.stands.kill()
        raise OSError("it ends here")

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


def over_rdma(between: Between, rdma: str = "nvme-rdma", tcp: str = "nvme-tcp") -> None:
    """Has the appliance say that it serves RDMA. What is attached over it is so over TCP."""

    def renamed(value: Any, old: str, new: str) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item, old, new) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item, old, new) for item in value]
        return new if value == old else value

    between.of_requests = lambda body: renamed(body, rdma, tcp)
    between.of_answers = lambda body: renamed(body, tcp, rdma)


def with_portals(between: Between, *portals: str) -> None:
    """Has the appliance say that it is at these addresses."""

    def told(body: Any) -> Any:
        for access in ("iscsi", "nvme"):
            if isinstance(body, dict) and access in body:
                body[access]["portals"] = list(portals)
        return body

    before = between.of_answers
    between.of_answers = lambda body: told(before(body) if before else body)
