"""The client against the real agent, and against peers that are none."""

from __future__ import annotations

import concurrent.futures
import io
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ashlar_cinder.client import (
    Client,
    Endpoint,
    Identity,
    Patience,
    Problem,
    ProtocolError,
    UnreachableError,
    wire,
)
from ashlar_cinder.client.calls import Item
from ashlar_cinder.client.streams import extents_of
from tests import contract
from tests.appliance import Appliance

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("box.example", "box.example", 8443),
        ("192.0.2.1:9", "192.0.2.1", 9),
        ("[2001:db8::1]", "2001:db8::1", 8443),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["", "a b", "https://box", "box:0", "box:65536", "2001:db8::1"])
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST"):
        Endpoint.parse(text)


def test_looking(appliance: Appliance, client: Client) -> None:
    system = client.system()
    assert system["protocol"] == 1
    assert set(system["capabilities"]["transports"]) >= {"iscsi", "nvme-tcp"}
    assert client.health()["status"] in {"ok", "degraded"}
    assert {pool["name"] for pool in client.pools()} == set(appliance.pools)
    newest = client.events("newest")
    assert newest == []
    assert client.events()[0]["id"] == 1


def test_an_event_is_waited_for(appliance: Appliance, client: Client) -> None:
    last = client.events()[-1]["id"]
    host = uuid.uuid4()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(client.events, last, 20)
        time.sleep(0.2)
        client.create_host(host, {"name": "one", "iqn": "iqn.2026-11.org.example:one"})
        kinds = {event["kind"] for event in waiting.result(timeout=25)}
    assert "host.created" in kinds
    client.delete_host(host)


def test_pages_are_followed(
    appliance: Appliance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashlar_cinder.client.calls.PAGE", 2)
    volumes = [uuid.uuid4() for _ in range(5)]
    spec = {"name": "v", "pool": appliance.pools["tank"], "size": MIB}
    for volume in volumes:
        client.create_volume(volume, spec)
    found = [uuid.UUID(bytes=volume["id"]) for volume in client.volumes()]
    assert found == sorted(volumes)
    outcomes = client.bulk(
        [Item("DELETE", f"/v1/volumes/{volume}") for volume in [*volumes, volumes[0]]]
    )
    assert [outcome.code if outcome else None for outcome in outcomes].count("not-found") <= 1
    assert not list(client.volumes())


def test_a_problem_names_its_object(client: Client) -> None:
    missing = uuid.uuid4()
    with pytest.raises(Problem) as caught:
        client.volume(missing)
    problem = caught.value
    assert (problem.code, problem.status, problem.kind) == ("not-found", 404, "volume")
    assert problem.object_id == missing
    assert not problem.retryable


def test_a_reader_only_looks(appliance: Appliance) -> None:
    reader = appliance.client("reader")
    reader.system()
    with pytest.raises(Problem, match="forbidden"):
        reader.create_host(uuid.uuid4(), {"name": "x", "iqn": "iqn.2026-11.org.example:x"})


def test_others_are_not_talked_to(appliance: Appliance, tmp_path: Path) -> None:
    sound = appliance.identity()
    # Another authority: its certificates are not ours.
    other = Appliance()
    try:
        foreign = other.identity()
        endpoint = Endpoint.parse(appliance.endpoint)
        for identity in (
            Identity(sound.certificate, sound.key, foreign.authority),
            Identity(foreign.certificate, foreign.key, sound.authority),
        ):
            stranger = Client(endpoint, identity, patience=Patience(0))
            with pytest.raises(UnreachableError):
                stranger.system()
    finally:
        other.stop()
    # Another name than the certificate's.
    misnamed = Client(Endpoint("localhost", endpoint.port), sound, patience=Patience(0))
    with pytest.raises(UnreachableError, match=r"(?i)hostname|certificate"):
        misnamed.system()
    # Without a certificate there is no client.
    with pytest.raises(ValueError, match="certificate with its key"):
        Client(endpoint, Identity(str(tmp_path / "no"), sound.key, sound.authority))
    with pytest.raises(ValueError, match="authority"):
        Client(endpoint, Identity(sound.certificate, sound.key, str(tmp_path / "no")))


class Peer:
    """A peer with the appliance's certificate that answers as it is told to."""

    #: For how many seconds it takes nothing before it reads a request.
    rest = 0.0

    def __init__(self, appliance: Appliance, answers: list[bytes | None]) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pki = appliance.pki
        self.context.load_cert_chain(pki / "server.pem", pki / "server.key")
        self.answers = answers
        self.seen: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self.listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while self.answers:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            with self.context.wrap_socket(plain, server_side=True) as peer:
                time.sleep(self.rest)
                self.seen.append(self._request(peer))
                answer = self.answers.pop(0)
                if answer is not None:
                    peer.sendall(answer)

    @staticmethod
    def _request(peer: ssl.SSLSocket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += peer.recv(65536)
        head, begun = data.split(b"\r\n\r\n", 1)
        body = bytearray(begun)
        length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
        while length and len(body) < int(length[1]):
            if not (more := peer.recv(65536)):
                break
            body += more
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self.listener.close()


def answer(status: int, body: bytes, media_type: str = "application/cbor") -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def problem(code: str, status: int, *, retryable: bool) -> bytes:
    body = wire.encode(
        {-1: "t", -2: "d", -4: status, "urn:ashlar:problem": {"code": code, "retryable": retryable}}
    )
    return answer(status, body, "application/concise-problem-details+cbor")


@pytest.fixture
def peer(appliance: Appliance) -> Iterator[Callable[..., tuple[Peer, Client]]]:
    peers = []

    def make(*answers: bytes | None, patience: float = 20.0) -> tuple[Peer, Client]:
        one = Peer(appliance, list(answers))
        peers.append(one)
        return one, Client(one.endpoint, appliance.identity(), patience=Patience(patience))

    yield make
    for one in peers:
        one.close()


def ids_of(peer: Peer) -> set[bytes]:
    lines = [line for request in peer.seen for line in request.split(b"\r\n")]
    return {line for line in lines if line.lower().startswith(b"ashlar-request-id")}


def test_what_may_succeed_later_is_repeated_under_its_id(peer: Any) -> None:
    one, client = peer(
        problem("busy", 409, retryable=True),
        None,
        problem("stopping", 503, retryable=True),
        b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n",
    )
    client.delete_volume(uuid.uuid4())
    assert len(one.seen) == 4
    assert len(ids_of(one)) == 1


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("in-use", False),
        # Kept under the request's id: a host that is logged in, a move whose agent was killed.
        ("in-use", True),
        ("interrupted", True),
    ],
)
def test_what_will_not_is_not_repeated(peer: Any, code: str, retryable: bool) -> None:
    one, client = peer(problem(code, 409, retryable=retryable), None)
    with pytest.raises(Problem, match=code):
        client.delete_volume(uuid.uuid4())
    assert len(one.seen) == 1


