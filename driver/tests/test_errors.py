"""One table: what Cinder is told of each code."""

from __future__ import annotations

import re
import uuid

import pytest
from cinder import exception

from ashlar_cinder import errors
from ashlar_cinder.client import Problem, ProtocolError, UnreachableError
from tests.contract import PROTOCOL


def test_each_code_of_the_protocol_is_in_it() -> None:
    text = (PROTOCOL / "protocol.cddl").read_text()
    rule = re.search(r"^problem-code =([^;]*)", text, re.MULTILINE)
    assert rule
    codes = set(re.findall(r'"([a-z-]+)"', rule[1]))
    assert len(codes) > 20
    assert set(errors.TABLE) == codes


@pytest.mark.parametrize(
    ("code", "kind", "wanted"),
    [
        ("not-found", "volume", exception.VolumeNotFound),
        ("not-found", "snapshot", exception.SnapshotNotFound),
        ("not-found", "group", exception.GroupNotFound),
        ("not-found", "group-snapshot", exception.GroupSnapshotNotFound),
        ("not-found", "host", exception.VolumeBackendAPIException),
        ("in-use", "volume", exception.VolumeIsBusy),
        ("in-use", "snapshot", exception.SnapshotIsBusy),
        ("busy", "volume", exception.VolumeIsBusy),
        ("busy", "snapshot", exception.SnapshotIsBusy),
        ("in-use", "host", exception.VolumeBackendAPIException),
        ("invalid-field", "volume", exception.InvalidInput),
        ("out-of-range", "volume", exception.InvalidInput),
        ("no-space", "volume", exception.VolumeBackendAPIException),
        ("frozen", "system", exception.VolumeBackendAPIException),
        ("of-a-later-version", None, exception.VolumeBackendAPIException),
    ],
)
def test_what_cinder_is_told(code: str, kind: str | None, wanted: type[Exception]) -> None:
    problem = Problem(code, "because of the weather", kind=kind, object_id=uuid.UUID(int=1))
    with pytest.raises(wanted) as caught, errors.told():
        raise problem
    assert caught.value.__cause__ is problem
    if code != "not-found":
        assert "because of the weather" in str(caught.value)


@pytest.mark.parametrize("error", [UnreachableError("gone"), ProtocolError("nonsense")])
def test_what_is_no_problem_is_the_backend_s(error: Exception) -> None:
    with pytest.raises(exception.VolumeBackendAPIException, match=str(error)), errors.told():
        raise error


def test_what_is_special_goes_first() -> None:
    special = {"in-use": lambda problem: exception.InvalidVolume(reason=str(problem))}
    with pytest.raises(exception.InvalidVolume), errors.told(special):
        raise Problem("in-use", "x", kind="volume")
