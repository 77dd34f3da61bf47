"""Attaching and detaching: what hosts are told, and what os-brick makes of it."""

from __future__ import annotations

import copy
import itertools
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from cinder import exception, objects
from cinder.objects import fields
from os_brick.initiator.connector import InitiatorConnector
from os_brick.initiator.connectors import iscsi as brick_iscsi
from os_brick.initiator.connectors import nvmeof as brick_nvme

from ashlar_cinder import ids
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client, Problem
from ashlar_cinder.client.objects import Connection
from ashlar_cinder.client.transport import Request, Transport
from ashlar_cinder.iscsi import AshlarISCSIDriver
from ashlar_cinder.nvme import AshlarNVMeDriver
from tests.between import Between, over_rdma, with_portals
from tests.conftest import World


def attach(world: World, volume: Any, connector: dict[str, Any]) -> Any:
    """An attachment as Cinder has it."""
    attachment = objects.VolumeAttachment(
        world.context,
        volume_id=volume.id,
        instance_uuid=str(uuid.uuid4()),
        attached_host=connector["host"],
        attach_status=fields.VolumeAttachStatus.ATTACHED,
        connector=connector,
    )
    attachment.create()
    volume.refresh()
    return attachment


#: What os-brick calls the interface of each protocol, and what its sessions are listed as.
ISCSI = {"iscsi": ("default", "tcp"), "iser": ("iser", "iser")}


def brick_commands(data: dict[str, Any], protocol: str = "iscsi") -> list[str]:
    """What os-brick would run to log in, on every path."""
    interface, listed = ISCSI[protocol]
    ran: list[str] = []
    sessions: list[str] = []

    def execute(*command: str, **_kwargs: Any) -> tuple[str, str]:
        if "--login" in command:
            where = dict(itertools.pairwise(command))
            sessions.append(
                f"{listed}: [{len(sessions)}] {where['-p']},1 {where['-T']} (non-flash)"
            )
        if command[-2:] == ("-m", "session"):
            return "\n".join(sessions), ""
        ran.append(" ".join(command))
        return "", "no records found" if command[-2] == "-p" else ""

    connector = InitiatorConnector.factory(protocol, None, execute=execute)
    assert isinstance(connector, brick_iscsi.ISCSIConnector)
    assert connector.transport == interface
    connector.set_execute(execute)
    for path in connector._iterate_all_targets(copy.deepcopy(data)):
        connector._connect_to_iscsi_portal(path)
    return ran


def test_one_request_attaches_and_one_detaches(
    world: World, driver: AshlarDriver, client: Client, connector: Any, traffic: list[str]
) -> None:
    first, second = world.volume(), world.volume()
    for volume in (first, second):
        driver.create_volume(volume)
    # The host is made known with its first volume.
    driver.initialize_connection(first, connector("alpha"))
    traffic.clear()
    driver.create_export(world.context, second, connector("alpha"))
    driver.initialize_connection(second, connector("alpha"))
    assert len(traffic) == 1
    assert driver.terminate_connection(second, connector("alpha")) is False
    driver.remove_export(world.context, second)
    driver.ensure_export(world.context, first)
    assert len(traffic) == 2
    assert len(list(client.connections())) == 1
    kernel = "\n".join(world.appliance.kernel())
    assert first.id in kernel
    assert second.id not in kernel
    driver.terminate_connection(first, connector("alpha"))
    driver.terminate_connection(first, connector("alpha"))
    for volume in (first, second):
        driver.delete_volume(volume)


def test_a_host_that_has_not_logged_out_is_cut_off(
    world: World,
    driver: AshlarDriver,
    client: Client,
    connector: Any,
    traffic: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt = Transport._attempt

    def refuse(self: Transport, request: Request, *rest: Any) -> Any:
        # As the appliance does, of the model of which nobody logs in to anything.
        ends = request.method == "DELETE" and "/connections/" in request.path
        if ends and not request.path.endswith("?force=true"):
            traffic.append(f"{request.method} {request.path}")
            raise Problem("in-use", "it is logged in", retryable=True, kind="connection")
        return attempt(self, request, *rest)

    volume = world.volume()
    driver.create_volume(volume)
    driver.initialize_connection(volume, connector("alpha"))
    [connection] = client.connections()
    path = f"DELETE /v1/connections/{uuid.UUID(bytes=connection['id'])}"
    traffic.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Transport, "_attempt", refuse)
        assert driver.terminate_connection(volume, connector("alpha")) is False
    assert [asked for asked in traffic if asked.startswith(path)] == [path, f"{path}?force=true"]
    assert not list(client.connections())
    driver.delete_volume(volume)