def test_patience_ends(peer: Any) -> None:
    one, client = peer(*[problem("busy", 409, retryable=True)] * 50, patience=0.5)
    begin = time.monotonic()
    with pytest.raises(Problem, match="busy"):
        client.delete_volume(uuid.uuid4())
    assert time.monotonic() - begin < 5
    assert 1 < len(one.seen) < 10


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(200, b"\xff"),
        answer(200, b"{}", "application/json"),
        answer(500, b"oops", "text/plain"),
        answer(302, b"", "text/plain"),
        answer(404, b"\xa0", "application/concise-problem-details+cbor"),
        answer(200, bytes(wire.REPLY_BYTES + 1)),
    ],
    ids=["no-cbor", "json", "text", "redirect", "no-problem", "too-long"],
)
def test_nonsense_is_not_believed(
    peer: Any, nonsense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "check_reply", lambda *_: None)
    _, client = peer(nonsense)
    with pytest.raises(ProtocolError):
        client.system()


def test_an_answer_that_is_cut_is_asked_for_again(peer: Any, client: Client) -> None:
    whole = answer(200, wire.encode(client.system()))
    one, impatient = peer(whole[:-10], whole)
    assert impatient.system()["protocol"] == 1
    assert len(one.seen) == 2


def test_a_job_is_waited_for(peer: Any) -> None:
    job: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "operation": "volume-delete",
        "object": {"kind": "volume", "id": uuid.UUID(int=2)},
        "state": "running",
        "created": 1,
    }
    ended = answer(200, wire.encode(job | {"state": "succeeded"}))
    one, client = peer(answer(202, wire.encode(job)), answer(200, wire.encode(job)), ended)
    client.delete_volume(uuid.uuid4())
    assert len(one.seen) == 3
    why = {-1: "t", -2: "no room", -4: 507}
    entry = {"urn:ashlar:problem": {"code": "no-space", "retryable": False}}
    failed = job | {"state": "failed", "problem": why | entry}
    _, client = peer(answer(202, wire.encode(job)), answer(200, wire.encode(failed)))
    with pytest.raises(Problem, match="no room"):
        client.delete_volume(uuid.uuid4())


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_an_upload_without_an_answer_is_waited_for_if_it_was_whole(peer: Any, whole: bool) -> None:
    job: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "operation": "volume-import",
        "object": {"kind": "volume", "id": uuid.UUID(int=2)},
        "state": "running",
        "created": 1,
    }

    def image() -> Iterator[bytes]:
        yield b"half"
        if not whole:
            raise OSError("the image service is gone")
        yield b"half"

    running = answer(200, wire.encode(job))
    if whole:
        ended = answer(200, wire.encode(job | {"state": "succeeded", "result": {"written": 8}}))
        one, client = peer(None, running, running, ended)
        assert client.write_image(uuid.uuid4(), "qcow2", image(), 8) == {"written": 8}
        assert [request.split(b" ")[0] for request in one.seen] == [b"PUT", *[b"GET"] * 3]
        return
    why = {-1: "t", -2: "it broke off", -4: 409}
    entry = {"urn:ashlar:problem": {"code": "cancelled", "retryable": False}}
    ended = answer(200, wire.encode(job | {"state": "cancelled", "problem": why | entry}))
    no_content = b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n"
    one, client = peer(None, running, no_content, ended)
    with pytest.raises(OSError, match="gone"):
        client.write_image(uuid.uuid4(), "qcow2", image(), 8)
    assert [request.split(b" ")[0] for request in one.seen] == [b"PUT", b"GET", b"DELETE", b"GET"]


