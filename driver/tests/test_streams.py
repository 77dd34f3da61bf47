"""Streams of extents, made here and read here."""

from __future__ import annotations

import hashlib
import io
import random

import pytest

from ashlar_cinder.client.errors import AshlarError, ProtocolError, UnreachableError
from ashlar_cinder.client.streams import ExtentsReader, extents_of

KIB = 1024
MIB = 1 << 20


class Dribble(io.BytesIO):
    """A file that gives little at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000))


def stream(content: bytes, size: int, *, sparse: bool = True) -> bytes:
    return b"".join(extents_of(io.BytesIO(content), size, sparse=sparse))


def frames(data: bytes) -> list[tuple[int, int, int]]:
    """Kind, offset and length of each frame."""
    found = []
    at = 0
    while at < len(data):
        kind, offset, length = data[at], data[at + 8 : at + 16], data[at + 16 : at + 24]
        found.append((kind, int.from_bytes(offset, "big"), int.from_bytes(length, "big")))
        at += 24 + (found[-1][2] if kind in (0, 3) else 0)
    return found


def test_zeros_are_not_sent() -> None:
    content = b"a" * 64 * KIB + bytes(MIB) + b"b" * 10
    data = stream(content, 8 * MIB)
    assert frames(data) == [
        (0, 0, 64 * KIB),
        (2, 64 * KIB, MIB),
        (0, 64 * KIB + MIB, 4 * KIB),
        (2, 68 * KIB + MIB, 7 * MIB - 68 * KIB),
        (3, 8 * MIB, 32),
    ]
    assert len(data) < 80 * KIB
    assert ExtentsReader(Dribble(data)).read(-1) == content.ljust(8 * MIB, b"\0")


def test_zeros_are_sent_where_they_must_be() -> None:
    data = stream(bytes(128 * KIB), 128 * KIB, sparse=False)
    assert [kind for kind, _, _ in frames(data)] == [0, 0, 3]


def test_nothing_is_a_hole() -> None:
    assert frames(stream(b"", MIB)) == [(2, 0, MIB), (3, MIB, 32)]


def test_a_longer_file_is_the_appliance_s_to_refuse() -> None:
    assert frames(stream(b"x" * 2 * MIB, MIB))[-1] == (3, 2 * MIB, 32)


def test_the_digest_is_of_what_comes_before_the_last_frame() -> None:
    data = stream(b"x" * 4096, 4096)
    assert data[-32:] == hashlib.sha256(data[: 24 + 4096]).digest()


def test_what_is_not_spoken_of_reads_as_zeros() -> None:
    frame = bytes(8) + (8192).to_bytes(8, "big") + (4096).to_bytes(8, "big") + b"x" * 4096
    digest = hashlib.sha256(frame).digest()
    end = b"\x03".ljust(8, b"\0") + (16384).to_bytes(8, "big") + (32).to_bytes(8, "big")
    found = ExtentsReader(io.BytesIO(frame + end + digest)).read(-1)
    assert found == bytes(8192) + b"x" * 4096 + bytes(4096)


def test_a_stream_without_its_end_is_not_whole() -> None:
    data = stream(b"x" * 4096, MIB)
    for cut in (0, 10, 24, 100, len(data) - 40, len(data) - 1):
        with pytest.raises(UnreachableError):
            ExtentsReader(io.BytesIO(data[:cut])).read(-1)
    with pytest.raises(ProtocolError, match="behind its end"):
        ExtentsReader(io.BytesIO(data + b"x")).read(-1)


def test_a_changed_stream_is_noticed() -> None:
    content = random.Random(3).randbytes(8192)
    data = stream(content, 64 * KIB)
    chance = random.Random(4)
    for _ in range(2000):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(AshlarError):
            read_some(ExtentsReader(io.BytesIO(bytes(changed))))


def read_some(reader: ExtentsReader) -> None:
    """No more than a sound one has: a length may be a lie."""
    for _ in range(20):
        if not reader.read(64 * KIB):
            return
    raise ProtocolError("it goes on")