def test_a_connector_without_a_name_is_refused(
    world: World, driver: AshlarDriver, connector: Any
) -> None:
    volume = world.volume()
    host = connector("alpha")
    del host[driver.HOST_KEY]
    with pytest.raises(exception.InvalidConnectorException):
        driver.validate_connector(host)
    with pytest.raises(exception.InvalidConnectorException):
        driver.initialize_connection(volume, host)
    # It was never attached, so it is detached.
    assert driver.terminate_connection(volume, host) is False


@pytest.mark.parametrize("protocol", ISCSI)
def test_iscsi_as_os_brick_takes_it(
    world: World, client: Client, connector: Any, between: Between, protocol: str
) -> None:
    if protocol == "iser":
        over_rdma(between, "iser", "iscsi")
    driver = world.driver(AshlarISCSIDriver, target_protocol=protocol, use_chap_auth=True)
    volume = world.volume()
    driver.create_volume(volume)
    info = driver.initialize_connection(volume, connector("alpha"))
    data = info["data"]
    secret = data["auth_password"]
    [connection] = client.connections()
    access = connection["iscsi"]
    assert info == {
        "driver_volume_type": protocol,
        "data": {
            "target_discovered": False,
            "target_portal": access["portals"][0],
            "target_iqn": access["target"],
            "target_lun": 0,
            "volume_id": volume.id,
            "auth_method": "CHAP",
            "auth_username": "iqn.2026-11.org.example:alpha",
            "auth_password": secret,
        },
    }
    ran = "\n".join(brick_commands(data, info["driver_volume_type"]))
    interface, _ = ISCSI[protocol]
    node = f"-T {access['target']} -p {access['portals'][0]}"
    assert f"{node} --interface {interface} --op new" in ran
    assert f"{node} --login" in ran
    assert f"node.session.auth.password -v {secret}" in ran
    assert "authenticated" in "\n".join(world.appliance.kernel())
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


def test_each_host_keeps_a_secret_of_its_own(world: World, connector: Any) -> None:
    driver = world.driver(AshlarISCSIDriver, use_chap_auth=True)
    volume = world.volume(multiattach=True)
    driver.create_volume(volume)

    def secret(one: AshlarDriver, host: str) -> Any:
        return one.initialize_connection(volume, connector(host))["data"]["auth_password"]

    alpha, beta = secret(driver, "alpha"), secret(driver, "beta")
    assert alpha != beta
    assert len(alpha) == 16
    # A service that was started again finds them.
    again = world.driver(AshlarISCSIDriver, use_chap_auth=True)
    assert secret(again, "alpha") == alpha
    again.terminate_connection(volume, None)
    again.delete_volume(volume)


def test_a_secret_configured_anew_is_the_host_s(world: World, connector: Any) -> None:
    volume, other = world.volume(), world.volume()
    old = world.driver(
        AshlarISCSIDriver, use_chap_auth=True, chap_username="cinder", chap_password="ABCdef123456"
    )
    old.create_volume(volume)
    old.create_volume(other)
    data = old.initialize_connection(volume, connector("alpha"))["data"]
    assert (data["auth_username"], data["auth_password"]) == ("cinder", "ABCdef123456")
    new = world.driver(AshlarISCSIDriver, use_chap_auth=True, chap_password="abcDEF654321")
    with pytest.raises(exception.VolumeBackendAPIException, match="under an earlier secret"):
        new.initialize_connection(other, connector("alpha"))
    new.terminate_connection(volume, connector("alpha"))
    data = new.initialize_connection(other, connector("alpha"))["data"]
    assert data["auth_username"] == "iqn.2026-11.org.example:alpha"
    assert data["auth_password"] == "abcDEF654321"
    new.terminate_connection(other, connector("alpha"))
    for one in (volume, other):
        new.delete_volume(one)


