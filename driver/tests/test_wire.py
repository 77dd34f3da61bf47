"""Bytes that an appliance sends are not believed."""

from __future__ import annotations

import contextlib
import random
import uuid
from typing import Any

import cbor2
import pytest

from ashlar_cinder.client import wire
from ashlar_cinder.client.errors import Problem, ProtocolError

PROBLEM = {
    -1: "The object does not exist",
    -2: "volume x does not exist",
    -4: 404,
    "urn:ashlar:problem": {
        "code": "not-found",
        "retryable": False,
        "object": {"kind": "volume", "id": uuid.UUID(int=7).bytes},
    },
}


def test_ids_are_bytes_and_nothing_has_a_tag() -> None:
    value = {"id": uuid.UUID(int=1), "many": [uuid.UUID(int=2), 3, "x", True, None]}
    data = wire.encode(value)
    assert wire.decode(data) == {
        "id": uuid.UUID(int=1).bytes,
        "many": [uuid.UUID(int=2).bytes, 3, "x", True, None],
    }
    with pytest.raises(wire.WireError, match="float"):
        wire.encode({"x": 1.5})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too early"),
        (b"\x01\x01", "behind the end"),
        (b"\x9f\xff", "indefinite"),
        (b"\x5f\x41a\xff", "indefinite"),
        (b"\xc1\x00", "tag"),
        (cbor2.dumps(uuid.UUID(int=1)), "tag"),
        (cbor2.dumps(1.5), "float"),
        (b"\xf7", "simple"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "fewer items"),
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "fewer items"),
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "within a string"),
        (b"\x1b\x00", "within a head"),
        (b"\x81" * 17 + b"\x00", "levels"),
        (b"\x61\xff", "not sound"),
        (b"\xa1\x80\x00", "not sound"),
    ],
)
def test_what_is_odd_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(wire.WireError, match=why):
        wire.decode(data)


def test_what_is_long_is_refused() -> None:
    with pytest.raises(wire.WireError, match="more than"):
        wire.decode(bytes(wire.REPLY_BYTES + 1))
    assert wire.decode(b"\x81" * 16 + b"\x00")


def test_a_problem_is_read() -> None:
    problem = Problem.of_bytes(wire.encode(PROBLEM), 404)
    assert problem.code == "not-found"
    assert not problem.retryable
    assert problem.kind == "volume"
    assert problem.object_id == uuid.UUID(int=7)
    assert str(problem) == "volume x does not exist (not-found)"


def test_any_bytes_are_a_value_or_a_refusal() -> None:
    chance = random.Random(1)
    page: Any = {"items": [{"id": bytes(16), "name": "v", "size": 1 << 40}] * 3, "next": "x"}
    for value in (PROBLEM, page):
        sound = bytearray(wire.encode(value))
        for _ in range(5000):
            data = bytearray(sound)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(wire.WireError):
                wire.decode(bytes(data[: chance.randint(0, len(data))]))
            with contextlib.suppress(ProtocolError):
                Problem.of_bytes(bytes(data), 500)
