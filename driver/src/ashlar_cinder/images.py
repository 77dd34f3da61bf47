"""Images, streamed between the image service and the appliance: no attach, no qemu-img here."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from cinder import context as cinder_context
from cinder import exception, objects
from cinder.image import image_utils
from oslo_log import log as logging
from oslo_utils import uuidutils

from ashlar_cinder import errors, ids, options
from ashlar_cinder.client import Problem
from ashlar_cinder.client.streams import (
    MAX_DATA,
    Content,
    ExtentsReader,
    Readable,
    extents_of,
)
from ashlar_cinder.core import Core
from ashlar_cinder.stats import GIB

LOG = logging.getLogger(__name__)

#: Formats of the image service whose images are the bytes of the disk.
PLAIN = frozenset({"raw", "iso", "ami", "ari", "aki"})
#: Those that the appliance reads and writes, under the names that both have for them.
FORMATS = frozenset({"qcow2", "vmdk", "vhd", "vhdx"})

_VOLUME_URL = re.compile(r"cinder://([^/]*/)?(?P<volume>[^/]+)")

#: How often a volume is written to that is busy, and how many seconds lie between.
_TRIES = 10
_PAUSE = 1.0


class _Chunks:
    """An iterator of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _blocks(file: Readable) -> Iterator[bytes]:
    while block := file.read(MAX_DATA):
        yield block


class Images(Core):
    """The methods of a driver that are about images."""

    def copy_image_to_volume(
        self,
        context: Any,
        volume: Any,
        image_service: Any,
        image_id: str,
        disable_sparse: bool = False,
    ) -> None:
        """Streams an image to a volume."""
        meta = image_service.show(context, image_id)
        image_format = _streamable(meta)
        if image_format is None:
            LOG.info(
                "Image %(id)s of format %(format)s is not one that the appliance reads: it is "
                "converted on this host",
                {"id": image_id, "format": meta.get("disk_format")},
            )
            super().copy_image_to_volume(  # type: ignore[misc]
                context, volume, image_service, image_id, disable_sparse=disable_sparse
            )
            return
        image_utils.check_image_conversion_disable(meta["disk_format"], "raw", image_id)
        for left in reversed(range(_TRIES)):
            try:
                with errors.told(_refusals(image_id)):
                    self._stream(context, volume, image_service, meta, sparse=not disable_sparse)
                return
            except exception.VolumeIsBusy:
                # An earlier stream that broke off may be ending yet.
                if not left:
                    raise
                time.sleep(_PAUSE)

    def _stream(
        self, context: Any, volume: Any, image_service: Any, meta: Any, *, sparse: bool
    ) -> None:
        image_format, size = str(meta["disk_format"]), volume["size"] * GIB
        with _opened(context, image_service, meta["id"], meta) as (file, length):
            if image_format in PLAIN and length > size:
                raise exception.ImageTooBig(
                    image_id=meta["id"], reason=f"{length} bytes, the volume has {size}"
                )
            self._write(volume, image_format, file, length, sparse=sparse)

    def _write(
        self, volume: Any, image_format: str, file: Readable, length: int, *, sparse: bool
    ) -> None:
        volume_id, bandwidth = self._volume_id(volume), options.bandwidth(self.configuration)
        if image_format in PLAIN:
            stream = extents_of(file, volume["size"] * GIB, sparse=sparse)
            result = self._client.write_extents(volume_id, stream, bandwidth)
        else:
            result = self._client.write_image(
                volume_id, image_format, _blocks(file), length, bandwidth
            )
        LOG.debug(
            "Volume %(id)s: %(written)d bytes written, %(zeroed)d cleared",
            {
                "id": volume["id"],
                "written": result.get("written", 0),
                "zeroed": result.get("zeroed", 0),
            },
        )

    def copy_volume_to_image(
        self, context: Any, volume: Any, image_service: Any, image_meta: Any
    ) -> None:
        """Streams a volume to the image service, attached or not."""
        image_format = _streamable(image_meta)
        if image_format is None:
            super().copy_volume_to_image(  # type: ignore[misc]
                context, volume, image_service, image_meta
            )
            return
        image_utils.check_image_conversion_disable(
            image_meta["disk_format"], "raw", image_meta["id"], upload=True
        )
        volume_type = volume["volume_type"]
        store = (
            (volume_type["extra_specs"] or {}).get("image_service:store_id")
            if (volume_type)
            else None
        )
        base = (volume["glance_metadata"] or {}).get("image_id")
        with errors.told(), self._content(self._volume_id(volume), image_format) as file:
            image_service.update(
                context, image_meta["id"], {}, file, store_id=store, base_image_ref=base
            )

    @contextlib.contextmanager
    def _content(self, volume: uuid.UUID, image_format: str) -> Iterator[Readable]:
        """What a volume holds; if hosts use it, as it is at one instant."""
        try:
            content = self._read("volume", volume, image_format)
        except Problem as problem:
            if problem.code != "in-use":
                raise
        else:
            with content:
                yield _file(content, image_format)
            return
        still = ids.still_id(volume)
        with contextlib.suppress(Problem):
            # What an upload left that was cut short.
            self._client.delete_snapshot(still)
        self._client.create_snapshot(still, {"name": f"upload-{volume}", "volume": volume})
        try:
            with self._read("snapshot", still, image_format) as content:
                yield _file(content, image_format)
        finally:
            self._client.delete_snapshot(still)

    def _read(self, kind: str, content_of: uuid.UUID, image_format: str) -> Content:
        bandwidth = options.bandwidth(self.configuration)
        if image_format in PLAIN:
            return self._client.read_extents(kind, content_of, bandwidth)
        return self._client.read_image(kind, content_of, image_format, bandwidth)


