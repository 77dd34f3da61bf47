"""The NVMe/TCP driver."""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import configuration
from oslo_config import cfg

from ashlar_cinder import ids, options
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client.objects import Connection

cfg.CONF.register_opts(options.NVME_OPTIONS, group=configuration.SHARED_CONF_GROUP)

_PORTAL = re.compile(r"\[?(?P<address>[^\]]+)\]?:(?P<port>\d+)")
#: The newer of the two forms that os-brick knows.
_NEWER = 2


@interface.volumedriver
class AshlarNVMeDriver(AshlarDriver):
    """Volumes of an Ashlar appliance over NVMe/TCP.

    os-brick cannot be given keys for DH-HMAC-CHAP. Hosts are made known to the appliance by an
    operator, with their keys, and are found by their NQNs.
    """

    STORAGE_PROTOCOL = constants.NVMEOF_TCP
    TRANSPORT = "nvme-tcp"
    TARGET_PROTOCOL = "nvmet_tcp"
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
        portals = [_address_and_port(portal) for portal in access["portals"]]
        if len(portals) > 1 or self.configuration.nvmeof_conn_info_version == _NEWER:
            data: dict[str, Any] = {
                "target_nqn": access["subsystem"],
                "vol_uuid": str(uuid.UUID(bytes=access["uuid"])),
                "portals": [(address, port, "tcp") for address, port in portals],
                "ns_id": access["nsid"],
            }
        else:
            [(address, port)] = portals
            data = {
                "target_portal": address,
                "target_port": port,
                "nqn": access["subsystem"],
                "transport_type": "tcp",
                "ns_id": access["nsid"],
            }
        return {"driver_volume_type": "nvmeof", "data": data | {"volume_id": cinder_id}}


def _address_and_port(portal: str) -> tuple[str, str]:
    """The two parts of ``ADDRESS:PORT``; os-brick compares the port as text."""
    match = _PORTAL.fullmatch(portal)
    if not match:
        raise exception.VolumeBackendAPIException(data=f"{portal!r} is no portal")
    return match["address"], match["port"]
