"""The Fibre Channel driver."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from cinder import coordination, exception, interface
from cinder.common import constants
from cinder.volume import configuration, manager
from cinder.zonemanager import utils as zones
from oslo_log import log as logging

from ashlar_cinder import errors, ids
from ashlar_cinder.base import AshlarDriver, Protocol
from ashlar_cinder.client import Problem
from ashlar_cinder.client.objects import Connection

LOG = logging.getLogger(__name__)

_KIND = "fibre_channel"


@interface.volumedriver
class AshlarFCDriver(AshlarDriver):
    """Volumes of an Ashlar appliance over Fibre Channel.

    Hosts are known by their ports and prove nothing: who is in a zone with the appliance is
    trusted.
    """

    PROTOCOLS: ClassVar[dict[str, Protocol]] = {
        "fc": Protocol("fc", constants.FC, "a port under [fc] in its agent.toml"),
    }
    HOST_KEY = "wwpns"
    ONLY_READS = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hosts: dict[str, uuid.UUID] = {}
        self._hosts_lock = threading.Lock()

    # ---- Hosts ---------------------------------------------------------------------------------

    def _host_name(self, connector: Any) -> str:
        # os-brick lists ports as sysfs does, which may be in another order after a boot.
        return " ".join(_ports(connector.get(self.HOST_KEY)))

    def _host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        name = self._host_name(connector)
        with self._hosts_lock:
            return self._hosts.get(name, ids.host_id(name)), None

    def _new_host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        name = self._host_name(connector)
        wwpns = name.split()
        host = ids.host_id(name)
        # Not called what the host calls itself, which may change.
        spec = {"name": f"fc {wwpns[0]}", "wwpns": wwpns, "authentication": "none"}
        with errors.told():
            try:
                self._client.create_host(host, spec)
            except Problem as problem:
                if problem.code != "duplicate":
                    raise
                host = self._host_of_others(wwpns)
        with self._hosts_lock:
            self._hosts[name] = host
        return host, None

    def _host_of_others(self, wwpns: list[str]) -> uuid.UUID:
        """A host that somebody else made known, or that shows other ports since: os-brick lists
        those that are up, and a cable may have been out when it was made known.
        """
        wanted = set(wwpns)
        known = {
            uuid.UUID(bytes=there["id"]): set(there.get("wwpns", []))
            for there in self._client.hosts()
        }
        host = max(known, key=lambda host: len(known[host] & wanted), default=None)
        if host is None or not known[host] & wanted:
            name = " ".join(wwpns)
            raise exception.VolumeBackendAPIException(data=f"host {name} came and went")
        if missing := sorted(wanted - known[host]):
            LOG.warning(
                "The appliance does not know %s as ports of host %s, which has its volumes by the "
                "others only, until it has none, is deleted there and made known anew",
                ", ".join(missing),
                host,
            )
        return host

    # ---- Connections ---------------------------------------------------------------------------

    def _connect(
        self, cinder_id: str, wanted: uuid.UUID, connector: Any, *, snapshot: bool = False
    ) -> dict[str, Any]:
        self.validate_connector(connector)
        with _alone(connector[self.HOST_KEY]):
            info = super()._connect(cinder_id, wanted, connector, snapshot=snapshot)
            ports = _ports(connector[self.HOST_KEY])
            targets = info["data"]["target_wwn"]
            info["data"]["initiator_target_map"] = dict.fromkeys(ports, targets)
            zones.add_fc_zone(info)
        return info

    def _disconnect(
        self, wanted: uuid.UUID, connector: Any, *, force: bool, snapshot: bool = False
    ) -> bool:
        if not _zoned():
            return super()._disconnect(wanted, connector, force=force, snapshot=snapshot)
        with errors.told():
            hosts = self._hosts_of(wanted, connector, snapshot=snapshot)
        every_port = [port for ports, _ in hosts.values() for port in ports]
        with _alone(every_port):
            done = super()._disconnect(wanted, connector, force=force, snapshot=snapshot)
            with errors.told():
                for host, (ports, targets) in hosts.items():
                    self._close_zones(host, ports, targets)
        return done

    def _disconnect_host(self, wanted: uuid.UUID, name: str, *, force: bool) -> None:
        try:
            super()._disconnect_host(wanted, name, force=force)
        except Problem as problem:
            # Other ports may have been up when it was connected.
            connections = self._of_overlapping(wanted, name) if problem.code == "not-found" else []
            if not connections:
                raise
            for connection in connections:
                self._delete_connection(connection, name, force=force)

    def _of_overlapping(self, wanted: uuid.UUID, name: str) -> list[uuid.UUID]:
        """Connections of a volume or snapshot to hosts with one of these ports."""
        asked = set(name.split())
        of_both = [
            *self._client.connections(volume=wanted),
            *self._client.connections(snapshot=wanted),
        ]
        return [
            uuid.UUID(bytes=connection["id"])
            for connection in of_both
            if "fc" in connection
            and asked & set(self._client.host(uuid.UUID(bytes=connection["host"])).get("wwpns", []))
        ]

    def _hosts_of(
        self, wanted: uuid.UUID, connector: Any, *, snapshot: bool
    ) -> dict[uuid.UUID, tuple[list[str], list[str]]]:
        """Hosts that are to lose a connection: the ports of each, and those of the appliance."""
        asked = set(_ports((connector or {}).get(self.HOST_KEY)))
        of = {"snapshot": wanted} if snapshot else {"volume": wanted}
        targets = {
            uuid.UUID(bytes=connection["host"]): connection["fc"]["ports"]
            for connection in self._client.connections(**of)
            if "fc" in connection
        }
        found: dict[uuid.UUID, tuple[list[str], list[str]]] = {}
        for host, ports in targets.items():
            known = self._client.host(host).get("wwpns", [])
            if not connector or asked & set(known):
                found[host] = (known, ports)
        return found

    def _close_zones(self, host: uuid.UUID, ports: list[str], targets: list[str]) -> None:
        """Ends a host's zones, unless it has other volumes."""
        try:
            if self._client.host(host)["connections"]:
                return
        except Problem as problem:
            # It was forgotten meanwhile, as it had nothing.
            if problem.code != "not-found":
                raise
        LOG.info("Host %s has no volumes left, and leaves its zones", host)
        data = {"target_wwn": targets, "initiator_target_map": dict.fromkeys(ports, targets)}
        zones.remove_fc_zone({"driver_volume_type": _KIND, "data": data})

    def _connection_info(
        self, cinder_id: str, connection: Connection, secrets: Any
    ) -> dict[str, Any]:
        access = connection.get("fc")
        if not access or not access["ports"]:
            raise exception.VolumeBackendAPIException(
                data="the appliance did not say at which of its ports the volume is"
            )
        # Whether it may be discarded, and only be read, Cinder adds by itself.
        data = {
            "target_discovered": False,
            "target_wwn": access["ports"],
            "target_lun": access["lun"],
            "volume_id": cinder_id,
        }
        return {"driver_volume_type": _KIND, "data": data}


def _ports(names: Iterable[str] | None) -> list[str]:
    """Names of ports as the appliance writes them, in order."""
    plain = {name.lower().removeprefix("0x").replace(":", "") for name in names or []}
    return sorted(plain)


def _zoned() -> bool:
    """Whether Cinder makes zones, for all backends."""
    options = configuration.Configuration(manager.volume_manager_opts)
    return bool(options.safe_get("zoning_mode") == "fabric")


@contextlib.contextmanager
def _alone(ports: Iterable[str]) -> Iterator[None]:
    """Whoever attaches and detaches volumes of a host does so alone where that changes its zones:
    they are of the host, and not of one of its volumes.
    """
    with contextlib.ExitStack() as held:
        for port in _ports(ports) if _zoned() else []:
            held.enter_context(coordination.COORDINATOR.get_lock(f"ashlar-fc-{port}"))
        yield
