"""Attaching over Fibre Channel: hosts by their ports, what os-brick makes of it, and zones."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
from cinder import exception
from cinder.volume import configuration, manager
from cinder.zonemanager import utils as zones
from os_brick.initiator.connectors import fibre_channel as brick

from ashlar_cinder import fc
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client
from ashlar_cinder.client.objects import Connection
from ashlar_cinder.fc import AshlarFCDriver
from tests.conftest import World

#: Those of the appliance of the tests.
PORTS = ["20000025b5aa0c1f", "20000025b5aa0c2f"]
ALPHA = ["2100000000000001", "2100000000000002"]


@pytest.fixture
def driver(world: World) -> AshlarDriver:
    """That of Fibre Channel."""
    return world.driver(AshlarFCDriver)


def host(connector: Any, name: str = "alpha", ports: list[str] = ALPHA) -> dict[str, Any]:
    """A host with several ports."""
    return dict(connector(name), wwpns=ports)


def brick_paths(data: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Where os-brick would look for the disk on a host with these ports, and what it scans for."""
    hbas = [
        {
            "port_name": port,
            "node_name": port,
            "host_device": f"host{number}",
            "device_path": f"/sys/devices/pci0000:00/0000:00:0{number}.0/host{number}",
        }
        for number, port in enumerate(ALPHA, 3)
    ]
    connector = brick.FibreChannelConnector(None)
    properties = connector._add_targets_to_connection_properties(copy.deepcopy(data))
    return connector._get_possible_volume_paths(properties, hbas), properties


