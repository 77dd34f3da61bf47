"""The NVMe driver, over TCP or RDMA."""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any, ClassVar

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import configuration
from oslo_config import cfg

from ashlar_cinder import ids, options
from ashlar_cinder.base import AshlarDriver, Protocol
from ashlar_cinder.client.objects import Connection

cfg.CONF.register_opts(options.NVME_OPTIONS, group=configuration.SHARED_CONF_GROUP)

_PORTAL = re.compile(r"\[?(?P<address>[^\]]+)\]?:(?P<port>\d+)")
#: The newer of the two forms that os-brick knows.
_NEWER = 2
#: What os-brick calls each transport in the older form, and in the newer.
_BRICK = {"nvme-tcp": ("tcp", "tcp"), "nvme-rdma": ("rdma", "RoCEv2")}


@interface.volumedriver
class AshlarNVMeDriver(AshlarDriver):
    """Volumes of an Ashlar appliance over NVMe/TCP, or NVMe/RDMA by ``target_protocol``.

    os-brick cannot be given keys for DH-HMAC-CHAP. Hosts are made known to the appliance by an
    operator, with their keys, and are found by their NQNs.
    """

    PROTOCOLS: ClassVar[dict[str, Protocol]] = {
        "nvmet_tcp": Protocol(
            "nvme-tcp", constants.NVMEOF_TCP, "an address under [nvme] in its agent.toml"
        ),
        "nvmet_rdma": Protocol(
            "nvme-rdma",
            constants.NVMEOF_ROCE,
            "an address under [nvme-rdma] in its agent.toml, and a device for RDMA there",
        ),
    }
    HOST_KEY = "nqn"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(options.NVME_OPTIONS)
        self._hosts: dict[str, uuid.UUID] = {}
        self._hosts_lock = threading.Lock()

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        """The options of the base, those of our own, and Cinder's for NVMe."""
        nvme = AshlarDriver._get_oslo_driver_opts("nvmeof_conn_info_version")
        return [*AshlarDriver.get_driver_options(), *options.NVME_OPTIONS, *nvme]

    def _host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        nqn = connector["nqn"]
        with self._hosts_lock:
            return self._hosts.get(nqn, ids.host_id(nqn)), None

    def _new_host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        nqn = connector["nqn"]
        host = self._find_host(nqn) or self._make_host(connector)
        with self._hosts_lock:
            self._hosts[nqn] = host
        return host, None

    def _find_host(self, nqn: str) -> uuid.UUID | None:
        found = next((host for host in self._client.hosts() if host.get("nqn") == nqn), None)
        return uuid.UUID(bytes=found["id"]) if found else None

    def _make_host(self, connector: Any) -> uuid.UUID:
        nqn = connector["nqn"]
        name = str(connector.get("host") or nqn)[:255]
        if self.configuration.ashlar_nvme_authentication != "none":
            raise exception.VolumeBackendAPIException(
                data=f"the appliance does not know {nqn}: make it known with 'ashlarctl host "
                f"create {name} --nqn {nqn}', and give the host the key that this shows"
            )
        host = ids.host_id(nqn)
        spec = {"name": name, "nqn": nqn, "authentication": "none"}
        self._client.create_host(host, spec)
        return host

    def _connection_info(
        self, cinder_id: str, connection: Connection, secrets: Any
    ) -> dict[str, Any]:
        access = connection.get("nvme")
        if not access or not access["portals"]:
            raise exception.VolumeBackendAPIException(
                data="the appliance did not say where the subsystem is"
            )
        older, newer = _BRICK[self._protocol.transport]
        portals = [_address_and_port(portal) for portal in access["portals"]]
        if len(portals) > 1 or self.configuration.nvmeof_conn_info_version == _NEWER:
            data: dict[str, Any] = {
                "target_nqn": access["subsystem"],
                "vol_uuid": str(uuid.UUID(bytes=access["uuid"])),
                "portals": [(address, port, newer) for address, port in portals],
                "ns_id": str(access["nsid"]),
            }
        else:
            [(address, port)] = portals
            data = {
                "target_portal": address,
                "target_port": port,
                "nqn": access["subsystem"],
                "transport_type": older,
                # os-brick compares it with the text that sysfs has.
                "ns_id": str(access["nsid"]),
            }
        return {"driver_volume_type": "nvmeof", "data": data | {"volume_id": cinder_id}}


def _address_and_port(portal: str) -> tuple[str, str]:
    """The two parts of ``ADDRESS:PORT``; os-brick compares the port as text."""
    match = _PORTAL.fullmatch(portal)
    if not match:
        raise exception.VolumeBackendAPIException(data=f"{portal!r} is no portal")
    return match["address"], match["port"]
