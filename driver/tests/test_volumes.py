"""Volumes and snapshots, from Cinder's objects to the kernel."""

from __future__ import annotations

import concurrent.futures
import io
import random
import time
import uuid
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import qos_specs, volume_types

from ashlar_cinder import ids
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client, Problem
from ashlar_cinder.client.streams import extents_of
from tests.conftest import World

GIB = 1 << 30
MIB = 1 << 20


def there(client: Client, volume: Any) -> Any:
    return client.volume(uuid.UUID(volume.name_id))


def type_of(world: World, extra: dict[str, str], qos: dict[str, str] | None = None) -> Any:
    name = str(uuid.uuid4())
    made = volume_types.create(world.context, name, extra)
    if qos is not None:
        spec = qos_specs.create(world.context, name, {"consumer": "back-end"} | qos)
        qos_specs.associate_qos_with_type(world.context, spec.id, made.id)
    return made.id


def test_a_volume_lives(
    world: World, driver: AshlarDriver, client: Client, traffic: list[str]
) -> None:
    volume = world.volume()
    traffic.clear()
    driver.create_volume(volume)
    assert len(traffic) == 1
    found = there(client, volume)
    assert found["name"] == volume.name
    assert found["size"] == GIB
    assert found["provisioning"] == "thin"
    assert found["labels"] == {"cinder": volume.id}
    driver.create_volume(volume)
    traffic.clear()
    driver.extend_volume(volume, 2)
    assert len(traffic) == 1
    assert there(client, volume)["size"] == 2 * GIB
    assert driver.get_pool(volume) == "tank"
    traffic.clear()
    driver.delete_volume(volume)
    assert len(traffic) == 1
    with pytest.raises(Problem, match="not-found"):
        there(client, volume)
    driver.delete_volume(volume)


def jobs_of(client: Client, volume: Any) -> list[Any]:
    """What was done to a volume that is gone."""
    own_id = uuid.UUID(volume.name_id).bytes
    found = client._pages("/v1/jobs")
    return [job for job in found if job["object"]["id"] == own_id]


@pytest.mark.parametrize("how", ["none", "zero", "discard"])
def test_a_volume_is_cleared_before_it_is_destroyed(
    world: World, client: Client, traffic: list[str], how: str
) -> None:
    driver = world.driver(ashlar_volume_clear=how, volume_clear_size=1)
    volume = world.volume()
    driver.create_volume(volume)
    content = random.Random(5).randbytes(4 * MIB)
    client.write_extents(uuid.UUID(volume.id), extents_of(io.BytesIO(content), GIB))
    traffic.clear()
    driver.delete_volume(volume)
    if how == "none":
        assert traffic == ["POST /v1/bulk"]
    else:
        # What an upload may have left, the volume, and looks at the job.
        size = "&clear_size=1048576"
        cleared_path = f"DELETE /v1/volumes/{volume.id}?clear={how}{size}"
        assert traffic[:2] == ["POST /v1/bulk", cleared_path]
        assert {asked.split("/")[2] for asked in traffic[2:]} <= {"jobs"}
    [job] = [job for job in jobs_of(client, volume) if job["operation"] == "volume-delete"]
    cleared = {"none": {}, "zero": {"written": MIB}, "discard": {"zeroed": MIB}}
    found = {key: value for key, value in job.get("result", {}).items() if value}
    assert found == cleared[how]


