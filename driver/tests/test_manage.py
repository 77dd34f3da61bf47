"""What is on the appliance already becomes Cinder's, and no longer is."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pytest
from cinder import context, exception, objects

from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client
from ashlar_cinder.client.streams import extents_of
from tests.conftest import World

GIB = 1 << 30
MIB = 1 << 20


def made(client: Client, pool: uuid.UUID, size: int = GIB) -> uuid.UUID:
    """A volume of an operator's."""
    volume = uuid.uuid4()
    client.create_volume(volume, {"name": "theirs", "pool": pool, "size": size})
    return volume


def listed(driver: AshlarDriver, volumes: list[Any], **how: Any) -> list[dict[str, Any]]:
    how = {"marker": None, "limit": 100, "offset": 0} | how
    found: list[dict[str, Any]] = driver.get_manageable_volumes(
        volumes, sort_keys=["size", "reference"], sort_dirs=["asc", "asc"], **how
    )
    # As Cinder sends it to its API.
    objects.ManageableVolumeList.from_primitives(context.get_admin_context(), found)
    return found


def test_a_volume_that_is_there(
    world: World, driver: AshlarDriver, client: Client, connector: Any
) -> None:
    theirs = made(client, world.appliance.pools["tank"], GIB + MIB)
    ref = {"source-id": str(theirs)}
    volume = world.volume()
    [entry] = listed(driver, [])
    assert entry["reference"] == ref
    assert entry["safe_to_manage"]
    assert driver.manage_existing_get_size(volume, ref) == 2
    update = driver.manage_existing(volume, ref)
    assert update == {"_name_id": str(theirs)}
    volume.update(update | {"size": 2})
    volume.save()
    assert driver.manage_existing(volume, ref) == update
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing(world.volume(), ref)
    [entry] = listed(driver, [volume])
    assert (entry["cinder_id"], entry["safe_to_manage"]) == (volume.id, False)
    [entry] = listed(driver, [])
    assert not entry["safe_to_manage"]

    # All else works with it.
    driver.initialize_connection(volume, connector("alpha"))
    driver.terminate_connection(volume, connector("alpha"))
    driver.extend_volume(volume, 3)
    assert client.volume(theirs)["size"] == 3 * GIB
    driver.unmanage(volume)
    assert "labels" not in client.volume(theirs)
    client.delete_volume(theirs)
    driver.unmanage(volume)


def test_a_thin_device_that_belongs_to_none(
    world: World, driver: AshlarDriver, client: Client
) -> None:
    theirs = made(client, world.appliance.pools["tank"])
    content = b"theirs".ljust(4096, b"x")
    client.write_extents(theirs, extents_of(io.BytesIO(content), GIB))
    client.release_volume(theirs)
    [entry] = listed(driver, [])
    ref = entry["reference"]
    assert ref["source-name"].startswith("tank/")
    volume = world.volume()
    assert driver.manage_existing_get_size(volume, ref) == 1
    assert driver.manage_existing(volume, ref) is None
    assert client.volume(uuid.UUID(volume.id))["size"] == GIB
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing(world.volume(), ref)
    assert [entry["cinder_id"] for entry in listed(driver, [volume])] == [volume.id]
    driver.delete_volume(volume)


@pytest.mark.parametrize(
    "ref",
    [
        {"source-id": "no-uuid"},
        {"source-id": "0c9aa45e-8ee7-4b2c-9b42-f5e0a7ac6f57"},
        {"source-name": "tank"},
        {"source-name": "tank/x"},
        {"source-name": "tank/77"},
        {"source-name": "nowhere/1"},
        {"other": "1"},
    ],
    ids=str,
)
def test_references_that_are_none(world: World, driver: AshlarDriver, ref: dict[str, str]) -> None:
    volume = world.volume()
    with pytest.raises(exception.ManageExistingInvalidReference):
        driver.manage_existing_get_size(volume, ref)
    with pytest.raises(exception.ManageExistingInvalidReference):
        driver.manage_existing(volume, ref)


def test_a_volume_of_another_pool(world: World, driver: AshlarDriver, client: Client) -> None:
    theirs = made(client, world.appliance.pools["second"])
    with pytest.raises(exception.ManageExistingInvalidReference, match="not in the pool"):
        driver.manage_existing(world.volume(), {"source-id": str(theirs)})
    client.delete_volume(theirs)


def test_lists_come_in_pages(world: World, driver: AshlarDriver, client: Client) -> None:
    pool = world.appliance.pools["tank"]
    theirs = [made(client, pool, size * GIB) for size in (3, 1, 2)]
    sizes = [entry["size"] for entry in listed(driver, [], limit=2)]
    assert sizes == [1, 2]
    [last] = listed(driver, [], limit=2, offset=2)
    assert last["size"] == 3
    [after] = listed(driver, [], marker={"source-id": str(theirs[2])})
    assert after["size"] == 3
    for volume in theirs:
        client.delete_volume(volume)


def test_a_snapshot_that_is_there(world: World, driver: AshlarDriver, client: Client) -> None:
    volume, other = world.volume(), world.volume()
    driver.create_volume(volume)
    driver.create_volume(other)
    theirs = uuid.uuid4()
    client.create_snapshot(theirs, {"name": "theirs", "volume": uuid.UUID(volume.id)})
    snapshot, again = world.snapshot(volume), world.snapshot(volume)
    ref = {"source-id": str(theirs)}
    how: Any = {"marker": None, "limit": 10, "offset": 0, "sort_keys": ["size"]}
    [entry] = driver.get_manageable_snapshots([], sort_dirs=["asc"], **how)
    objects.ManageableSnapshotList.from_primitives(world.context, [entry])
    assert entry["reference"] == ref
    assert entry["source_reference"] == {"source-id": volume.id}
    assert driver.manage_existing_snapshot_get_size(snapshot, ref) == 1
    with pytest.raises(exception.ManageExistingInvalidReference, match="no snapshot of"):
        driver.manage_existing_snapshot(world.snapshot(other), ref)
    update = driver.manage_existing_snapshot(snapshot, ref)
    assert update == {"provider_id": str(theirs)}
    snapshot.update(update)
    snapshot.save()
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing_snapshot(again, ref)
    driver.revert_to_snapshot(world.context, volume, snapshot)
    driver.unmanage_snapshot(snapshot)

    # Let go of, it can be adopted.
    client.release_snapshot(theirs)
    thin = [one for one in client.thin_devices(world.appliance.pools["tank"]) if one["adoptable"]]
    ref = {"source-name": f"tank/{thin[-1]['thin_id']}"}
    assert driver.manage_existing_snapshot_get_size(again, ref) == 1
    assert driver.manage_existing_snapshot(again, ref) is None
    driver.delete_snapshot(again)
    for one in (volume, other):
        driver.delete_volume(one)
