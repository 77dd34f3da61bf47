"""Requests over TLS, and when they are repeated."""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError

from ashlar_cinder.client import wire
from ashlar_cinder.client.errors import Problem, ProtocolError, UnreachableError

LOG = logging.getLogger(__name__)

MEDIA_TYPE = "application/cbor"
PROBLEM_MEDIA_TYPE = "application/concise-problem-details+cbor"
DEFAULT_PORT = 8443

#: How long the appliance is asked to work on a change before it answers with a job.
WAIT = 30
#: What an answer takes beyond that.
GRACE = 30
CONNECT = 10
#: A peer that gives nothing of a stream for so long, or does not take a piece of one, is gone. At
#: the least bandwidth it takes 16 seconds for a piece. One that was sent a whole stream may be at
#: work for longer: its job is looked at then.
SILENCE = 300

_FIRST_PAUSE = 0.1
_LAST_PAUSE = 5.0
_OK, _ACCEPTED, _NO_CONTENT, _REFUSED = 200, 202, 204, 400
#: How a change that the appliance had begun may end, although it is said to succeed later: it keeps
#: that under the request's id and answers it again, so that only another request can succeed.
_ENDED = frozenset({"in-use", "interrupted"})

_ENDPOINT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+))(?::(?P<port>\d+))?"
)
_MAX_PORT = 65535


@dataclass(frozen=True)
class Endpoint:
    """Where an appliance is managed."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """``HOST``, ``HOST:PORT``, or an IPv6 address in brackets."""
        match = _ENDPOINT.fullmatch(text.strip())
        port = int(match["port"] or DEFAULT_PORT) if match else 0
        if not match or not 0 < port <= _MAX_PORT:
            raise ValueError(f"{text!r} is not HOST, HOST:PORT or [IPV6]:PORT")
        return cls(match["v6"] or match["host"], port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Identity:
    """PEM files: who we are, and whom we trust."""

    certificate: str
    key: str
    authority: str

    def context(self) -> ssl.SSLContext:
        """TLS 1.3, the peer's certificate and name always checked."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        for what, path, load in (
            ("authority", self.authority, self._load_authority),
            ("certificate with its key", self.certificate, self._load_own),
        ):
            try:
                load(context)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"failed to use the {what} in {path}: {error}") from error
        return context

    def _load_authority(self, context: ssl.SSLContext) -> None:
        context.load_verify_locations(cafile=self.authority)

    def _load_own(self, context: ssl.SSLContext) -> None:
        # A key under a passphrase would make OpenSSL ask for it at a terminal.
        context.load_cert_chain(self.certificate, self.key, password=lambda: b"")


@dataclass(frozen=True)
class Patience:
    """For how many seconds a request is repeated that may succeed by being repeated."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Request:
    """What is asked."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    status: int
    value: Any

    @property
    def accepted(self) -> bool:
        """Whether it is a job, under way."""
        return self.status == _ACCEPTED


class _Streaming(HTTPSConnection):
    """Sends for as long as the peer takes it: urllib3 sends under the timeout of connecting, and
    the appliance takes a stream no faster than its bandwidth.
    """

    def connect(self) -> None:
        super().connect()
        # What requests are sent under; not all of them set it on the socket.
        self.timeout = SILENCE
        self.sock.settimeout(SILENCE)


class _StreamingPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Streaming