def test_hosts_without_chap(world: World, client: Client, connector: Any) -> None:
    driver = world.driver(AshlarISCSIDriver)
    volume = world.volume()
    driver.create_volume(volume)
    data = driver.initialize_connection(volume, connector("alpha"))["data"]
    assert not [key for key in data if key.startswith("auth")]
    [host] = client.hosts()
    assert host["authentication"] == "none"
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


def test_hosts_that_an_operator_made(world: World, client: Client, connector: Any) -> None:
    host = connector("alpha")
    made = uuid.uuid4()
    chap = {"name": "alpha", "secret": "operators-own1"}
    spec = {"name": "alpha", "iqn": host["initiator"], "secrets": {"chap": chap}}
    client.create_host(made, spec)
    volume = world.volume()
    driver = world.driver(AshlarISCSIDriver, use_chap_auth=True)
    driver.create_volume(volume)
    with pytest.raises(exception.VolumeBackendAPIException, match="does not know"):
        driver.initialize_connection(volume, host)
    told = world.driver(
        AshlarISCSIDriver,
        use_chap_auth=True,
        chap_username="alpha",
        chap_password="operators-own1",
    )
    for _ in range(2):
        assert told.initialize_connection(volume, host)["data"]["auth_username"] == "alpha"
    [connection] = client.connections()
    assert connection["host"] == made.bytes
    told.terminate_connection(volume, host)
    told.delete_volume(volume)


def test_hosts_that_the_box_proves_itself_to(world: World, client: Client, connector: Any) -> None:
    host = connector("alpha")
    secrets = {
        "chap": {"name": "alpha", "secret": "operators-own1"},
        "chap_mutual": {"name": "box", "secret": "the-box-s-own2"},
    }
    spec = {"name": "alpha", "iqn": host["initiator"], "authentication": "mutual"}
    client.create_host(uuid.uuid4(), spec | {"secrets": secrets})
    driver = world.driver(
        AshlarISCSIDriver,
        use_chap_auth=True,
        chap_username="alpha",
        chap_password="operators-own1",
    )
    volume = world.volume()
    driver.create_volume(volume)
    info = driver.initialize_connection(volume, host)
    [known] = client.hosts()
    assert known["authentication"] == "mutual"
    ran = "\n".join(brick_commands(info["data"]))
    # What os-brick leaves as iscsid.conf of the host has it.
    told = set(re.findall(r"node\.session\.auth\.(\w+)", ran))
    assert told == {"authmethod", "username", "password"}
    assert "the-box-s-own2" not in ran + str(info)
    driver.terminate_connection(volume, host)
    driver.delete_volume(volume)


