"""What volumes hold, as streams: see "The content of a volume" in ``protocol.cddl``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

from urllib3.exceptions import HTTPError

from ashlar_cinder.client.errors import ProtocolError, UnreachableError

RAW = "application/octet-stream"
EXTENTS = "application/vnd.ashlar.extents"
IMAGE = "application/vnd.ashlar.image"

#: Offsets and lengths are multiples of so many bytes.
ALIGNMENT = 4096
#: Most bytes of one data frame.
MAX_DATA = 1 << 20

_DATA, _ZERO, _HOLE, _END = range(4)
_HEADER = 24
_DIGEST = 32
_SIZE_OF_NUMBER = 8
#: Zeros are looked for in pieces of so many bytes.
_PIECE = 64 << 10
_ZEROS = bytes(MAX_DATA)


class Readable(Protocol):
    """A file, as far as it is needed."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


class Source:
    """A stream that is being sent. Remembers its end, and how it broke, which is no failure of
    sending.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self.failure: Exception | None = None
        self.ended = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
            self.ended = True
        except Exception as error:
            self.failure = error
            raise


class Content:
    """A stream that is being read. Ends its connection with it."""

    def __init__(self, response: Any, pool: Any, lost: Callable[[Exception], Exception]) -> None:
        self._response = response
        self._pool = pool
        self._lost = lost

    def read(self, size: int = MAX_DATA, /) -> bytes:
        """Some of it, as a file would give it; nothing at the end, once all of it has come."""
        try:
            data: bytes = self._response.read(size, decode_content=False)
        except HTTPError as error:
            raise self._lost(error) from error
        return data

    def close(self) -> None:
        """Does without the rest."""
        self._response.close()
        self._pool.close()

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _frame(kind: int, offset: int, length: int) -> bytes:
    numbers = offset.to_bytes(_SIZE_OF_NUMBER, "big") + length.to_bytes(_SIZE_OF_NUMBER, "big")
    return bytes([kind]).ljust(_SIZE_OF_NUMBER, b"\0") + numbers


def _pieces(file: Readable) -> Iterator[bytes]:
    """What a file holds in pieces of one length, but for the last."""
    rest = b""
    while block := file.read(MAX_DATA):
        rest += block
        whole = len(rest) - len(rest) % _PIECE
        for at in range(0, whole, _PIECE):
            yield rest[at : at + _PIECE]
        rest = rest[whole:]
    if rest:
        yield rest


def extents_of(file: Readable, size: int, *, sparse: bool = True) -> Iterator[bytes]:
    """What a file holds, as a stream of extents of a volume of ``size`` bytes.

    Zeros are left out of it when it may be sparse, and the volume reads as zeros there, and behind
    the end of the file. A file longer than the volume is the appliance's to refuse.
    """
    digest = hashlib.sha256()
    at = 0
    # Where zeros began that have not been told yet.
    hole = 0

    def put(part: bytes) -> bytes:
        digest.update(part)
        return part

    for piece in _pieces(file):
        if sparse and piece == _ZEROS[: len(piece)]:
            at += len(piece)
            continue
        if hole < at:
            yield put(_frame(_HOLE, hole, at - hole))
        length = len(piece) + -len(piece) % ALIGNMENT
        yield put(_frame(_DATA, at, length))
        yield put(piece.ljust(length, b"\0"))
        at += length
        hole = at
    at += -at % ALIGNMENT
    end = max(size, at)
    if hole < end:
        yield put(_frame(_HOLE, hole, end - hole))
    yield _frame(_END, end, _DIGEST)
    yield digest.digest()


class ExtentsReader:
    """A stream of extents, read as the bytes that it stands for. Believes nothing that it says."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._at = 0
        # What is before the next frame: zeros, and then data that is to be read from the stream.
        self._zeros = 0
        self._data = 0
        self._ended = False

    def read(self, size: int = MAX_DATA, /) -> bytes:
        """Some of the content; nothing at the end, once the digest was right.

        Of no size, or less than none, all of it.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(MAX_DATA), b""))
        while size:
            if self._zeros:
                length = min(self._zeros, size, MAX_DATA)
                self._zeros -= length
                return _ZEROS[:length]
            if self._data:
                data = self._exactly(min(self._data, size, MAX_DATA))
                self._data -= len(data)
                return data
            if self._ended:
                return b""
            self._next()
        return b""

    def _next(self) -> None:
        header = self._raw(_HEADER)
        kind = header[0]
        offset = int.from_bytes(header[8:16], "big")
        length = int.from_bytes(header[16:24], "big")
        if kind > _END or any(header[1:8]) or offset < self._at:
            raise ProtocolError(f"a stream of extents has no sound frame at {self._at}")
        if kind == _END:
            self._end(offset, length)
            return
        self._digest.update(header)
        aligned = offset % ALIGNMENT == 0 and length % ALIGNMENT == 0
        if not aligned or length == 0 or (kind == _DATA and length > MAX_DATA):
            raise ProtocolError(f"a stream of extents has {length} bytes at {offset}")
        self._zeros = offset - self._at
        self._at = offset + length
        if kind == _DATA:
            self._data = length
        else:
            self._zeros += length

    def _end(self, size: int, length: int) -> None:
        wanted = self._digest.digest()
        found = self._raw(length if length == _DIGEST else 0)
        if found != wanted:
            raise ProtocolError("a stream of extents was changed on the way")
        if self._stream.read(1):
            raise ProtocolError("a stream of extents goes on behind its end")
        self._zeros = size - self._at
        self._at = size
        self._ended = True

    def _exactly(self, size: int) -> bytes:
        data = self._raw(size)
        self._digest.update(data)
        return data

    def _raw(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._stream.read(size)
            if not part:
                raise UnreachableError("a stream of extents broke off")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
