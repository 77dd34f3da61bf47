"""What the appliance answers, as far as it is looked at here. ``protocol.cddl`` has all of it."""

from __future__ import annotations

import sys
import uuid
from typing import TypedDict

if sys.version_info >= (3, 11):
    from typing import NotRequired
else:
    from typing_extensions import NotRequired


class Parent(TypedDict, total=False):
    """What a volume began as: one of the two."""

    volume: bytes | uuid.UUID
    snapshot: bytes | uuid.UUID


class Qos(TypedDict, total=False):
    """What a volume may do in a second."""

    read_iops: int
    write_iops: int
    total_iops: int
    read_bytes: int
    write_bytes: int
    total_bytes: int
    per_gib: bool


class Capabilities(TypedDict):
    """What the appliance can do now."""

    transports: list[str]
    volume_granularity: int
    volume_max: int
    online_extend: bool
    multiattach: bool
    qos: bool


class Frozen(TypedDict):
    """Since when no changes are taken, and why."""

    since: int
    reason: NotRequired[str]


class System(TypedDict):
    """The appliance."""

    id: bytes
    name: str
    version: str
    protocol: int
    capabilities: Capabilities
    frozen: NotRequired[Frozen]


class Pool(TypedDict):
    """A pool; what is measured is known while it is active."""

    id: bytes
    name: str
    state: str
    capacity: NotRequired[int]
    used: NotRequired[int]
    provisioned: int
    thick: int
    over_subscription: int
    reserved: int
    volumes: int
    snapshots: int


class Volume(TypedDict):
    """A volume."""

    id: bytes
    name: str
    owner: NotRequired[str]
    pool: bytes
    size: int
    state: str
    connections: int
    snapshots: int
    parent: NotRequired[Parent]
    group: NotRequired[bytes]
    labels: NotRequired[dict[str, str]]
    qos: NotRequired[Qos]
    provisioning: str


class Snapshot(TypedDict):
    """A snapshot."""

    id: bytes
    name: str
    volume: bytes
    pool: bytes
    size: int
    state: str
    labels: NotRequired[dict[str, str]]
    group: NotRequired[bytes]


class Group(TypedDict):
    """A group of volumes."""

    id: bytes
    name: str
    volumes: list[bytes]
    state: str


class GroupSnapshot(TypedDict):
    """Snapshots of all members of a group, of one instant."""

    id: bytes
    name: str
    group: bytes
    snapshots: list[bytes]
    state: str


class ThinDevice(TypedDict):
    """What a pool holds, whoever made it."""

    thin_id: int
    used: int
    end: int
    volume: NotRequired[bytes]
    snapshot: NotRequired[bytes]
    adoptable: bool
    reason: NotRequired[str]


class Host(TypedDict):
    """A host."""

    id: bytes
    name: str
    iqn: NotRequired[str]
    nqn: NotRequired[str]
    wwpns: NotRequired[list[str]]
    authentication: str
    connections: int


class IscsiAccess(TypedDict):
    """Where an iSCSI host finds a volume."""

    target: str
    lun: int
    portals: list[str]
    serial: str


class FcAccess(TypedDict):
    """Where a host finds a volume on Fibre Channel."""

    ports: list[str]
    lun: int
    serial: str


class NvmeAccess(TypedDict):
    """Where an NVMe host finds a volume."""

    subsystem: str
    nsid: int
    uuid: bytes
    portals: list[str]


class Connection(TypedDict):
    """A volume or a snapshot attached to a host."""

    id: bytes
    volume: NotRequired[bytes]
    snapshot: NotRequired[bytes]
    host: bytes
    transport: str
    access: NotRequired[str]
    state: str
    iscsi: NotRequired[IscsiAccess]
    fc: NotRequired[FcAccess]
    nvme: NotRequired[NvmeAccess]


class JobResult(TypedDict, total=False):
    """What long work came to."""

    written: int
    zeroed: int
    left: int
    sha256: str


class Job(TypedDict):
    """A change that is under way, or was."""

    id: bytes
    operation: str
    state: str
    problem: NotRequired[object]
    result: NotRequired[JobResult]


class Event(TypedDict):
    """Something that happened."""

    id: int
    time: int
    kind: str
    detail: NotRequired[str]
