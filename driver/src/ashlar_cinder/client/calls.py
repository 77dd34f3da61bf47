"""A method for each route that a driver needs."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from ashlar_cinder.client import objects, streams, wire
from ashlar_cinder.client.errors import Problem, ProtocolError, UnreachableError
from ashlar_cinder.client.transport import (
    WAIT,
    Endpoint,
    Identity,
    Patience,
    Request,
    Transport,
)

LOG = logging.getLogger(__name__)

#: Changes in one request.
BULK = 100
#: Objects of one page.
PAGE = 1000

_FIRST_LOOK = 0.05
_LAST_LOOK = 1.0
_OK = 200
_FAILED = 400
_IMAGE_FORMATS = frozenset({"qcow2", "vmdk", "vhd", "vhdx"})


@dataclass(frozen=True)
class Item:
    """One change of many."""

    method: str
    path: str
    body: Any = None

    def to_map(self) -> dict[str, Any]:
        """As it goes over the wire."""
        item = {"method": self.method, "path": self.path}
        return item if self.body is None else item | {"body": self.body}


@dataclass(frozen=True)
class Clear:
    """What is done with a volume's data before it is destroyed."""

    #: ``none``, ``discard`` or ``zero``.
    how: str
    #: So many bytes of it, from the beginning on; all of it when 0.
    size: int = 0
    #: Bytes a second at most.
    bandwidth: int | None = None

    def query(self) -> str:
        """As part of the path of a deletion."""
        asked: dict[str, Any] = {"clear": self.how}
        if self.how != "none":
            asked |= {"clear_size": self.size} if self.size else {}
            asked |= {"bandwidth": self.bandwidth} if self.bandwidth else {}
        return f"?{urlencode(asked)}"


def volume_path(volume: uuid.UUID, clear: Clear | None = None) -> str:
    """A volume, as it is to be destroyed."""
    return f"/v1/volumes/{volume}{clear.query() if clear else ''}"


def snapshot_path(snapshot: uuid.UUID) -> str:
    """A snapshot."""
    return f"/v1/snapshots/{snapshot}"