def test_a_host_that_an_operator_forgot_is_made_again(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    driver.initialize_connection(volume, connector("alpha"))
    driver.terminate_connection(volume, connector("alpha"))
    [host] = client.hosts()
    client.delete_host(uuid.UUID(bytes=host["id"]))
    driver.initialize_connection(volume, connector("alpha"))
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


def brick_connects(info: dict[str, Any]) -> list[str]:
    """What os-brick would have nvme-cli connect to, on every path."""
    ran: list[str] = []

    class Connector(brick_nvme.NVMeOFConnector):
        native_multipath_supported = True

        def run_nvme_cli(self, command: list[str], **_kwargs: Any) -> tuple[str, str]:
            ran.append(" ".join(command))
            return "", ""

    targets = brick_nvme.NVMeOFConnProps(copy.deepcopy(info["data"])).targets
    for target in targets:
        # What it would ask the host for.
        target.host_nqn = "nqn.2026-11.org.example:alpha"
        target._device = "/dev/nvme0n1"
        Connector(None, use_multipath=True)._connect_target(target)
    return ran


#: What os-brick calls each fabric in the older form, in the newer, and by itself.
NVME = {"nvmet_tcp": ("tcp", "tcp", "tcp"), "nvmet_rdma": ("rdma", "RoCEv2", "rdma")}


def brick_finds(info: dict[str, Any], sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device that os-brick takes for the volume, among those that sysfs shows."""
    controller = sysfs / "nvme0"
    for number, identity in (("1", info["data"]["volume_id"]), ("2", str(uuid.uuid4()))):
        namespace = controller / f"nvme0n{number}"
        namespace.mkdir(parents=True)
        (namespace / "nsid").write_text(f"{number}\n")
        (namespace / "uuid").write_text(f"{identity}\n")
    (controller / "state").write_text("live\n")
    monkeypatch.setattr(brick_nvme, "NVME_CTRL_SYSFS_PATH", f"{sysfs}/")
    [target] = brick_nvme.NVMeOFConnProps(copy.deepcopy(info["data"])).targets
    for portal in target.portals:
        portal.controller = "nvme0"
    [device] = target.get_devices()
    return str(device)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("protocol", NVME)
def test_nvme_as_os_brick_takes_it(
    world: World,
    client: Client,
    connector: Any,
    between: Between,
    protocol: str,
    version: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old_name, new_name, cli_name = NVME[protocol]
    if protocol == "nvmet_rdma":
        over_rdma(between)
    driver = world.driver(
        AshlarNVMeDriver,
        target_protocol=protocol,
        nvmeof_conn_info_version=version,
        ashlar_nvme_authentication="none",
    )
    volume = world.volume()
    driver.create_volume(volume)
    info = driver.initialize_connection(volume, connector("alpha"))
    [connection] = client.connections()
    access = connection["nvme"]
    address, port = access["portals"][0].rsplit(":", 1)
    address = address.strip("[]")
    older = {
        "target_portal": address,
        "target_port": port,
        "nqn": access["subsystem"],
        "transport_type": old_name,
        "ns_id": "1",
        "volume_id": volume.id,
    }
    newer = {
        "target_nqn": access["subsystem"],
        "vol_uuid": volume.id,
        "portals": [(address, port, new_name)],
        "ns_id": "1",
        "volume_id": volume.id,
    }
    wanted = older if version == 1 else newer
    assert info == {"driver_volume_type": "nvmeof", "data": wanted}
    [target] = brick_nvme.NVMeOFConnProps(copy.deepcopy(info["data"])).targets
    assert target.nqn == access["subsystem"]
    if version == 2:
        assert str(target.uuid) == volume.id
    [command] = brick_connects(info)
    assert command.startswith(f"connect -a {address} -s {port} -t {cli_name} -n {target.nqn} ")
    assert brick_finds(info, tmp_path, monkeypatch) == "/dev/nvme0n1"
    driver.terminate_connection(volume, connector("alpha"))
    assert not list(client.connections())
    driver.delete_volume(volume)


#: Each driver that speaks RDMA, the protocol, and what both transports are called.
RDMA = [
    pytest.param(AshlarISCSIDriver, "iser", "iser", "iscsi", id="iser"),
    pytest.param(AshlarNVMeDriver, "nvmet_rdma", "nvme-rdma", "nvme-tcp", id="nvmet_rdma"),
]


@pytest.mark.parametrize(("kind", "protocol", "rdma_name", "tcp_name"), RDMA)
def test_what_is_reached_over_rdma_is_told_to_the_scheduler(
    world: World,
    between: Between,
    kind: type[AshlarDriver],
    protocol: str,
    rdma_name: str,
    tcp_name: str,
) -> None:
    over_rdma(between, rdma_name, tcp_name)
    driver = world.driver(kind, target_protocol=protocol)
    told = {"iser": "iSER", "nvmet_rdma": "NVMe-RoCE"}
    assert driver.get_volume_stats(refresh=True)["storage_protocol"] == told[protocol]


@pytest.mark.parametrize(("kind", "protocol", "rdma_name", "tcp_name"), RDMA)
def test_a_host_is_detached_from_what_it_was_attached_over(
    world: World,
    client: Client,
    connector: Any,
    between: Between,
    kind: type[AshlarDriver],
    protocol: str,
    rdma_name: str,
    tcp_name: str,
) -> None:
    """The operator has gone over to RDMA, or back, while volumes were attached."""
    tcp = world.driver(kind, ashlar_nvme_authentication="none")
    volume = world.volume()
    tcp.create_volume(volume)
    tcp.initialize_connection(volume, connector("alpha"))
    over_rdma(between, rdma_name, tcp_name)
    rdma = world.driver(kind, target_protocol=protocol)
    assert len(list(client.connections())) == 1
    assert rdma.terminate_connection(volume, connector("alpha")) is False
    assert not list(client.connections())
    # And once more, with nothing left.
    assert rdma.terminate_connection(volume, connector("alpha")) is False
    rdma.delete_volume(volume)


def test_nvme_hosts_have_keys_that_cinder_never_sees(
    world: World, client: Client, connector: Any
) -> None:
    driver = world.driver(AshlarNVMeDriver)
    volume = world.volume()
    driver.create_volume(volume)
    host = connector("alpha")
    with pytest.raises(exception.VolumeBackendAPIException, match=host["nqn"]):
        driver.initialize_connection(volume, host)
    made = uuid.uuid4()
    client.create_host(made, {"name": "alpha", "nqn": host["nqn"]})
    info = driver.initialize_connection(volume, host)
    assert "DHHC" not in str(info)
    [connection] = client.connections()
    assert connection["host"] == made.bytes
    assert "authenticated" in "\n".join(world.appliance.kernel())
    driver.terminate_connection(volume, host)
    driver.delete_volume(volume)


PATHS = {
    "v4": ["192.0.2.1:3260", "198.51.100.1:3260"],
    "v6": ["[2001:db8::1]:3260", "[2001:db8::2]:3260"],
    "both": ["192.0.2.1:3260", "[2001:db8::1]:3260"],
}


@pytest.mark.parametrize("portals", PATHS.values(), ids=PATHS)
def test_several_iscsi_paths(
    world: World, connector: Any, between: Between, portals: list[str]
) -> None:
    with_portals(between, *portals)
    driver = world.driver(AshlarISCSIDriver, use_chap_auth=True)
    volume = world.volume()
    driver.create_volume(volume)
    data = driver.initialize_connection(volume, connector("alpha"))["data"]
    assert data["target_portals"] == portals
    assert data["target_iqns"] == [data["target_iqn"]] * 2
    assert data["target_luns"] == [data["target_lun"]] * 2
    assert data["target_portal"] == portals[0]
    ran = brick_commands(data)
    for portal in portals:
        assert any(f"-p {portal} --login" in command for command in ran)
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


@pytest.mark.parametrize("portals", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("protocol", NVME)
def test_several_nvme_paths(
    world: World, connector: Any, between: Between, protocol: str, portals: list[str]
) -> None:
    if protocol == "nvmet_rdma":
        over_rdma(between)
    with_portals(between, *portals)
    # The older form has room for one, so it is the newer.
    driver = world.driver(
        AshlarNVMeDriver, target_protocol=protocol, ashlar_nvme_authentication="none"
    )
    volume = world.volume()
    driver.create_volume(volume)
    info = driver.initialize_connection(volume, connector("alpha"))
    there = [tuple(portal.replace("[", "").replace("]", "").rsplit(":", 1)) for portal in portals]
    _, newer, cli_name = NVME[protocol]
    assert info["data"]["portals"] == [(*portal, newer) for portal in there]
    ran = brick_connects(info)
    nqn = info["data"]["target_nqn"]
    assert [command.split(" -Q")[0] for command in ran] == [
        f"connect -a {address} -s {port} -t {cli_name} -n {nqn}" for address, port in there
    ]
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


def test_an_appliance_without_portals_is_an_error(world: World) -> None:
    for kind in (AshlarISCSIDriver, AshlarNVMeDriver):
        driver = world.driver(kind)
        connection: Connection = {}  # type: ignore[typeddict-item]
        with pytest.raises(exception.VolumeBackendAPIException):
            driver._connection_info("an-id", connection, None)


def test_a_host_keeps_a_volume_while_it_needs_it(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    volume = world.volume(multiattach=True)
    driver.create_volume(volume)
    alpha, beta = connector("alpha"), connector("beta")
    attachments = [attach(world, volume, host) for host in (alpha, alpha, beta)]
    for host in (alpha, beta):
        driver.initialize_connection(volume, host)
    assert driver.terminate_connection(volume, alpha) is True
    attachments[0].destroy()
    volume.refresh()
    assert driver.terminate_connection(volume, alpha) is False
    assert len(list(client.connections())) == 1
    assert driver.terminate_connection(volume, beta, force=True) is False
    driver.delete_volume(volume)


def test_everybody_is_detached_without_a_connector(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    volume = world.volume(multiattach=True, attach_status=fields.VolumeAttachStatus.DETACHED)
    driver.create_volume(volume)
    for host in ("alpha", "beta"):
        driver.initialize_connection(volume, connector(host))
    assert driver.terminate_connection(volume, None, force=True) is False
    assert not list(client.connections())
    driver.delete_volume(volume)
    # It is gone, and nobody has it.
    assert driver.terminate_connection(volume, None) is False


def test_snapshots_are_attached_as_what_they_were(
    world: World, driver: AshlarDriver, client: Client, connector: Any, traffic: list[str]
) -> None:
    volume = world.volume()
    snapshot = world.snapshot(volume)
    driver.create_volume(volume)
    driver.create_snapshot(snapshot)
    host = connector("alpha")
    driver.create_export_snapshot(world.context, snapshot, host)
    info = driver.initialize_connection_snapshot(snapshot, host)
    assert info["data"]["volume_id"] == snapshot.id
    snapshot_id = uuid.UUID(snapshot.id)
    # It is busy for as long.
    if driver.ONLY_READS:
        [connection] = client.connections(snapshot=snapshot_id)
        assert connection["access"] == "read-only"
        # Only a clone could be written, so there is none.
        assert len(list(client.volumes())) == 1
        with pytest.raises(exception.SnapshotIsBusy):
            driver.delete_snapshot(snapshot)
    else:
        attached = ids.attached_id(snapshot_id)
        assert client.volume(attached)["parent"] == {"snapshot": snapshot_id.bytes}
        with pytest.raises(exception.VolumeIsBusy):
            driver.remove_export_snapshot(world.context, snapshot)
    driver.terminate_connection_snapshot(snapshot, host)
    driver.initialize_connection_snapshot(snapshot, connector("beta"))
    driver.terminate_connection_snapshot(snapshot, None, force=True)
    driver.terminate_connection_snapshot(snapshot, host)
    assert not list(client.connections())
    driver.remove_export_snapshot(world.context, snapshot)
    driver.remove_export_snapshot(world.context, snapshot)
    driver.delete_snapshot(snapshot)
    driver.delete_volume(volume)


@pytest.mark.parametrize("by_name", [True, False])
def test_what_was_attached_in_place_of_a_snapshot_before_an_upgrade_goes_as_it_went(
    world: World, driver: AshlarDriver, client: Client, connector: Any, by_name: bool
) -> None:
    volume = world.volume()
    snapshot = world.snapshot(volume)
    driver.create_volume(volume)
    driver.create_snapshot(snapshot)
    host, attached = connector("alpha"), ids.attached_id(uuid.UUID(snapshot.id))
    upgraded, driver.ONLY_READS = driver.ONLY_READS, False
    driver.create_export_snapshot(world.context, snapshot, host)
    driver.initialize_connection_snapshot(snapshot, host)
    assert [connection["volume"] for connection in client.connections()] == [attached.bytes]
    driver.ONLY_READS = upgraded
    if by_name:
        driver.terminate_connection_snapshot(snapshot, host)
    else:
        driver.terminate_connection_snapshot(snapshot, None, force=True)
    assert not list(client.connections())
    driver.remove_export_snapshot(world.context, snapshot)
    assert [one["id"] for one in client.volumes()] == [uuid.UUID(volume.id).bytes]
    driver.delete_snapshot(snapshot)
    driver.delete_volume(volume)


def test_a_connection_of_a_snapshot_that_vanishes_keeps_no_other(
    world: World, client: Client, connector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = world.driver(AshlarISCSIDriver)
    volume = world.volume()
    snapshot = world.snapshot(volume)
    driver.create_volume(volume)
    driver.create_snapshot(snapshot)
    for name in ("alpha", "beta"):
        driver.initialize_connection_snapshot(snapshot, connector(name))
    listed = Client.connections

    def one_goes(self: Client, *rest: Any, **more: Any) -> Any:
        found = list(listed(self, *rest, **more))
        if self is driver._client:
            client.delete_connection(uuid.UUID(bytes=found[0]["id"]))
        return iter(found)

    monkeypatch.setattr(Client, "connections", one_goes)
    driver.terminate_connection_snapshot(snapshot, None, force=True)
    assert not list(client.connections())
    driver.delete_snapshot(snapshot)
    driver.delete_volume(volume)
