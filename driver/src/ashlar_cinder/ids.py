"""What things are called on the appliance.

A volume has the id that Cinder has for it, a snapshot likewise. What Cinder has no id for gets one
that follows from what it is of, so that whoever asks again, after a restart or beside us, asks for
the same.
"""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("5f1c1c52-8a35-4d5e-9d0a-1f2f4f2b7c61")


def _of(*words: object) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, " ".join(str(word) for word in words))


def host_id(name: str) -> uuid.UUID:
    """A host, by its IQN, its NQN or its WWPNs."""
    return _of("host", name)


def connection_id(wanted: uuid.UUID, host: str, transport: str) -> uuid.UUID:
    """The one connection of a volume or a snapshot, a host by its name, and a transport."""
    return _of("connection", wanted, host, transport)


def attached_id(snapshot: uuid.UUID) -> uuid.UUID:
    """The volume that is attached in the place of a snapshot."""
    return _of("attached", snapshot)


def still_id(volume: uuid.UUID) -> uuid.UUID:
    """The snapshot that is read of a volume while hosts use it."""
    return _of("still", volume)
