"""CBOR as the protocol has it: definite lengths, no tags, no floats, few levels."""

from __future__ import annotations

import uuid
from typing import Any

import cbor2

#: Most bytes of an answer: a full page of the largest objects is well below.
REPLY_BYTES = 4 << 20

#: Most levels of an answer.
REPLY_DEPTH = 16

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SMALL = 24
_FALSE, _TRUE, _NULL = 20, 21, 22
#: What each additional information says of the bytes that hold the number.
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}


class WireError(ValueError):
    """Bytes that are not CBOR as the protocol has it."""


def encode(value: Any) -> bytes:
    """The bytes of a value; ids may be UUIDs in it."""
    return cbor2.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return value
    raise WireError(f"there is no {type(value).__name__} in the protocol")


def decode(data: bytes, limit: int = REPLY_BYTES, depth: int = REPLY_DEPTH) -> Any:
    """The value of bytes that an appliance sent, which are not believed."""
    if len(data) > limit:
        raise WireError(f"{len(data)} bytes, more than {limit}")
    check(data, depth)
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise WireError(f"not sound: {error}") from error
    _check_keys(value)
    return value


def _check_keys(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_keys(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            # Those of problems are numbers.
            if not isinstance(key, (str, int)):
                raise WireError(f"not sound: a key is {type(key).__name__}")
            _check_keys(item)


def check(data: bytes, depth: int = REPLY_DEPTH) -> None:
    """Looks at the heads alone, so that nothing odd reaches the decoder."""
    at = 0
    # How many items each open array or map still has.
    open_items = [1]
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        major, number, at = _head(data, at)
        if major in (_BYTES, _TEXT):
            at += number
            if at > len(data):
                raise WireError("it ends within a string")
        elif major in (_ARRAY, _MAP):
            count = number * 2 if major == _MAP else number
            if count > len(data) - at:
                raise WireError("it has fewer items than it says")
            if len(open_items) > depth:
                raise WireError(f"more than {depth} levels")
            open_items.append(count)
    if at != len(data):
        raise WireError(f"{len(data) - at} bytes behind the end")


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """A head's major type and number, and what comes after it."""
    if at >= len(data):
        raise WireError("it ends too early")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == _TAG:
        raise WireError("it has a tag")
    if major == _SIMPLE:
        if info not in (_FALSE, _TRUE, _NULL):
            raise WireError(f"it has the simple value or float {info}")
        return major, info, at
    if info < _SMALL:
        return major, info, at
    width = _WIDTHS.get(info)
    if width is None:
        raise WireError("it has an indefinite length")
    if at + width > len(data):
        raise WireError("it ends within a head")
    return major, int.from_bytes(data[at : at + width], "big"), at + width