def test_fc_as_os_brick_takes_it(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    first, second = world.volume(), world.volume()
    for volume in (first, second):
        driver.create_volume(volume)
    driver.initialize_connection(first, host(connector))
    info = driver.initialize_connection(second, host(connector))
    assert info == {
        "driver_volume_type": "fibre_channel",
        "data": {
            "target_discovered": False,
            "target_wwn": PORTS,
            "target_lun": 1,
            "initiator_target_map": dict.fromkeys(ALPHA, PORTS),
            "volume_id": second.id,
        },
    }
    paths, properties = brick_paths(info["data"])
    assert paths == [
        f"/dev/disk/by-path/pci-0000:00:0{number}.0-fc-0x{port}-lun-1"
        for number in (3, 4)
        for port in PORTS
    ]
    assert properties["initiator_target_lun_map"] == {
        port: [(target, 1) for target in PORTS] for port in ALPHA
    }
    kernel = world.appliance.kernel()
    for port in PORTS:
        for initiator in ALPHA:
            assert f"fc {second.id} port {port} initiator {initiator} LUN 1" in kernel
    [known] = client.hosts()
    assert known["wwpns"] == ALPHA
    for volume in (first, second):
        assert driver.terminate_connection(volume, host(connector)) is False
        driver.delete_volume(volume)


def test_ports_are_the_same_in_any_order_and_however_they_are_written(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    driver.initialize_connection(volume, host(connector))
    written = ["0x2100000000000002", "21:00:00:00:00:00:00:01"]
    again = world.driver(AshlarFCDriver)
    again.initialize_connection(volume, host(connector, ports=written))
    assert len(list(client.connections())) == 1
    assert again.terminate_connection(volume, host(connector, ports=written[::-1])) is False
    assert not list(client.connections())
    driver.delete_volume(volume)


def test_hosts_that_an_operator_made(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    made = uuid.uuid4()
    spec = {"name": "alpha", "wwpns": [*ALPHA, "2100000000000003"]}
    client.create_host(made, spec)
    volume = world.volume()
    driver.create_volume(volume)
    driver.initialize_connection(volume, host(connector))
    [connection] = client.connections()
    assert connection["host"] == made.bytes
    driver.terminate_connection(volume, host(connector))
    # A port that this host does not have there is no way to the volume; the others are.
    other = host(connector, ports=[ALPHA[0], "2100000000000009"])
    driver.initialize_connection(volume, other)
    [connection] = client.connections()
    assert connection["host"] == made.bytes
    driver.terminate_connection(volume, other)
    assert not list(client.connections())
    driver.delete_volume(volume)


def test_a_cable_that_was_out_keeps_no_host_from_its_volumes(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    first, second = world.volume(), world.volume()
    for volume in (first, second):
        driver.create_volume(volume)
    driver.initialize_connection(first, host(connector, ports=ALPHA[:1]))
    driver.initialize_connection(second, host(connector))
    [known] = client.hosts()
    assert known["wwpns"] == ALPHA[:1]
    assert {connection["host"] for connection in client.connections()} == {known["id"]}
    # Detached by the ports that are up now, and by those that were.
    driver.terminate_connection(first, host(connector))
    [left] = client.connections()
    assert left["volume"] != first.id
    driver.terminate_connection(second, host(connector, ports=ALPHA[:1]))
    assert not list(client.connections())
    for volume in (first, second):
        driver.delete_volume(volume)


def test_an_appliance_without_ports_is_an_error(driver: AshlarDriver) -> None:
    connection: Connection = {}  # type: ignore[typeddict-item]
    with pytest.raises(exception.VolumeBackendAPIException):
        driver._connection_info("an-id", connection, None)


class Zones:
    """In place of Cinder's zone manager: what it was asked for."""

    def __init__(self) -> None:
        self.made: list[dict[str, list[str]]] = []
        self.ended: list[dict[str, list[str]]] = []

    def add_connection(self, info: dict[str, Any]) -> None:
        self.made.append(info["data"]["initiator_target_map"])

    def delete_connection(self, info: dict[str, Any]) -> None:
        self.ended.append(info["data"]["initiator_target_map"])


@pytest.fixture
def fabric(world: World, monkeypatch: pytest.MonkeyPatch) -> Zones:
    """A fabric whose zones Cinder makes."""
    one = Zones()
    options = configuration.Configuration(manager.volume_manager_opts)
    assert not fc._zoned()
    world.case.override_config("zoning_mode", "fabric", options.config_group)
    assert fc._zoned()
    monkeypatch.setattr(zones, "create_zone_manager", lambda: one)
    return one


def test_zones_come_with_volumes_and_go_with_a_host_s_last(
    world: World, driver: AshlarDriver, client: Client, connector: Any, fabric: Zones
) -> None:
    first, second = world.volume(), world.volume()
    snapshot = world.snapshot(first)
    for volume in (first, second):
        driver.create_volume(volume)
        driver.initialize_connection(volume, host(connector))
    driver.create_snapshot(snapshot)
    driver.initialize_connection_snapshot(snapshot, host(connector))
    zone = dict.fromkeys(ALPHA, PORTS)
    assert fabric.made == [zone] * 3
    driver.terminate_connection(first, host(connector))
    driver.terminate_connection(second, host(connector))
    # The snapshot is left.
    assert fabric.ended == []
    driver.terminate_connection_snapshot(snapshot, host(connector))
    assert fabric.ended == [zone]
    driver.terminate_connection(first, host(connector))
    assert fabric.ended == [zone]
    driver.delete_snapshot(snapshot)
    for volume in (first, second):
        driver.delete_volume(volume)


def test_zones_of_all_hosts_go_without_a_connector(
    world: World, driver: AshlarDriver, connector: Any, fabric: Zones
) -> None:
    shared, other = world.volume(multiattach=True), world.volume()
    beta, gamma = ["21000000000000b1"], ["21000000000000c1"]
    for volume in (shared, other):
        driver.create_volume(volume)
    for name, ports in (("alpha", ALPHA), ("beta", beta), ("gamma", gamma)):
        driver.initialize_connection(shared, host(connector, name, ports))
    driver.initialize_connection(other, host(connector, "gamma", gamma))
    # One alone goes, and the others' stay.
    driver.terminate_connection(shared, host(connector, "beta", beta))
    assert fabric.ended == [dict.fromkeys(beta, PORTS)]
    driver.terminate_connection(shared, None, force=True)
    # The one with another volume keeps its zone.
    assert fabric.ended[1:] == [dict.fromkeys(ALPHA, PORTS)]
    driver.terminate_connection(other, None, force=True)
    assert fabric.ended[2:] == [dict.fromkeys(gamma, PORTS)]
    for volume in (shared, other):
        driver.delete_volume(volume)
        # It is gone, and nobody has it.
        for gone in (None, host(connector)):
            assert driver.terminate_connection(volume, gone) is False
    assert len(fabric.ended) == 3
