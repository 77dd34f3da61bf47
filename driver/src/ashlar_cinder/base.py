"""What the drivers of all transports have in common."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cinder import context as cinder_context
from cinder import exception
from cinder.volume import configuration, driver
from oslo_config import cfg
from oslo_log import log as logging

import ashlar_cinder
from ashlar_cinder import errors, ids, options, specs, stats
from ashlar_cinder.client import AshlarError, Patience, Problem
from ashlar_cinder.client.calls import snapshot_path, volume_path
from ashlar_cinder.client.objects import Connection
from ashlar_cinder.core import LABEL
from ashlar_cinder.groups import Groups
from ashlar_cinder.images import Images, is_plain_disk, volumes_of_image
from ashlar_cinder.manage import Manage
from ashlar_cinder.stats import GIB

LOG = logging.getLogger(__name__)

for known in (options.OPTIONS, options.OLDER_OPTIONS):
    cfg.CONF.register_opts(known, group=configuration.SHARED_CONF_GROUP)

#: The version of the protocol that is spoken.
PROTOCOL = 1
#: What is asked every minute is not repeated for longer than this.
_SHORTLY = Patience(10.0)
#: What is so only of volumes and snapshots that are there.
_LASTING = frozenset({"available", "in-use", "reserved", "maintenance"})
#: Why an image's volume is not cloned that may be copied: gone, busy, or of another pool or size.
_NOT_CLONED = (exception.VolumeNotFound, exception.VolumeIsBusy, exception.InvalidInput)
#: How often a move is begun that is cut short.
_MOVES = 3


@dataclass(frozen=True)
class Protocol:
    """How hosts reach volumes."""

    #: What the appliance calls it.
    transport: str
    #: What Cinder's scheduler calls it.
    storage_protocol: str
    #: What has to be so on an appliance that does not serve it.
    needs: str


class AshlarDriver(Images, Groups, Manage, driver.VolumeDriver):
    """Volumes of an Ashlar appliance; a transport's driver says how hosts reach them.

    Nothing is kept here that the appliance does not know, so that several of these may serve one
    backend, and one that is killed leaves nothing to be mended.
    """

    VERSION = ashlar_cinder.__version__
    SUPPORTS_ACTIVE_ACTIVE = True

    #: By what ``target_protocol`` says; the first unless that is set.
    PROTOCOLS: ClassVar[Mapping[str, Protocol]]
    #: What a connector has the host's name under.
    HOST_KEY = ""
    #: Whether hosts can be kept from writing to what they are attached to.
    ONLY_READS = False

    _stats: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(options.OPTIONS)
        self.configuration.append_config_values(options.OLDER_OPTIONS)
        self._protocol = next(iter(self.PROTOCOLS.values()))

    # ---- Setting up ----------------------------------------------------------------------------

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        """The options of our own, and those of Cinder's that mean something to us."""
        generic = driver.BaseVD._get_oslo_driver_opts(*options.GENERIC)
        return [*options.OPTIONS, *generic]

    def do_setup(self, context: Any) -> None:
        """Reads the configuration; nothing is asked of the appliance yet."""
        spoken = options.target_protocol(self.configuration, list(self.PROTOCOLS))
        self._protocol = self.PROTOCOLS[spoken]
        options.check_storage_protocol(self.configuration, self._protocol.storage_protocol)
        options.say_what_is_ignored(self.configuration)
        self._connect_to_appliance()
        options.say_what_waits(self._clear)

    def check_for_setup_error(self) -> None:
        """Looks whether the appliance is there, and is what this driver can use."""
        with errors.told():
            system = self._client.system()
            pools = self._own_pools(self._client.pools())
        if system["protocol"] != PROTOCOL:
            raise exception.VolumeBackendAPIException(
                data=f"{self._client.endpoint} speaks version {system['protocol']} of the "
                f"protocol, this driver version {PROTOCOL}"
            )
        transports = system["capabilities"]["transports"]
        if self._protocol.transport not in transports:
            raise exception.VolumeBackendAPIException(
                data=f"{self._client.endpoint} serves {', '.join(transports) or 'nothing'}, not "
                f"{self._protocol.transport}: that takes {self._protocol.needs}"
            )
        missing = set(self.configuration.ashlar_pools) - {pool["name"] for pool in pools}
        if missing:
            raise exception.InvalidConfigurationValue(
                option="ashlar_pools", value=", ".join(sorted(missing))
            )
        self._known = system
        LOG.info(
            "Appliance %(name)s at %(endpoint)s runs Ashlar %(version)s",
            {
                "name": system["name"],
                "endpoint": self._client.endpoint,
                "version": system["version"],
            },
        )

    def _init_vendor_properties(self) -> tuple[dict[str, Any], str]:
        properties: dict[str, Any] = {}
        self._set_property(
            properties,
            "ashlar:provisioning",
            "Provisioning",
            "Whether the whole size of a volume is kept for it in its pool.",
            "string",
            enum=["thin", "thick"],
            default="thin",
        )
        return properties, "ashlar"

    # ---- Statistics ----------------------------------------------------------------------------

    def _update_volume_stats(self) -> None:
        """One request, however many volumes there are."""
        functions = (self.get_filter_function(), self.get_goodness_function())
        try:
            pools = self._own_pools(self._client.pools(patience=_SHORTLY))
        except AshlarError as error:
            if not self._stats:
                raise errors.to_cinder(error) from error
            LOG.error("The appliance is down for the scheduler: %s", error)
            for pool in self._stats["pools"]:
                pool["backend_state"] = "down"
            return
        self._stats = stats.of_backend(
            self.configuration,
            self._system,
            pools,
            storage_protocol=self._protocol.storage_protocol,
            functions=functions,
            version=self.VERSION,
        )

    def get_pool(self, volume: Any) -> str | None:
        """The name of the pool that a volume is in."""
        with errors.told():
            return self._pool_name(self._client.volume(self._volume_id(volume))["pool"])

    def update_provider_info(self, volumes: Any, snapshots: Any) -> tuple[None, None]:
        """At each start, says what Cinder has that the appliance does not.

        There is nothing to be told: Cinder knows already what things are called there.
        """
        try:
            there = {
                "Volume": {volume["id"] for volume in self._client.volumes()},
                "Snapshot": {snapshot["id"] for snapshot in self._client.snapshots()},
            }
        except AshlarError as error:
            # What Cinder does next says so to whom it concerns.
            LOG.warning("What the appliance has was not compared with what Cinder has: %s", error)
            return None, None
        wanted = [("Volume", volume, self._volume_id(volume)) for volume in volumes]
        wanted += [("Snapshot", snapshot, self._snapshot_id(snapshot)) for snapshot in snapshots]
        for kind, one, own_id in wanted:
            if own_id.bytes not in there[kind] and _is_lasting(one):
                LOG.error(
                    "%(kind)s %(id)s is %(status)s for Cinder, and the appliance has no %(own)s: "
                    "it was removed there, or the appliance lost it",
                    {"kind": kind, "id": one["id"], "status": one["status"], "own": own_id},
                )
        return None, None

    # ---- Volumes -------------------------------------------------------------------------------

    def create_volume(self, volume: Any) -> None:
        """Makes an empty volume."""
        self._create(volume)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        """Makes a volume that begins as a snapshot, larger if asked for; copies nothing."""
        self._create(volume, source={"snapshot": self._snapshot_id(snapshot)})

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        """Makes a volume that begins as another is now, larger if asked for; copies nothing."""
        self._create(volume, source={"volume": self._volume_id(src_vref)})

    def clone_image(
        self,
        context: Any,
        volume: Any,
        image_location: Any,
        image_meta: Any,
        image_service: Any,
    ) -> tuple[None, bool]:
        """Clones the volume that a raw image is on, of whichever backend of the appliance it is.

        Cinder does so by itself only where both volumes are of one backend. As it does, this
        asks the operator's leave to go by what the image service says of locations. An image is
        copied where its volume cannot be cloned, and not where no volume can be made.
        """
        if "cinder" not in cfg.CONF.allowed_direct_url_schemes or not is_plain_disk(image_meta):
            return None, False
        for source in volumes_of_image(image_location, image_meta):
            try:
                self.create_cloned_volume(volume, source)
            except _NOT_CLONED as error:
                LOG.warning(
                    "Image %(image)s is not cloned from volume %(source)s: %(error)s",
                    {"image": image_meta["id"], "source": source["id"], "error": error},
                )
            else:
                return None, True
        return None, False

    def _create(self, volume: Any, source: dict[str, uuid.UUID] | None = None) -> None:
        spec = self._new_volume(volume)
        if source:
            spec["source"] = source
        volume_id = self._volume_id(volume)
        with errors.told():
            self._client.create_volume(volume_id, spec)
            try:
                self._join_group(volume, volume_id)
            except AshlarError:
                self._client.delete_volume(volume_id)
                raise

    def delete_volume(self, volume: Any) -> None:
        """Destroys a volume, clears it before if configured so; it may be gone already."""
        with errors.told():
            [refused] = self._delete_volumes([self._volume_id(volume)])
            if refused is not None:
                raise refused

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grows a volume, attached or not."""
        with errors.told():
            self._client.extend_volume(self._volume_id(volume), new_size * GIB)

    def accept_transfer(self, context: Any, volume: Any, new_user: str, new_project: str) -> None:
        """Notes whose a volume is from now on."""
        with errors.told():
            self._client.transfer_volume(self._volume_id(volume), new_project)

    def retype(
        self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any
    ) -> tuple[bool, dict[str, Any] | None]:
        """Changes limits, provisioning and pool, all beneath connections."""
        here, there = self._pool_id(volume["host"]), self._pool_id(host["host"])
        volume_id = self._volume_id(volume)
        with errors.told():
            self._client.update_volume(volume_id, specs.of_type(new_type).to_update())
            if here != there:
                try:
                    self._move(volume_id, there)
                except AshlarError:
                    # It stays what it was as well as where it was.
                    before = specs.of_type(volume["volume_type"])
                    self._client.update_volume(volume_id, before.to_update())
                    raise
        return True, None

    def migrate_volume(
        self, context: Any, volume: Any, host: Any
    ) -> tuple[bool, dict[str, Any] | None]:
        """Brings a volume to another pool of the same appliance; others are Cinder's to reach."""
        place = stats.parse_location(host.get("capabilities", {}).get("location_info"))
        if place is None or place[0].bytes != self._system["id"]:
            return False, None
        volume_id = self._volume_id(volume)
        with errors.told():
            if self._client.volume(volume_id)["pool"] != place[1].bytes:
                self._move(volume_id, place[1])
        return True, None

    def _move(self, volume: uuid.UUID, pool: uuid.UUID) -> None:
        bandwidth = options.bandwidth(self.configuration)
        for left in reversed(range(_MOVES)):
            try:
                self._client.move_volume(volume, pool, bandwidth)
                return
            except Problem as problem:
                # An agent that stops ends its moves, which left the volume where it was.
                if problem.code != "interrupted" or not left:
                    raise
                LOG.info("Volume %s is on its way to pool %s again", volume, pool)

    def update_migrated_volume(
        self, ctxt: Any, volume: Any, new_volume: Any, original_volume_status: str
    ) -> dict[str, Any]:
        """Ids do not change on the appliance, so Cinder notes which one it is now."""
        return {"_name_id": new_volume["name_id"]}

    # ---- Snapshots -----------------------------------------------------------------------------

    def create_snapshot(self, snapshot: Any) -> None:
        """Takes a snapshot."""
        spec = {
            "name": snapshot["name"],
            "volume": self._volume_id(snapshot["volume"]),
            "labels": {LABEL: snapshot["id"]},
        }
        with errors.told():
            self._client.create_snapshot(self._snapshot_id(snapshot), spec)

    def delete_snapshot(self, snapshot: Any) -> None:
        """Destroys a snapshot; it may be gone already."""
        snapshot_id = self._snapshot_id(snapshot)
        with errors.told():
            attached = volume_path(ids.attached_id(snapshot_id))
            [refused] = self._delete([(snapshot_path(snapshot_id), attached)])
            if refused is not None:
                raise refused

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Gives a volume the content of a snapshot in place; copies nothing."""
        with errors.told():
            self._client.revert_volume(self._volume_id(volume), self._snapshot_id(snapshot))

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """A revert happens whole or not at all, so nothing has to be kept for going back."""
        return False

    # ---- Exports: a connection is all that a host needs ----------------------------------------

    def ensure_export(self, context: Any, volume: Any) -> None:
        """The appliance serves what it served before by itself."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Nothing is to be done before a host connects."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Nothing is left of a host that was disconnected, and other hosts may be connected."""

    def create_export_snapshot(self, context: Any, snapshot: Any, connector: Any) -> None:
        """Makes what is attached in place of a snapshot, unless it is itself; copies nothing."""
        if self.ONLY_READS:
            return
        snapshot_id = self._snapshot_id(snapshot)
        spec = {
            "name": f"{snapshot['name']}-attached",
            "pool": self._pool_id(snapshot["volume"]["host"]),
            "source": {"snapshot": snapshot_id},
        }
        with errors.told():
            self._client.create_volume(ids.attached_id(snapshot_id), spec)

    def remove_export_snapshot(self, context: Any, snapshot: Any) -> None:
        """Destroys that volume, also one of before an upgrade, when there was always one."""
        with errors.told():
            try:
                self._client.delete_volume(ids.attached_id(self._snapshot_id(snapshot)))
            except Problem as problem:
                if problem.code != "not-found":
                    raise

    # ---- Connections ---------------------------------------------------------------------------

    def validate_connector(self, connector: Any) -> None:
        """Looks whether the host has a name that this transport knows it by."""
        if not connector.get(self.HOST_KEY):
            raise exception.InvalidConnectorException(missing=self.HOST_KEY)

    def _host_name(self, connector: Any) -> str:
        """What this transport knows a host by; nothing if it has no such name."""
        return str(connector.get(self.HOST_KEY) or "")

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> dict[str, Any]:
        """Attaches a volume to a host."""
        return self._connect(volume["id"], self._volume_id(volume), connector)

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> bool:
        """Detaches a volume from a host, or from all; whether the host still needs it."""
        if connector and self._attached_again(volume, connector):
            return True
        self._disconnect(self._volume_id(volume), connector, force=bool(kwargs.get("force")))
        return False

    def initialize_connection_snapshot(
        self, snapshot: Any, connector: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Attaches a snapshot to a host, or what stands for it where it could be written."""
        snapshot_id = self._snapshot_id(snapshot)
        if self.ONLY_READS:
            return self._connect(snapshot["id"], snapshot_id, connector, snapshot=True)
        return self._connect(snapshot["id"], ids.attached_id(snapshot_id), connector)

    def terminate_connection_snapshot(self, snapshot: Any, connector: Any, **kwargs: Any) -> None:
        """Detaches it again."""
        snapshot_id = self._snapshot_id(snapshot)
        force = bool(kwargs.get("force"))
        if self.ONLY_READS and self._disconnect(snapshot_id, connector, force=force, snapshot=True):
            return
        # Here, also what was attached before an upgrade.
        self._disconnect(ids.attached_id(snapshot_id), connector, force=force)

    def _attached_again(self, volume: Any, connector: Any) -> bool:
        """Whether other attachments of the volume are to the same host.

        The one that is being ended is still among them.
        """
        name = self._host_name(connector)
        same = [
            attachment
            for attachment in volume["volume_attachment"] or []
            if self._host_name(attachment["connector"] or {}) == name
        ]
        return bool(name) and len(same) > 1

    def _connect(
        self, cinder_id: str, wanted: uuid.UUID, connector: Any, *, snapshot: bool = False
    ) -> dict[str, Any]:
        self.validate_connector(connector)
        name = self._host_name(connector)
        access, secrets = self._host_access(connector)
        transport = self._protocol.transport
        connection_id = ids.connection_id(wanted, name, transport)
        attach = (
            self._client.create_snapshot_connection if snapshot else self._client.create_connection
        )
        with errors.told():
            try:
                connection = attach(connection_id, wanted, access, transport)
            except Problem as problem:
                if problem.code != "not-found" or problem.kind != "host":
                    raise
                access, secrets = self._new_host_access(connector)
                connection = attach(connection_id, wanted, access, transport)
        return self._connection_info(cinder_id, connection, secrets)

    def _disconnect(
        self, wanted: uuid.UUID, connector: Any, *, force: bool, snapshot: bool = False
    ) -> bool:
        """Whether that was all there could be."""
        with errors.told():
            try:
                if not connector and snapshot:
                    self._detach_all_of_snapshot(wanted)
                    return False
                if not connector:
                    self._client.detach_all(wanted)
                elif connector.get(self.HOST_KEY):
                    self._disconnect_host(wanted, self._host_name(connector), force=force)
                else:
                    # Such a host was never connected.
                    LOG.warning("A connector without %s was never connected", self.HOST_KEY)
            except Problem as problem:
                if problem.code != "not-found":
                    raise
                return False
        return True

    def _detach_all_of_snapshot(self, snapshot: uuid.UUID) -> None:
        for connection in self._client.connections(snapshot=snapshot):
            try:
                self._client.delete_connection(uuid.UUID(bytes=connection["id"]), force=True)
            except Problem as problem:
                # Somebody else may have been faster.
                if problem.code != "not-found":
                    raise

    def _disconnect_host(self, wanted: uuid.UUID, name: str, *, force: bool) -> None:
        """By every protocol: ``target_protocol`` may have been changed since.

        The present one comes last: a host cannot be forced off one while it keeps another.
        """
        missing: Problem | None = None
        found = False
        served = self._known["capabilities"]["transports"] if self._known else []
        others = [one for one in self.PROTOCOLS.values() if one != self._protocol]
        there = [one for one in others if one.transport in served]
        # What the appliance serves no more is asked for only when there is nothing else.
        gone = [one for one in others if one.transport not in served]
        for protocol in [*there, self._protocol, *gone]:
            if found and protocol in gone:
                break
            connection = ids.connection_id(wanted, name, protocol.transport)
            try:
                own = protocol == self._protocol
                self._delete_connection(connection, name, force=force and own)
                found = True
            except Problem as problem:
                if problem.code != "not-found":
                    raise
                missing = missing or problem
        if missing is not None and not found:
            raise missing

    def _delete_connection(self, connection: uuid.UUID, name: str, *, force: bool) -> None:
        try:
            self._client.delete_connection(connection, force=force)
        except Problem as problem:
            if problem.code != "in-use":
                raise
            # Cinder forgets the attachment, so the host must not keep the volume.
            LOG.warning("Host %s has not logged out and is cut off: %s", name, problem)
            self._client.delete_connection(connection, force=True)

    # ---- What a transport does its own way -----------------------------------------------------

    def _host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        """The host that a connector is likely to be, and its secrets; asks nobody."""
        raise NotImplementedError

    def _new_host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        """The same once the appliance does not know that host: makes it known, or finds it."""
        raise NotImplementedError

    def _connection_info(
        self, cinder_id: str, connection: Connection, secrets: Any
    ) -> dict[str, Any]:
        """What os-brick is told."""
        raise NotImplementedError


def _is_lasting(one: Any) -> bool:
    """Whether a volume or snapshot is to be there. Cinder is asked once more: another service may
    have been destroying it, and some time has passed since.
    """
    if one["status"] not in _LASTING:
        return False
    try:
        now = type(one).get_by_id(cinder_context.get_admin_context(), one["id"])
    except exception.NotFound:
        return False
    return now["status"] in _LASTING