def _file(content: Content, image_format: str) -> Readable:
    return ExtentsReader(content) if image_format in PLAIN else content


def _streamable(meta: Any) -> str | None:
    """The format of an image that can be streamed."""
    image_format = meta.get("disk_format")
    if meta.get("container_format") == "compressed" or image_format not in PLAIN | FORMATS:
        return None
    return str(image_format)


@contextlib.contextmanager
def _opened(
    context: Any, image_service: Any, image_id: str, meta: Any
) -> Iterator[tuple[Readable, int]]:
    """An image and its length: what was fetched to be looked at, or as it comes."""
    fetched = image_utils.TemporaryImages.for_image_service(image_service).get(context, image_id)
    if fetched:
        with open(fetched, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    chunks = image_service.download(context, image_id)
    yield _Chunks(iter(chunks)), int(meta["size"])


def is_plain_disk(meta: Any) -> bool:
    """Whether a volume that an image is on has the image's disk."""
    return meta.get("container_format") == "bare" and meta.get("disk_format") == "raw"


def volumes_of_image(location: Any, meta: Any) -> Iterator[Any]:
    """Volumes of Cinder's that an image is on, by what the image service says.

    Who may change where an image is could name the volume of somebody else, so it must be the
    image's owner's, or noted as an image of theirs.
    """
    direct, others = location or (None, None)
    urls = [direct, *(other.get("url") for other in others or [])]
    for wanted in dict.fromkeys(filter(None, map(_volume_of_url, urls))):
        try:
            volume = objects.Volume.get_by_id(cinder_context.get_admin_context(), wanted)
        except exception.VolumeNotFound:
            continue
        owners = {volume["project_id"], volume["metadata"].get("image_owner")}
        if not volume["encryption_key_id"] and meta.get("owner") and meta["owner"] in owners:
            yield volume


def _volume_of_url(url: str | None) -> str | None:
    """The volume that ``cinder://VOLUME`` or ``cinder://STORE/VOLUME`` names."""
    match = _VOLUME_URL.fullmatch(url or "")
    return match["volume"] if match and uuidutils.is_uuid_like(match["volume"]) else None


def _refusals(image_id: str) -> dict[str, errors.Maker]:
    def too_big(problem: Problem) -> Exception:
        return exception.ImageTooBig(image_id=image_id, reason=str(problem))

    def unacceptable(problem: Problem) -> Exception:
        return exception.ImageUnacceptable(image_id=image_id, reason=str(problem))

    return {
        "out-of-range": too_big,
        "invalid-field": unacceptable,
        "malformed-request": unacceptable,
    }
