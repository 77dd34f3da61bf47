"""What the tests stand on: a real appliance, Cinder's own objects and database."""

from __future__ import annotations

import itertools
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cinder.tests.unit import test as cinder_test
from cinder.tests.unit import utils as cinder_utils
from cinder.volume import configuration
from cinder.volume import driver as cinder_driver
from cinder.volume import manager as volume_manager
from cinder.volume.manager import VolumeManager
from oslo_config import cfg

from ashlar_cinder import options
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client
from ashlar_cinder.client.transport import Transport
from ashlar_cinder.fc import AshlarFCDriver
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests import contract
from tests.appliance import Appliance
from tests.between import Between

#: What Cinder knows of any backend.
CINDER_S = [
    getattr(cinder_driver, f"{name}_opts")
    for name in ("volume", "iser", "nvmeof", "nvmet", "scst", "backup", "image", "fqdn")
]


@pytest.fixture(scope="session", autouse=True)
def _place(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Temporary files go where they go before Cinder's test case makes it another place."""
    tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session")
def appliance() -> Iterator[Appliance]:
    """An appliance for all tests; each leaves it as it was."""
    one = Appliance()
    yield one
    one.stop()


@pytest.fixture
def client(appliance: Appliance) -> Iterator[Client]:
    """An operator beside Cinder."""
    one = appliance.client()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def traffic(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Holds everything sent and answered to the contract, and lists what was asked."""
    asked: list[str] = []
    local = threading.local()
    attempt, reply, opened = Transport._attempt, Transport.reply, Transport.open

    def checked_attempt(self: Transport, request: Any, *rest: Any) -> Any:
        contract.check_request(request.method, request.path, request.body)
        local.now = (request.method, request.path)
        asked.append(f"{request.method} {request.path}")
        return attempt(self, request, *rest)

    def checked_open(self: Transport, method: str, path: str, **rest: Any) -> Any:
        contract.operation(method, path)
        local.now = (method, path)
        asked.append(f"{method} {path}")
        return opened(self, method, path, **rest)

    def checked_reply(self: Transport, status: int, media_type: str, data: bytes) -> Any:
        if media_type.endswith("cbor"):
            method, path = local.now
            contract.check_reply(method, path, status, data)
        return reply(self, status, media_type, data)

    monkeypatch.setattr(Transport, "_attempt", checked_attempt)
    monkeypatch.setattr(Transport, "open", checked_open)
    monkeypatch.setattr(Transport, "reply", checked_reply)
    return asked


class _CinderWorld(cinder_test.TestCase):
    """Cinder's own test case, for its database and configuration."""

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        pass


class World:
    """Cinder around a driver."""

    def __init__(self, appliance: Appliance, case: Any) -> None:
        self.appliance = appliance
        self.endpoint = appliance.endpoint
        self.case = case
        self.context = cinder_utils.get_test_admin_context()
        self._count = itertools.count()

    def configuration(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """A backend's section of cinder.conf, and what stands in it."""
        group = f"ashlar{next(self._count)}"
        identity = self.appliance.identity()
        section = configuration.Configuration(volume_manager.volume_backend_opts, group)
        for known in (*CINDER_S, options.OLDER_OPTIONS, AshlarNVMeDriver.get_driver_options()):
            section.append_config_values(known)
        settings = {
            "volume_backend_name": "ashlar",
            "ashlar_endpoint": self.endpoint,
            "driver_client_cert": identity.certificate,
            "driver_client_cert_key": identity.key,
            "driver_ssl_cert_path": identity.authority,
            "ashlar_patience": 30,
        } | settings
        self._set(group, settings)
        return section, settings

    @staticmethod
    def _set(group: str, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            cfg.CONF.set_override(name, value, group=group)

    def driver(self, kind: type[AshlarDriver] = AshlarISCSIDriver, **settings: Any) -> AshlarDriver:
        """A driver that was set up."""
        one = self.unready(kind, **settings)
        one.do_setup(self.context)
        one.check_for_setup_error()
        one.init_capabilities()
        one.set_initialized()
        return one

    def unready(
        self, kind: type[AshlarDriver] = AshlarISCSIDriver, **settings: Any
    ) -> AshlarDriver:
        """A driver that was only made."""
        section, settings = self.configuration(**settings)
        one = kind(host="h@ashlar", configuration=section)
        # A driver takes back where options were set, which a file would say again.
        self._set(section.config_group, settings)
        return one

    def manager(
        self, kind: type[AshlarDriver] = AshlarISCSIDriver, **settings: Any
    ) -> VolumeManager:
        """Cinder's volume service upon a driver, without its messages."""
        section, settings = self.configuration(
            volume_driver=f"{kind.__module__}.{kind.__name__}", **settings
        )
        group = section.config_group
        one = VolumeManager(host=f"h@{group}", service_name=group)
        self._set(group, settings)
        one.init_host(added_to_cluster=False, service_id=1)
        return one

    def volume(self, pool: str = "tank", **settings: Any) -> Any:
        """A volume as Cinder has it."""
        settings = {
            "size": 1,
            "host": f"h@ashlar#{pool}",
            "status": "available",
            "volume_type_id": self.case.vt["id"],
        } | settings
        return cinder_utils.create_volume(self.context, **settings)

    def snapshot(self, volume: Any, **settings: Any) -> Any:
        """A snapshot as Cinder has it."""
        return cinder_utils.create_snapshot(
            self.context, volume.id, volume_type_id=volume.volume_type_id, **settings
        )


@pytest.fixture
def world(appliance: Appliance, client: Client) -> Iterator[World]:
    """Cinder around drivers. What a test leaves on the appliance is a failure."""
    case = _CinderWorld()
    case.setUp()
    yield World(appliance, case)
    case.doCleanups()
    left = appliance.empty(client)
    _tidy(client)
    assert left == {"volumes": [], "snapshots": [], "connections": []}


def _tidy(client: Client) -> None:
    for volume in list(client.volumes()):
        client.detach_all(uuid.UUID(bytes=volume["id"]))
    for snapshot in list(client.snapshots()):
        if "group" not in snapshot:
            client.delete_snapshot(uuid.UUID(bytes=snapshot["id"]))
    for volume in list(client.volumes()):
        client.delete_volume(uuid.UUID(bytes=volume["id"]))
    for host in list(client.hosts()):
        client.delete_host(uuid.UUID(bytes=host["id"]))


@pytest.fixture
def between(world: World) -> Iterator[Between]:
    """What drivers talk to instead of the appliance."""
    one = Between(world.appliance)
    world.endpoint = one.endpoint
    yield one
    one.close()


@pytest.fixture(
    params=[AshlarISCSIDriver, AshlarNVMeDriver, AshlarFCDriver], ids=["iscsi", "nvme", "fc"]
)
def driver(request: pytest.FixtureRequest, world: World) -> AshlarDriver:
    """A driver of each transport."""
    return world.driver(request.param, use_chap_auth=True, ashlar_nvme_authentication="none")


@pytest.fixture
def connector() -> Callable[[str], dict[str, Any]]:
    """What os-brick says of a host."""

    def make(name: str) -> dict[str, Any]:
        return {
            "host": name,
            "initiator": f"iqn.2026-11.org.example:{name}",
            "nqn": f"nqn.2026-11.org.example:{name}",
            "wwpns": [f"21000000{zlib.crc32(name.encode()):08x}"],
            "ip": "192.0.2.9",
            "multipath": False,
        }

    return make