def test_a_stream_is_sent_as_slowly_as_it_is_taken(
    peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashlar_cinder.client.transport.CONNECT", 1)
    one, client = peer(answer(200, wire.encode({"written": 8})))
    one.rest = 3.0
    # More than what lies between takes by itself.
    pieces = [bytes(MIB)] * 32
    begin = time.monotonic()
    result = client.write_image(uuid.uuid4(), "qcow2", iter(pieces), len(pieces) * MIB)
    assert result == {"written": 8}
    assert time.monotonic() - begin > one.rest
    assert len(one.seen) == 1


def test_a_peer_that_takes_nothing_of_a_stream_is_gone(
    peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashlar_cinder.client.transport.SILENCE", 1)
    one, client = peer(None)
    one.rest = 8.0
    begin = time.monotonic()
    with pytest.raises(UnreachableError):
        client._transport.open(
            "PUT",
            f"/v1/volumes/{uuid.uuid4()}/data",
            request_id=uuid.uuid4(),
            headers={},
            body=iter([bytes(MIB)] * 32),
        )
    assert time.monotonic() - begin < one.rest


def test_what_a_job_is_tried_against_is_said_once(
    peer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job: dict[str, Any] = {
        "id": uuid.UUID(int=1),
        "operation": "volume-delete",
        "object": {"kind": "volume", "id": uuid.UUID(int=2)},
        "state": "running",
        "created": 1,
    }
    why = {-1: "t", -2: "the disk refuses", -4: 500}
    entry = {"urn:ashlar:problem": {"code": "kernel-failed", "retryable": True}}
    stuck = answer(200, wire.encode(job | {"problem": why | entry}))
    ended = answer(200, wire.encode(job | {"state": "succeeded"}))
    _, client = peer(answer(202, wire.encode(job)), stuck, stuck, ended)
    client.delete_volume(uuid.uuid4())
    assert caplog.text.count("the disk refuses") == 1


def test_many_threads_share_connections(appliance: Appliance) -> None:
    shared = Client(
        Endpoint.parse(appliance.endpoint),
        appliance.identity(),
        patience=Patience(30),
        connections=4,
    )
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        systems = list(threads.map(lambda _: shared.system()["id"], range(200)))
    assert len(set(systems)) == 1
    assert shared._transport._pool.num_connections <= 4
    shared.close()


def test_a_volume_s_content_comes_and_goes(appliance: Appliance, client: Client) -> None:
    volume = uuid.uuid4()
    client.create_volume(volume, {"name": "v", "pool": appliance.pools["tank"], "size": MIB})
    content = b"ashlar".ljust(4096, b"x")
    result = client.write_extents(volume, extents_of(io.BytesIO(content), MIB))
    assert result["written"] == 4096
    with pytest.raises(Problem, match="out-of-range"):
        client.write_extents(volume, extents_of(io.BytesIO(b"x" * 2 * MIB), MIB))
    with pytest.raises(Problem, match="not-found"):
        client.read_extents("volume", uuid.uuid4())
    with pytest.raises(ValueError, match="no images of format"):
        client.read_image("volume", volume, "vdi")
    client.delete_volume(volume)
