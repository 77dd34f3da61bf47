"""What Cinder is told when a call fails: one table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from cinder import exception

from ashlar_cinder.client import AshlarError, Problem

#: Makes an exception of a problem.
Maker = Callable[[Problem], Exception]


def _backend(problem: Problem) -> Exception:
    return exception.VolumeBackendAPIException(data=str(problem))


def _input(problem: Problem) -> Exception:
    return exception.InvalidInput(reason=str(problem))


def _missing(problem: Problem) -> Exception:
    if problem.kind == "volume":
        return exception.VolumeNotFound(volume_id=problem.object_id)
    if problem.kind == "snapshot":
        return exception.SnapshotNotFound(snapshot_id=problem.object_id)
    if problem.kind == "group":
        return exception.GroupNotFound(group_id=problem.object_id)
    if problem.kind == "group-snapshot":
        return exception.GroupSnapshotNotFound(group_snapshot_id=problem.object_id)
    return _backend(problem)


def _busy(problem: Problem) -> Exception:
    # The manager puts these back to what they were, which is what is true of them. Their own
    # words are of snapshots whatever it is, so the appliance's are put in their place.
    if problem.kind == "volume":
        return exception.VolumeIsBusy(str(problem), volume_name=problem.object_id)
    if problem.kind == "snapshot":
        return exception.SnapshotIsBusy(str(problem), snapshot_name=problem.object_id)
    return _backend(problem)


#: All codes of the protocol.
TABLE: Mapping[str, Maker] = {
    "malformed-request": _backend,
    "malformed-body": _backend,
    "invalid-field": _input,
    "out-of-range": _input,
    "forbidden": _backend,
    "no-role": _backend,
    "route-not-found": _backend,
    "not-found": _missing,
    "method-not-allowed": _backend,
    "not-acceptable": _backend,
    "already-exists": _backend,
    "duplicate": _backend,
    "request-id-reused": _backend,
    "in-use": _busy,
    "busy": _busy,
    "not-blank": _backend,
    "wrong-state": _backend,
    "frozen": _backend,
    "events-lost": _backend,
    "cancelled": _backend,
    "interrupted": _backend,
    "body-too-large": _backend,
    "unsupported-media-type": _backend,
    "too-many-requests": _backend,
    "internal": _backend,
    "kernel-failed": _backend,
    "unsupported": _backend,
    "targetd-unavailable": _backend,
    "stopping": _backend,
    "no-space": _backend,
    "state-disk-full": _backend,
}


def to_cinder(error: AshlarError, special: Mapping[str, Maker] | None = None) -> Exception:
    """What Cinder is told of an error; ``special`` goes before the table."""
    if not isinstance(error, Problem):
        return exception.VolumeBackendAPIException(data=str(error))
    maker = (special or {}).get(error.code) or TABLE.get(error.code, _backend)
    return maker(error)


@contextlib.contextmanager
def told(special: Mapping[str, Maker] | None = None) -> Iterator[None]:
    """Has Cinder told what goes wrong in it."""
    try:
        yield
    except AshlarError as error:
        raise to_cinder(error, special) from error