class Client:
    """An appliance, as seen by one identity. For any number of threads.

    A method returns once the change is in the kernel. What fails is an ``AshlarError``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        *,
        patience: Patience | None = None,
        connections: int = 32,
    ) -> None:
        self._transport = Transport(
            endpoint, identity, patience=patience or Patience(), connections=connections
        )

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return self._transport.endpoint

    def close(self) -> None:
        """Lets go of connections that are kept."""
        self._transport.close()

    # ---- The appliance -------------------------------------------------------------------------

    def system(self, patience: Patience | None = None) -> objects.System:
        """What it is and can do."""
        return cast(objects.System, self._get("/v1/system", patience))

    def health(self) -> dict[str, Any]:
        """How it is."""
        return cast("dict[str, Any]", self._get("/v1/system/health"))

    def pools(self, patience: Patience | None = None) -> list[objects.Pool]:
        """All pools with their numbers, in one request for each thousand."""
        return list(self._pages("/v1/pools", patience=patience))

    def thin_devices(self, pool: uuid.UUID) -> Iterator[objects.ThinDevice]:
        """What a pool holds, whoever made it."""
        return self._pages(f"/v1/pools/{pool}/thin-devices")

    # ---- Volumes -------------------------------------------------------------------------------

    def volumes(self) -> Iterator[objects.Volume]:
        """All volumes."""
        return self._pages("/v1/volumes")

    def volume(self, volume: uuid.UUID) -> objects.Volume:
        """A volume."""
        return cast(objects.Volume, self._get(f"/v1/volumes/{volume}"))

    def create_volume(self, volume: uuid.UUID, spec: dict[str, Any]) -> objects.Volume:
        """Makes a volume, empty or of a source."""
        return cast(objects.Volume, self._change("PUT", f"/v1/volumes/{volume}", spec))

    def adopt_volume(self, volume: uuid.UUID, spec: dict[str, Any]) -> objects.Volume:
        """Makes a volume of a thin device that is there."""
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, spec, "adopt"))

    def release_volume(self, volume: uuid.UUID) -> None:
        """Lets go of a volume, and leaves its thin device as it is."""
        self._change("POST", f"/v1/volumes/{volume}", {}, "release")

    def extend_volume(self, volume: uuid.UUID, size: int) -> objects.Volume:
        """Grows a volume to so many bytes."""
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, {"size": size}, "extend"))

    def revert_volume(self, volume: uuid.UUID, snapshot: uuid.UUID) -> objects.Volume:
        """Gives a volume that no host uses the content of one of its snapshots."""
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, {"snapshot": snapshot}, "revert"))

    def update_volume(self, volume: uuid.UUID, update: dict[str, Any]) -> objects.Volume:
        """Changes what is given of a volume."""
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, update, "update"))

    def transfer_volume(self, volume: uuid.UUID, owner: str) -> objects.Volume:
        """Gives a volume that no host uses to another owner."""
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, {"owner": owner}, "transfer"))

    def move_volume(
        self, volume: uuid.UUID, pool: uuid.UUID, bandwidth: int | None = None
    ) -> objects.Volume:
        """Brings a volume to another pool, beneath its connections."""
        spec: dict[str, Any] = {"pool": pool} | ({"bandwidth": bandwidth} if bandwidth else {})
        path = f"/v1/volumes/{volume}"
        return cast(objects.Volume, self._change("POST", path, spec, "move"))

    def delete_volume(self, volume: uuid.UUID, clear: Clear | None = None) -> None:
        """Destroys a volume and its data; returns once it is cleared, if it is to be."""
        self.delete(volume_path(volume, clear))

    def detach_all(self, volume: uuid.UUID) -> None:
        """Cuts a volume off from every host."""
        self._change("DELETE", f"/v1/volumes/{volume}/connections")

    # ---- Snapshots -----------------------------------------------------------------------------

    def snapshots(self, volume: uuid.UUID | None = None) -> Iterator[objects.Snapshot]:
        """All snapshots, or those of a volume."""
        return self._pages("/v1/snapshots", {"volume": str(volume)} if volume else {})

    def snapshot(self, snapshot: uuid.UUID) -> objects.Snapshot:
        """A snapshot."""
        return cast(objects.Snapshot, self._get(f"/v1/snapshots/{snapshot}"))

    def create_snapshot(self, snapshot: uuid.UUID, spec: dict[str, Any]) -> objects.Snapshot:
        """Takes a snapshot."""
        return cast(objects.Snapshot, self._change("PUT", f"/v1/snapshots/{snapshot}", spec))

    def adopt_snapshot(self, snapshot: uuid.UUID, spec: dict[str, Any]) -> objects.Snapshot:
        """Makes a snapshot of a thin device that is there."""
        path = f"/v1/snapshots/{snapshot}"
        return cast(objects.Snapshot, self._change("POST", path, spec, "adopt"))

    def release_snapshot(self, snapshot: uuid.UUID) -> None:
        """Lets go of a snapshot, and leaves its thin device as it is."""
        self._change("POST", f"/v1/snapshots/{snapshot}", {}, "release")

    def delete_snapshot(self, snapshot: uuid.UUID) -> None:
        """Destroys a snapshot."""
        self.delete(snapshot_path(snapshot))

    # ---- Groups --------------------------------------------------------------------------------

    def group(self, group: uuid.UUID) -> objects.Group:
        """A group."""
        return cast(objects.Group, self._get(f"/v1/groups/{group}"))

    def create_group(self, group: uuid.UUID, spec: dict[str, Any]) -> objects.Group:
        """Makes a group, of volumes or of copies."""
        return cast(objects.Group, self._change("PUT", f"/v1/groups/{group}", spec))

    def update_group(self, group: uuid.UUID, update: dict[str, Any]) -> objects.Group:
        """Adds members and removes them."""
        path = f"/v1/groups/{group}"
        return cast(objects.Group, self._change("POST", path, update, "update"))

    def delete_group(self, group: uuid.UUID) -> None:
        """Dissolves a group, whose members stay."""
        self._change("DELETE", f"/v1/groups/{group}")

    def create_group_snapshot(
        self, group_snapshot: uuid.UUID, spec: dict[str, Any]
    ) -> objects.GroupSnapshot:
        """Takes snapshots of all members at one instant."""
        path = f"/v1/group-snapshots/{group_snapshot}"
        return cast(objects.GroupSnapshot, self._change("PUT", path, spec))

    def delete_group_snapshot(self, group_snapshot: uuid.UUID) -> None:
        """Destroys a group snapshot with its snapshots."""
        self._change("DELETE", f"/v1/group-snapshots/{group_snapshot}")

    # ---- Hosts and connections -----------------------------------------------------------------

    def hosts(self) -> Iterator[objects.Host]:
        """All hosts."""
        return self._pages("/v1/hosts")

    def host(self, host: uuid.UUID) -> objects.Host:
        """A host."""
        return cast(objects.Host, self._get(f"/v1/hosts/{host}"))

    def create_host(self, host: uuid.UUID, spec: dict[str, Any]) -> objects.Host:
        """Makes a host known."""
        created = self._change("PUT", f"/v1/hosts/{host}", spec)
        return cast(objects.Host, created.get("host", created))

    def delete_host(self, host: uuid.UUID) -> None:
        """Forgets a host."""
        self._change("DELETE", f"/v1/hosts/{host}")

    def connections(
        self, volume: uuid.UUID | None = None, *, snapshot: uuid.UUID | None = None
    ) -> Iterator[objects.Connection]:
        """All connections, or those of a volume or of a snapshot."""
        of = {"volume": volume, "snapshot": snapshot}
        return self._pages("/v1/connections", {kind: str(one) for kind, one in of.items() if one})

    def create_connection(
        self, connection: uuid.UUID, volume: uuid.UUID, host: uuid.UUID, transport: str
    ) -> objects.Connection:
        """Attaches a volume to a host."""
        spec = {"volume": volume, "host": host, "transport": transport}
        path = f"/v1/connections/{connection}"
        return cast(objects.Connection, self._change("PUT", path, spec))

    def create_snapshot_connection(
        self, connection: uuid.UUID, snapshot: uuid.UUID, host: uuid.UUID, transport: str
    ) -> objects.Connection:
        """Attaches a snapshot to a host, which can only read it."""
        spec = {"snapshot": snapshot, "host": host, "transport": transport}
        path = f"/v1/connections/{connection}"
        return cast(objects.Connection, self._change("PUT", path, spec))

    def delete_connection(self, connection: uuid.UUID, *, force: bool = False) -> None:
        """Detaches a volume from a host; with force, also one that is logged in."""
        query = "?force=true" if force else ""
        self._change("DELETE", f"/v1/connections/{connection}{query}")

    # ---- Anything ------------------------------------------------------------------------------

    def delete(self, path: str) -> None:
        """Destroys what a path names."""
        self._change("DELETE", path)

    def begin_delete(self, path: str) -> objects.Job:
        """Begins to destroy what a path names; the job that does."""
        request_id = uuid.uuid4()
        request = Request("DELETE", path)
        reply = self._transport.exchange(request, request_id=request_id, wait=0)
        return cast(objects.Job, reply.value) if reply.accepted else self.job(request_id)

    # ---- Many at once --------------------------------------------------------------------------

    def bulk(self, items: Sequence[Item]) -> list[Problem | None]:
        """Does many changes, independently and in no order; what each was refused with, if it was.

        As one request for each hundred.
        """
        outcomes: list[Problem | None] = []
        for at in range(0, len(items), BULK):
            some = items[at : at + BULK]
            body = {"items": [item.to_map() for item in some]}
            answers = self._change("POST", "/v1/bulk", body)["items"]
            if len(answers) != len(some):
                raise ProtocolError(f"{len(some)} changes were given {len(answers)} answers")
            outcomes += [self._outcome(answer) for answer in answers]
        return outcomes

    def _outcome(self, answer: dict[str, Any]) -> Problem | None:
        status, body = answer["status"], answer.get("body")
        if status >= _FAILED:
            return Problem.of_map(body, status)
        if body and "operation" in body:
            try:
                self.wait_for(cast(objects.Job, body))
            except Problem as problem:
                return problem
        return None

    # ---- Jobs and events -----------------------------------------------------------------------

    def job(self, job: uuid.UUID) -> objects.Job:
        """A job."""
        return cast(objects.Job, self._get(f"/v1/jobs/{job}"))

    def cancel_job(self, job: uuid.UUID) -> None:
        """Ends a job that is under way."""
        reply = self._transport.exchange(Request("DELETE", f"/v1/jobs/{job}"))
        if reply.accepted:
            self.wait_for(self.job(job))

    def wait_for(self, job: objects.Job) -> objects.Job:
        """Looks at a job until it has ended; raises the problem that it failed with.

        What it is still tried against is logged, once.
        """
        pause = _FIRST_LOOK
        told = ""
        while job["state"] == "running":
            against = str(Problem.of_map(job["problem"])) if "problem" in job else ""
            if against not in {"", told}:
                told = against
                LOG.warning("%s is tried again, as it fails: %s", job["operation"], against)
            # The protocol has no event for it; a look costs the appliance one map access.
            time.sleep(pause)
            pause = min(pause * 2, _LAST_LOOK)
            job = self.job(uuid.UUID(bytes=job["id"]))
        if job["state"] == "succeeded":
            return job
        if "problem" in job:
            raise Problem.of_map(job["problem"])
        raise ProtocolError(f"a job has {job['state']} without saying why")

    def events(self, after: int | str | None = None, wait: int = 0) -> list[objects.Event]:
        """A page of events after one, or ``"newest"``; waits so many seconds for the first."""
        query: dict[str, Any] = {"wait": wait, "limit": PAGE}
        if after is not None:
            query["after"] = after
        request = Request("GET", f"/v1/events?{urlencode(query)}")
        page = self._transport.exchange(request, wait=max(wait, WAIT)).value
        return cast("list[objects.Event]", page["items"])

    # ---- What volumes hold ---------------------------------------------------------------------

    def write_extents(
        self,
        volume: uuid.UUID,
        stream: Iterable[bytes],
        bandwidth: int | None = None,
    ) -> objects.JobResult:
        """Writes a stream of extents to a volume; returns once it is durable."""
        return self._upload(volume, streams.EXTENTS, stream, None, _query({}, bandwidth))

    def write_image(
        self,
        volume: uuid.UUID,
        image_format: str,
        stream: Iterable[bytes],
        length: int,
        bandwidth: int | None = None,
    ) -> objects.JobResult:
        """Writes the disk that an image of so many bytes holds; returns once it is durable."""
        if image_format not in _IMAGE_FORMATS:
            raise ValueError(f"there are no images of format {image_format!r}")
        query = _query({"format": image_format}, bandwidth)
        return self._upload(volume, streams.IMAGE, stream, length, query)

    def _upload(
        self,
        volume: uuid.UUID,
        media_type: str,
        stream: Iterable[bytes],
        length: int | None,
        query: str,
    ) -> objects.JobResult:
        request_id = uuid.uuid4()
        headers = {"content-type": media_type}
        if length is not None:
            headers["content-length"] = str(length)
        path = f"/v1/volumes/{volume}/data{query}"
        source = streams.Source(stream)
        try:
            response, pool = self._transport.open(
                "PUT", path, request_id=request_id, headers=headers, body=source
            )
            with streams.Content(response, pool, self._transport.lost) as content:
                data = self._short(content)
        except UnreachableError as lost:
            return self._broken(request_id, source, lost)
        reply = self._transport.reply(
            response.status, response.headers.get("content-type", ""), data
        )
        if reply.accepted:
            return self.wait_for(reply.value).get("result", {})
        return cast(objects.JobResult, reply.value)

    def _broken(
        self, request_id: uuid.UUID, source: streams.Source, lost: Exception
    ) -> objects.JobResult:
        """What became of an upload without an answer: the job under its id knows.

        One that was given everything may be at work for as long as the disks take; another one
        is ended.
        """
        lost = source.failure or lost
        try:
            job = self.job(request_id)
            if job["state"] == "running" and not source.ended:
                # Nobody gives to it any more. It may end by itself meanwhile.
                with contextlib.suppress(Problem):
                    self.cancel_job(request_id)
                job = self.job(request_id)
            return self.wait_for(job).get("result", {})
        except UnreachableError:
            raise lost from None
        except Problem as problem:
            # It never began, or was ended for having broken off.
            if problem.code in {"not-found", "cancelled"}:
                raise lost from problem
            raise

    def read_extents(
        self, kind: str, content_of: uuid.UUID, bandwidth: int | None = None
    ) -> streams.Content:
        """What a volume or snapshot holds, as a stream of extents."""
        query = _query({"format": "extents"}, bandwidth)
        return self._download(kind, content_of, query, streams.EXTENTS)

    def read_image(
        self, kind: str, content_of: uuid.UUID, image_format: str, bandwidth: int | None = None
    ) -> streams.Content:
        """What a volume or snapshot holds, as an image."""
        if image_format not in _IMAGE_FORMATS:
            raise ValueError(f"there are no images of format {image_format!r}")
        query = _query({"format": image_format}, bandwidth)
        return self._download(kind, content_of, query, streams.IMAGE)

    def _download(
        self, kind: str, content_of: uuid.UUID, query: str, media_type: str
    ) -> streams.Content:
        path = f"/v1/{kind}s/{content_of}/data{query}"
        response, pool = self._transport.open(
            "GET", path, request_id=uuid.uuid4(), headers={"accept": media_type}
        )
        content = streams.Content(response, pool, self._transport.lost)
        found = response.headers.get("content-type", "")
        if response.status == _OK and found == media_type:
            return content
        with content:
            self._transport.reply(response.status, found, self._short(content))
        raise ProtocolError(f"{self.endpoint} answered with {found} where {media_type} was asked")

    def _short(self, content: streams.Content) -> bytes:
        """An answer that is no stream."""
        data = b""
        while part := content.read():
            data += part
            if len(data) > wire.REPLY_BYTES:
                raise ProtocolError(f"{self.endpoint} answered with too many bytes")
        return data

    # ---- How ------------------------------------------------------------------------------------

    def _get(self, path: str, patience: Patience | None = None) -> Any:
        return self._transport.exchange(Request("GET", path), patience=patience).value

    def _pages(
        self,
        path: str,
        query: dict[str, str] | None = None,
        patience: Patience | None = None,
    ) -> Iterator[Any]:
        asked: dict[str, Any] = {"limit": PAGE} | (query or {})
        while True:
            page = self._get(f"{path}?{urlencode(asked)}", patience)
            yield from page["items"]
            if "next" not in page:
                return
            asked["after"] = page["next"]

    def _change(self, method: str, path: str, body: Any = None, verb: str = "") -> Any:
        """Does a change; the object as it is then, if there is one."""
        whole = f"{path}/{verb}" if verb else path
        encoded = None if body is None else wire.encode(body)
        reply = self._transport.exchange(Request(method, whole, encoded))
        if not reply.accepted:
            return reply.value
        self.wait_for(reply.value)
        if method == "DELETE" or verb == "release":
            return None
        return self._get(path)


def _query(asked: dict[str, Any], bandwidth: int | None) -> str:
    """Of a transfer: bytes a second at the disks at most, if there is such a limit."""
    asked = asked | ({"bandwidth": bandwidth} if bandwidth else {})
    return f"?{urlencode(asked)}" if asked else ""
