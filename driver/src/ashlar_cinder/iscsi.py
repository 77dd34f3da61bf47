"""The iSCSI driver, over TCP or RDMA."""

from __future__ import annotations

import secrets as random
import string
import threading
import uuid
from typing import Any, ClassVar

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import driver_utils
from oslo_log import log as logging

from ashlar_cinder import errors, ids, options
from ashlar_cinder.base import AshlarDriver, Protocol
from ashlar_cinder.client import Problem
from ashlar_cinder.client.objects import Connection

LOG = logging.getLogger(__name__)

_SECRET = "chap_secret"  # noqa: S105 - the name that Cinder keeps it under
_SECRET_LENGTH = 16
_LETTERS = string.ascii_letters + string.digits


@interface.volumedriver
class AshlarISCSIDriver(AshlarDriver):
    """Volumes of an Ashlar appliance over iSCSI, or iSER by ``target_protocol``.

    With ``use_chap_auth`` each host has a CHAP secret of its own, which Cinder keeps among its
    initiator data, or all have ``chap_password``.
    """

    PROTOCOLS: ClassVar[dict[str, Protocol]] = {
        "iscsi": Protocol("iscsi", constants.ISCSI, "an address under [iscsi] in its agent.toml"),
        "iser": Protocol(
            "iser",
            constants.ISER,
            "an address under [iser] in its agent.toml, and a device for RDMA there",
        ),
    }
    HOST_KEY = "initiator"
    ONLY_READS = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chap: options.Chap | None = None
        # Hosts that were looked at, and whether they prove who they are.
        self._hosts: dict[str, tuple[uuid.UUID, bool]] = {}
        self._hosts_lock = threading.Lock()

    @staticmethod
    def get_driver_options() -> list[Any]:
        """The options of the base, and Cinder's for CHAP."""
        chap = AshlarDriver._get_oslo_driver_opts("use_chap_auth", "chap_username", "chap_password")
        return [*AshlarDriver.get_driver_options(), *chap]

    def do_setup(self, context: Any) -> None:
        """Reads the configuration."""
        self._chap = options.chap(self.configuration)
        if self._chap is None:
            LOG.warning("use_chap_auth is not set: iSCSI hosts are let in by their names alone")
        super().do_setup(context)

    def _host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        iqn = connector["initiator"]
        with self._hosts_lock:
            known = self._hosts.get(iqn)
        if known is None:
            # Once for each host: its secret may have been configured anew.
            return self._new_host_access(connector)
        host, authenticates = known
        return host, self._credentials(iqn) if authenticates else None

    def _credentials(self, iqn: str) -> dict[str, str] | None:
        """What the host proves, as the appliance has it."""
        if self._chap is None:
            return None
        secret = self._chap.secret or self._kept_secret(iqn)
        return {"name": self._chap.name or iqn, "secret": secret}

    def _kept_secret(self, iqn: str) -> str:
        """The host's own secret. Kept before it is used, so that it is never lost."""
        # One appliance has one secret for a host, whichever backend asks.
        namespace = f"ashlar-{uuid.UUID(bytes=self._system['id'])}"
        kept = driver_utils.VolumeDriverUtils(namespace, self.db)
        found = self._find_secret(kept, iqn)
        if found is None:
            new = "".join(random.choice(_LETTERS) for _ in range(_SECRET_LENGTH))
            # Another one may have been quicker.
            found = new if kept.insert_driver_initiator_data(iqn, _SECRET, new) else None
            found = found or self._find_secret(kept, iqn)
        if found is None:
            raise exception.VolumeBackendAPIException(
                data=f"Cinder does not keep the CHAP secret of {iqn}"
            )
        return found

    @staticmethod
    def _find_secret(kept: Any, iqn: str) -> str | None:
        for entry in kept.get_driver_initiator_data(iqn) or []:
            if entry["key"] == _SECRET:
                return str(entry["value"])
        return None

    def _new_host_access(self, connector: Any) -> tuple[uuid.UUID, Any]:
        iqn = connector["initiator"]
        host, credentials = ids.host_id(iqn), self._credentials(iqn)
        # Not called what the host calls itself, which may change.
        spec: dict[str, Any] = {"name": iqn, "iqn": iqn}
        if credentials is None:
            spec["authentication"] = "none"
        else:
            spec["secrets"] = {"chap": credentials}
        with errors.told():
            try:
                self._create_host(host, spec)
            except Problem as problem:
                if problem.code != "duplicate":
                    raise
                host, credentials = self._host_of_others(iqn, credentials)
        with self._hosts_lock:
            self._hosts[iqn] = host, credentials is not None
        return host, credentials

    def _create_host(self, host: uuid.UUID, spec: dict[str, Any]) -> None:
        try:
            self._client.create_host(host, spec)
            return
        except Problem as problem:
            if problem.code != "already-exists":
                raise
        LOG.info("Host %s gets another secret", spec["iqn"])
        try:
            self._client.delete_host(host)
        except Problem as problem:
            if problem.code != "in-use":
                raise
            raise exception.VolumeBackendAPIException(
                data=f"host {spec['iqn']} has volumes attached under an earlier secret: detach "
                "them before it can be given another one"
            ) from problem
        self._client.create_host(host, spec)

    def _host_of_others(self, iqn: str, credentials: Any) -> tuple[uuid.UUID, Any]:
        """A host that somebody else made known, whose secret can only be a configured one."""
        for there in self._client.hosts():
            if there.get("iqn") != iqn:
                continue
            host = uuid.UUID(bytes=there["id"])
            if there["authentication"] == "none":
                return host, None
            if self._chap is not None and self._chap.secret:
                return host, credentials
            raise exception.VolumeBackendAPIException(
                data=f"the appliance knows {iqn} as host {host}, with a secret that Cinder does "
                "not know: set chap_username and chap_password to it, or delete that host"
            )
        raise exception.VolumeBackendAPIException(data=f"host {iqn} came and went")

    def _connection_info(
        self, cinder_id: str, connection: Connection, secrets: Any
    ) -> dict[str, Any]:
        access = connection.get("iscsi")
        if not access or not access["portals"]:
            raise exception.VolumeBackendAPIException(
                data="the appliance did not say where the target is"
            )
        portals = access["portals"]
        data: dict[str, Any] = {
            "target_discovered": False,
            "target_portal": portals[0],
            "target_iqn": access["target"],
            "target_lun": access["lun"],
            "volume_id": cinder_id,
        }
        if len(portals) > 1:
            data["target_portals"] = portals
            data["target_iqns"] = [access["target"]] * len(portals)
            data["target_luns"] = [access["lun"]] * len(portals)
        if secrets is not None:
            data["auth_method"] = "CHAP"
            data["auth_username"] = secrets["name"]
            data["auth_password"] = secrets["secret"]
        # os-brick calls the transports what the appliance calls them.
        return {"driver_volume_type": self._protocol.transport, "data": data}