@pytest.mark.parametrize("others", ["none", "upload", "snapshot"])
@pytest.mark.parametrize("how", ["zero", "discard"])
def test_what_is_left_of_clearing_is_said(
    world: World, client: Client, caplog: pytest.LogCaptureFixture, how: str, others: str
) -> None:
    driver = world.driver(ashlar_volume_clear=how)
    volume = world.volume()
    driver.create_volume(volume)
    own_id = uuid.UUID(volume.id)
    content = random.Random(5).randbytes(MIB)
    client.write_extents(own_id, extents_of(io.BytesIO(content), GIB))
    snapshot = world.snapshot(volume)
    if others == "snapshot":
        driver.create_snapshot(snapshot)
    elif others == "upload":
        client.create_snapshot(ids.still_id(own_id), {"name": "left", "volume": own_id})
    driver.delete_volume(volume)
    # What another has or had is not overwritten. Discarding leaves it to the kernel.
    left = how == "zero" and others != "none"
    said = f"Volume {volume.id}: {MIB} bytes were asked to be cleared and were not"
    assert (said in caplog.text) == left
    assert ("were asked to be cleared" in caplog.text) == left
    driver.delete_snapshot(snapshot)


def test_clearing_that_takes_too_long_is_given_up(world: World, client: Client) -> None:
    slow = world.driver(ashlar_volume_clear="zero", volume_copy_bps_limit=1)
    done = world.driver(ashlar_volume_clear="none")
    volume = world.volume()
    slow.create_volume(volume)
    # Some minutes of it.
    content = random.Random(5).randbytes(16 * MIB)
    client.write_extents(uuid.UUID(volume.id), extents_of(io.BytesIO(content), GIB))
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(slow.delete_volume, volume)
        while there(client, volume)["state"] != "deleting":
            assert time.monotonic() - begin < 60
            time.sleep(0.05)
        # As a service does that is started meanwhile.
        again = threads.submit(slow.delete_volume, volume)
        with pytest.raises(concurrent.futures.TimeoutError):
            again.result(timeout=2)
        assert there(client, volume)["state"] == "deleting"
        done.delete_volume(volume)
        for one in (first, again):
            one.result(timeout=60)
    assert time.monotonic() - begin < 100


def test_what_the_appliance_has_not_is_said_at_start(
    world: World, driver: AshlarDriver, caplog: pytest.LogCaptureFixture, traffic: list[str]
) -> None:
    there, gone, new = world.volume(), world.volume(), world.volume(status="creating")
    driver.create_volume(there)
    snapshot, lost = world.snapshot(there), world.snapshot(there, status="available")
    driver.create_snapshot(snapshot)
    traffic.clear()
    told = driver.update_provider_info([there, gone, new], [snapshot, lost])
    assert told == (None, None)
    assert traffic == ["GET /v1/volumes?limit=1000", "GET /v1/snapshots?limit=1000"]
    said = [record.getMessage() for record in caplog.records if "has no" in record.getMessage()]
    assert len(said) == 2
    for message, one in zip(said, (gone, lost), strict=True):
        assert one.id in message
    driver.delete_snapshot(snapshot)
    driver.delete_volume(there)


def test_what_another_service_destroyed_meanwhile_is_not_missing(
    world: World, driver: AshlarDriver, caplog: pytest.LogCaptureFixture
) -> None:
    volume, deleting = world.volume(), world.volume()
    snapshot = world.snapshot(volume, status="available")
    volumes = objects.VolumeList.get_all(world.context)
    snapshots = objects.SnapshotList.get_all(world.context, {})
    driver.update_provider_info(volumes, snapshots)
    assert caplog.text.count("the appliance has no") == 3
    caplog.clear()
    snapshot.destroy()
    volume.destroy()
    deleting.status = "deleting"
    deleting.save()
    driver.update_provider_info(volumes, snapshots)
    assert "the appliance has no" not in caplog.text


