"""Why a call failed."""

from __future__ import annotations

import uuid
from typing import Any

from ashlar_cinder.client import wire

_DETAIL = -2
_ENTRY = "urn:ashlar:problem"


class AshlarError(Exception):
    """The appliance said no, was not reached, or made no sense."""


class UnreachableError(AshlarError):
    """The appliance was not reached, or was lost. Whether a change was made is not known."""


class ProtocolError(AshlarError):
    """What came back is not what the protocol says."""


class Problem(AshlarError):  # noqa: N818 - that is what the protocol calls it
    """The appliance said no. Nothing was changed, unless the detail says so."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 0,
        retryable: bool = False,
        kind: str | None = None,
        object_id: uuid.UUID | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.status = status
        self.retryable = retryable
        self.kind = kind
        self.object_id = object_id

    @classmethod
    def of_map(cls, problem: Any, status: int = 0) -> Problem:
        """A problem as it stands in an answer or a job."""
        try:
            entry = problem[_ENTRY]
            about = entry.get("object")
            return cls(
                str(entry["code"]),
                str(problem.get(_DETAIL, "")),
                status=status,
                retryable=bool(entry["retryable"]),
                kind=str(about["kind"]) if about else None,
                object_id=uuid.UUID(bytes=bytes(about["id"])) if about else None,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ProtocolError(f"status {status} came with something else than a problem") from (
                error
            )

    @classmethod
    def of_bytes(cls, data: bytes, status: int) -> Problem:
        """A problem as the body of an answer."""
        try:
            problem = wire.decode(data)
        except wire.WireError as error:
            raise ProtocolError(f"status {status} came without a problem: {error}") from error
        return cls.of_map(problem, status)