class Transport:
    """One appliance as seen by one identity. For any number of threads."""

    def __init__(
        self, endpoint: Endpoint, identity: Identity, *, patience: Patience, connections: int
    ) -> None:
        self.endpoint = endpoint
        self._context = identity.context()
        self._patience = patience
        self._pool = self._new_pool(connections)

    def close(self) -> None:
        """Lets go of the connections that are kept."""
        self._pool.close()

    def exchange(
        self,
        request: Request,
        *,
        request_id: uuid.UUID | None = None,
        wait: int = WAIT,
        patience: Patience | None = None,
    ) -> Reply:
        """Sends a request until there is an answer to it, always under the same id.

        What failed on the way is repeated, since the id keeps it from being done twice, and so is
        what the appliance says may succeed later, unless it is the end of a change.
        """
        request_id = request_id or uuid.uuid4()
        deadline = time.monotonic() + (patience or self._patience).seconds
        pause = _FIRST_PAUSE
        while True:
            failure: Problem | UnreachableError
            try:
                return self._attempt(request, request_id, wait)
            except UnreachableError as error:
                failure = error
            except Problem as error:
                if not error.retryable or error.code in _ENDED:
                    raise
                failure = error
            # Not all at once when many were refused together.
            nap = pause * random.uniform(0.5, 1.0)  # noqa: S311
            if time.monotonic() + nap > deadline:
                raise failure
            LOG.debug(
                "%s %s, request %s, is repeated: %s",
                request.method,
                request.path,
                request_id,
                failure,
            )
            time.sleep(nap)
            pause = min(pause * 2, _LAST_PAUSE)

    def _attempt(self, request: Request, request_id: uuid.UUID, wait: int) -> Reply:
        headers = self._headers(request_id)
        if request.method != "GET":
            headers["prefer"] = f"wait={wait}"
        if request.body is not None:
            headers["content-type"] = MEDIA_TYPE
        begin = time.monotonic()
        try:
            response = self._pool.urlopen(
                request.method,
                request.path,
                body=request.body,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT, read=wait + GRACE),
                pool_timeout=wait + GRACE,
                retries=False,
                redirect=False,
                preload_content=False,
                enforce_content_length=True,
            )
            status, media_type, data = self._answer(response)
        except HTTPError as error:
            raise self._lost(error) from error
        LOG.debug(
            "%s %s, request %s: %d within %.3f s",
            request.method,
            request.path,
            request_id,
            status,
            time.monotonic() - begin,
        )
        return self.reply(status, media_type, data)

    def _answer(self, response: Any) -> tuple[int, str, bytes]:
        """An answer to its end, unless it is too long."""
        data = b""
        try:
            # The end is seen only by asking for more.
            while part := response.read(wire.REPLY_BYTES + 1, decode_content=False):
                data += part
                if len(data) > wire.REPLY_BYTES:
                    response.close()
                    raise ProtocolError(
                        f"{self.endpoint} answered with more than {wire.REPLY_BYTES} bytes"
                    )
            return response.status, response.headers.get("content-type", ""), data
        finally:
            response.release_conn()

    def reply(self, status: int, media_type: str, data: bytes) -> Reply:
        """A successful answer; raises what it is otherwise."""
        if status >= _REFUSED and media_type == PROBLEM_MEDIA_TYPE:
            raise Problem.of_bytes(data, status)
        if status == _NO_CONTENT and not data:
            return Reply(status, None)
        if not _OK <= status <= _ACCEPTED or media_type != MEDIA_TYPE:
            raise ProtocolError(
                f"{self.endpoint} answered with status {status} and {media_type or 'nothing'}, "
                "which is neither a result nor a problem"
            )
        try:
            return Reply(status, wire.decode(data))
        except wire.WireError as error:
            raise ProtocolError(
                f"{self.endpoint} answered with a body that cannot be read: {error}"
            ) from error

    def open(
        self,
        method: str,
        path: str,
        *,
        request_id: uuid.UUID,
        headers: dict[str, str],
        body: Iterable[bytes] | None = None,
    ) -> tuple[Any, Any]:
        """A response whose body is still to be read, and the pool to be closed after it.

        Over a connection of its own: one that is kept may have gone stale, and a body cannot be
        sent twice.
        """
        pool = self._new_pool(1, _StreamingPool)
        try:
            response = pool.urlopen(
                method,
                path,
                body=body,
                chunked=body is not None and "content-length" not in headers,
                headers=self._headers(request_id) | headers,
                timeout=urllib3.Timeout(connect=CONNECT, read=SILENCE),
                retries=False,
                redirect=False,
                preload_content=False,
                enforce_content_length=True,
            )
        except Exception as error:
            # The body's maker may have failed, too.
            pool.close()
            raise self._lost(error) from error
        return response, pool

    def lost(self, error: Exception) -> UnreachableError:
        """What a stream that breaks is."""
        return self._lost(error)

    def _lost(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"failed to talk to {self.endpoint}: {error}")

    def _new_pool(
        self,
        connections: int,
        kind: type[urllib3.HTTPSConnectionPool] = urllib3.HTTPSConnectionPool,
    ) -> urllib3.HTTPSConnectionPool:
        return kind(
            self.endpoint.host,
            self.endpoint.port,
            maxsize=connections,
            block=True,
            ssl_context=self._context,
        )

    @staticmethod
    def _headers(request_id: uuid.UUID) -> dict[str, str]:
        return {"accept": MEDIA_TYPE, "ashlar-request-id": str(request_id)}