def test_a_start_does_not_need_the_appliance(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    away = world.unready(ashlar_endpoint="127.0.0.1:1", ashlar_patience=0)
    away.do_setup(world.context)
    assert away.update_provider_info([world.volume()], []) == (None, None)
    assert "was not compared" in caplog.text


def test_snapshots_clones_and_the_way_back(
    world: World, driver: AshlarDriver, client: Client, traffic: list[str]
) -> None:
    volume, clone, copy = world.volume(), world.volume(size=2), world.volume()
    snapshot = world.snapshot(volume)
    driver.create_volume(volume)
    traffic.clear()
    driver.create_snapshot(snapshot)
    driver.create_volume_from_snapshot(clone, snapshot)
    driver.create_cloned_volume(copy, volume)
    driver.revert_to_snapshot(world.context, volume, snapshot)
    assert len(traffic) == 4
    assert not driver.snapshot_revert_use_temp_snapshot()
    assert there(client, clone)["size"] == 2 * GIB
    assert there(client, clone)["parent"] == {"snapshot": uuid.UUID(snapshot.id).bytes}
    assert there(client, copy)["parent"] == {"volume": uuid.UUID(volume.id).bytes}
    for one in (volume, clone, copy):
        driver.delete_volume(one)
    driver.delete_snapshot(snapshot)
    driver.delete_snapshot(snapshot)


def test_what_was_left_goes_along(world: World, driver: AshlarDriver, client: Client) -> None:
    volume = world.volume()
    snapshot = world.snapshot(volume)
    driver.create_volume(volume)
    driver.create_snapshot(snapshot)
    # As if the service had been killed between attaching a snapshot or uploading and the end of it.
    driver.create_export_snapshot(world.context, snapshot, {})
    still = ids.still_id(uuid.UUID(volume.id))
    client.create_snapshot(still, {"name": "left", "volume": uuid.UUID(volume.id)})
    driver.delete_snapshot(snapshot)
    driver.delete_volume(volume)


def test_a_volume_that_hosts_use_stays(world: World, driver: AshlarDriver, connector: Any) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    driver.initialize_connection(volume, connector("alpha"))
    with pytest.raises(exception.VolumeIsBusy, match="in-use"):
        driver.delete_volume(volume)
    snapshot = world.snapshot(volume)
    driver.create_snapshot(snapshot)
    with pytest.raises(exception.VolumeIsBusy):
        driver.revert_to_snapshot(world.context, volume, snapshot)
    driver.delete_snapshot(snapshot)
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


def test_types_say_what_a_volume_is_like(
    world: World, driver: AshlarDriver, client: Client, traffic: list[str]
) -> None:
    thick = type_of(world, {"provisioning:type": "thick"}, {"total_iops_sec": "500"})
    volume = world.volume(volume_type_id=thick)
    driver.create_volume(volume)
    assert there(client, volume)["provisioning"] == "thick"
    assert there(client, volume)["qos"] == {"total_iops": 500}

    slow = type_of(world, {}, {"read_bytes_sec_per_gb": str(1 << 20)})
    new_type = volume_types.get_volume_type(world.context, slow)
    diff, _ = volume_types.volume_types_diff(world.context, thick, slow)
    traffic.clear()
    retyped = driver.retype(world.context, volume, new_type, diff, {"host": volume.host})
    assert retyped == (True, None)
    assert len(traffic) == 1
    assert there(client, volume)["provisioning"] == "thin"
    assert there(client, volume)["qos"] == {"read_bytes": 1 << 20, "per_gib": True}

    plain = volume_types.get_volume_type(world.context, type_of(world, {}))
    driver.retype(world.context, volume, plain, {}, {"host": volume.host})
    assert "qos" not in there(client, volume)
    driver.delete_volume(volume)


def host_of(driver: AshlarDriver, pool: str) -> dict[str, Any]:
    """Where a volume is to go, as the scheduler says it."""
    pools = driver.get_volume_stats(refresh=True)["pools"]
    [capabilities] = [one for one in pools if one["pool_name"] == pool]
    return {"host": f"h@ashlar#{pool}", "capabilities": capabilities}


def test_a_volume_goes_to_another_pool(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    second = host_of(driver, "second")
    for _ in range(2):
        assert driver.migrate_volume(world.context, volume, second) == (True, None)
    assert there(client, volume)["pool"] == world.appliance.pools["second"].bytes
    volume.host = second["host"]

    # Back again beneath a host, with other limits.
    driver.initialize_connection(volume, connector("alpha"))
    slow = type_of(world, {}, {"total_iops_sec": "100"})
    new_type = volume_types.get_volume_type(world.context, slow)
    tank = host_of(driver, "tank")
    assert driver.retype(world.context, volume, new_type, {}, tank) == (True, None)
    assert there(client, volume)["pool"] == world.appliance.pools["tank"].bytes
    assert there(client, volume)["qos"] == {"total_iops": 100}
    volume.host = tank["host"]

    # One that cannot go stays as it is.
    snapshot = world.snapshot(volume)
    driver.create_snapshot(snapshot)
    plain = volume_types.get_volume_type(world.context, volume.volume_type_id)
    volume.volume_type_id, volume.volume_type = (
        slow,
        objects.VolumeType.get_by_id(world.context, slow),
    )
    with pytest.raises(exception.VolumeIsBusy, match="which stay in its pool"):
        driver.retype(world.context, volume, plain, {}, second)
    assert there(client, volume)["pool"] == world.appliance.pools["tank"].bytes
    assert there(client, volume)["qos"] == {"total_iops": 100}
    driver.delete_snapshot(snapshot)
    driver.terminate_connection(volume, connector("alpha"))
    driver.delete_volume(volume)


@pytest.mark.parametrize("info", [None, "lvm:x:y", f"ashlar:{uuid.uuid4()}:{uuid.uuid4()}"])
def test_other_backends_are_cinder_s_to_reach(
    world: World, driver: AshlarDriver, info: str | None, traffic: list[str]
) -> None:
    volume = world.volume()
    traffic.clear()
    host = {"host": "h@other#pool", "capabilities": {"location_info": info}}
    assert driver.migrate_volume(world.context, volume, host) == (False, None)
    assert not traffic


def test_a_volume_without_a_type(world: World, driver: AshlarDriver, client: Client) -> None:
    volume = world.volume()
    volume.volume_type_id = None
    volume.volume_type = None
    driver.create_volume(volume)
    assert there(client, volume)["provisioning"] == "thin"
    driver.delete_volume(volume)


def test_a_pool_that_is_not_there(world: World, driver: AshlarDriver) -> None:
    volume = world.volume(pool="nowhere")
    with pytest.raises(exception.VolumeBackendAPIException, match="no pool named 'nowhere'"):
        driver.create_volume(volume)


def test_a_full_pool_says_so(world: World, driver: AshlarDriver) -> None:
    thick = type_of(world, {"provisioning:type": "thick"})
    volume = world.volume(volume_type_id=thick, size=100)
    with pytest.raises(exception.VolumeBackendAPIException, match="no-space"):
        driver.create_volume(volume)


def test_whose_a_volume_is(world: World, driver: AshlarDriver, client: Client) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    driver.accept_transfer(world.context, volume, "user", "project")
    assert there(client, volume)["owner"] == "project"
    driver.delete_volume(volume)


def test_a_migrated_volume_has_its_new_id(world: World, driver: AshlarDriver) -> None:
    volume, new = world.volume(), world.volume()
    update = driver.update_migrated_volume(world.context, volume, new, "available")
    assert update == {"_name_id": new.id}
    volume.update(update)
    volume.save()
    driver.create_volume(new)
    assert driver.get_pool(volume) == "tank"
    driver.delete_volume(volume)


def test_statistics_take_one_request(
    world: World, driver: AshlarDriver, traffic: list[str]
) -> None:
    volumes = [world.volume() for _ in range(5)]
    for volume in volumes:
        driver.create_volume(volume)
    traffic.clear()
    stats = driver.get_volume_stats(refresh=True)
    assert traffic == ["GET /v1/pools?limit=1000"]
    assert stats["volume_backend_name"] == "ashlar"
    assert stats["vendor_name"] == "Ashlar"
    assert stats["storage_protocol"] == driver._protocol.storage_protocol
    assert stats["replication_enabled"] is False
    assert {pool["pool_name"] for pool in stats["pools"]} == {"tank", "second"}
    [tank] = [pool for pool in stats["pools"] if pool["pool_name"] == "tank"]
    assert tank["total_volumes"] == 5
    assert tank["provisioned_capacity_gb"] == 5.0
    assert 7 < tank["total_capacity_gb"] <= 8
    assert 7 < tank["free_capacity_gb"] <= tank["total_capacity_gb"]
    assert tank["backend_state"] == "up"
    assert tank["max_over_subscription_ratio"] == 20.0
    assert tank["reserved_percentage"] == 0
    assert tank["thin_provisioning_support"] is True
    assert tank["thick_provisioning_support"] is True
    assert tank["multiattach"] is True
    assert tank["consistent_group_snapshot_enabled"] is True
    for volume in volumes:
        driver.delete_volume(volume)


def test_capabilities_name_what_types_can_say(driver: AshlarDriver) -> None:
    properties = driver.capabilities["properties"]
    assert properties["ashlar:provisioning"]["enum"] == ["thin", "thick"]
    assert driver.capabilities["vendor_prefix"] == "ashlar"


def test_options_of_the_scheduler(world: World) -> None:
    driver = world.driver(
        ashlar_pools=["second"],
        reserved_percentage=7,
        max_over_subscription_ratio="auto",
        filter_function="volume.size < 10",
        goodness_function="50",
    )
    [pool] = driver.get_volume_stats(refresh=True)["pools"]
    assert pool["pool_name"] == "second"
    assert pool["reserved_percentage"] == 7
    assert pool["max_over_subscription_ratio"] == "auto"
    assert pool["filter_function"] == "volume.size < 10"
    assert pool["goodness_function"] == "50"
    with pytest.raises(exception.VolumeBackendAPIException, match="no pool"):
        driver.create_volume(world.volume(pool="tank"))


def test_many_at_once(world: World, driver: AshlarDriver, connector: Any) -> None:
    volumes = [world.volume() for _ in range(16)]
    for volume in volumes:
        # Loaded here: a database in memory is one thread's.
        assert volume.volume_type is not None
        assert volume.volume_attachment is not None
    host = connector("alpha")
    driver.create_volume(volumes[0])
    driver.initialize_connection(volumes[0], host)

    def life(volume: Any) -> None:
        driver.create_volume(volume)
        if driver.HOST_KEY == "nqn":
            driver.initialize_connection(volume, host)
            driver.terminate_connection(volume, host)
        driver.extend_volume(volume, 2)
        driver.delete_volume(volume)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(life, volumes[1:]))
    driver.terminate_connection(volumes[0], host)
    driver.delete_volume(volumes[0])


def test_two_services_ask_for_the_same(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    other = world.driver(type(driver), use_chap_auth=True, ashlar_nvme_authentication="none")
    volume = world.volume()
    for one in (driver, other):
        one.create_volume(volume)
    infos = [one.initialize_connection(volume, connector("alpha")) for one in (driver, other)]
    assert infos[0] == infos[1]
    assert len(list(client.connections())) == 1
    assert len(list(client.hosts())) == 1
    for one in (driver, other):
        one.terminate_connection(volume, connector("alpha"))
    for one in (driver, other):
        one.delete_volume(volume)


@pytest.mark.parametrize("accident", ["kill-agent", "kill-targetd", "power-cut"])
def test_an_accident_in_the_middle_is_not_noticed(
    world: World, driver: AshlarDriver, client: Client, connector: Any, accident: str
) -> None:
    volume = world.volume()
    driver.create_volume(volume)
    before = driver.initialize_connection(volume, connector("alpha"))
    world.appliance.order(accident)
    driver.extend_volume(volume, 2)
    assert driver.initialize_connection(volume, connector("alpha")) == before
    assert driver.get_volume_stats(refresh=True)["pools"][0]["backend_state"] == "up"
    driver.terminate_connection(volume, None)
    driver.delete_volume(volume)
