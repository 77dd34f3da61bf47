"""Groups whose snapshots are of one instant."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pytest
from cinder.tests.unit import utils as cinder_utils
from cinder.volume import group_types

from ashlar_cinder import ids
from ashlar_cinder.base import AshlarDriver
from ashlar_cinder.client import Client
from ashlar_cinder.client.streams import extents_of
from tests.conftest import World
from tests.test_volumes import jobs_of

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def group_type(world: World) -> str:
    made = group_types.create(
        world.context, "consistent", {"consistent_group_snapshot_enabled": "<is> True"}
    )
    return str(made.id)


def group_of(world: World, group_type: str, **settings: Any) -> Any:
    return cinder_utils.create_group(
        world.context,
        group_type_id=group_type,
        volume_type_ids=[world.case.vt["id"]],
        host="h@ashlar",
        **settings,
    )


def snapshot_of(world: World, group: Any, group_type: str, volumes: list[Any]) -> Any:
    group_snapshot = cinder_utils.create_group_snapshot(
        world.context, group_id=group.id, group_type_id=group_type
    )
    snapshots = [world.snapshot(one, group_snapshot_id=group_snapshot.id) for one in volumes]
    return group_snapshot, snapshots


def test_a_group_lives(
    world: World, driver: AshlarDriver, client: Client, group_type: str, traffic: list[str]
) -> None:
    group = group_of(world, group_type)
    assert driver.create_group(world.context, group) == {"status": "available"}
    # One is made in it, one joins it.
    born = world.volume(group_id=group.id)
    joined = world.volume()
    for volume in (born, joined):
        driver.create_volume(volume)
    driver.create_volume(born)
    driver.update_group(world.context, group, add_volumes=[joined], remove_volumes=[])
    members = client.group(uuid.UUID(group.id))["volumes"]
    assert sorted(members) == sorted(uuid.UUID(one.id).bytes for one in (born, joined))

    group_snapshot, snapshots = snapshot_of(world, group, group_type, [born, joined])
    traffic.clear()
    model, updates = driver.create_group_snapshot(world.context, group_snapshot, snapshots)
    assert len(traffic) == 1
    assert model == {"status": "available"}
    assert {update["status"] for update in updates} == {"available"}

    copied = group_of(world, group_type)
    copies = [world.volume(group_id=copied.id) for _ in range(2)]
    driver.create_group_from_src(
        world.context, copied, copies, group_snapshot=group_snapshot, snapshots=snapshots
    )
    cloned = group_of(world, group_type)
    clones = [world.volume(group_id=cloned.id) for _ in range(2)]
    driver.create_group_from_src(
        world.context, cloned, clones, source_group=group, source_vols=[born, joined]
    )
    for one in copies + clones:
        found = client.volume(uuid.UUID(one.id))
        assert found["name"] == one.name
        assert found["labels"] == {"cinder": one.id}

    driver.update_group(world.context, group, remove_volumes=[joined])
    driver.delete_volume(joined)
    for _ in range(2):
        model, updates = driver.delete_group_snapshot(world.context, group_snapshot, snapshots)
        assert model == {"status": "deleted"}
    for one, volumes in ((group, [born]), (copied, copies), (cloned, clones)):
        model, updates = driver.delete_group(world.context, one, volumes)
        assert model == {"status": "deleted"}
        assert {update["status"] for update in updates} == {"deleted"}
    assert driver.delete_group(world.context, group, [born])[0] == {"status": "deleted"}


def test_members_are_cleared_with_their_group(
    world: World, client: Client, group_type: str
) -> None:
    driver = world.driver(ashlar_volume_clear="zero")
    group = group_of(world, group_type)
    driver.create_group(world.context, group)
    volume = world.volume(group_id=group.id)
    driver.create_volume(volume)
    content = extents_of(io.BytesIO(b"x" * MIB), GIB)
    client.write_extents(uuid.UUID(volume.id), content)
    # Another is gone already.
    gone = world.volume(group_id=group.id)
    model, updates = driver.delete_group(world.context, group, [volume, gone])
    assert model == {"status": "deleted"}
    assert {update["status"] for update in updates} == {"deleted"}
    [deleted] = [job for job in jobs_of(client, volume) if job["operation"] == "volume-delete"]
    assert deleted["result"]["written"] == MIB


@pytest.mark.parametrize("how", ["none", "zero"])
def test_what_was_left_of_members_goes_along(
    world: World, client: Client, group_type: str, how: str
) -> None:
    driver = world.driver(ashlar_volume_clear=how)
    group = group_of(world, group_type)
    driver.create_group(world.context, group)
    volume = world.volume(group_id=group.id)
    driver.create_volume(volume)
    own_id = uuid.UUID(volume.id)
    client.create_snapshot(ids.still_id(own_id), {"name": "left", "volume": own_id})
    assert driver.delete_group(world.context, group, [volume])[0] == {"status": "deleted"}
    assert not list(client.snapshots())


@pytest.mark.parametrize("how", ["none", "zero"])
def test_a_member_that_hosts_use_is_not_deleted(
    world: World, group_type: str, connector: Any, how: str
) -> None:
    driver = world.driver(ashlar_volume_clear=how)
    group = group_of(world, group_type)
    driver.create_group(world.context, group)
    volumes = [world.volume(group_id=group.id) for _ in range(2)]
    for volume in volumes:
        driver.create_volume(volume)
    driver.initialize_connection(volumes[0], connector("alpha"))
    model, updates = driver.delete_group(world.context, group, volumes)
    assert model == {"status": "error_deleting"}
    assert [update["status"] for update in updates] == ["error_deleting", "deleted"]
    driver.terminate_connection(volumes[0], connector("alpha"))
    assert driver.delete_group(world.context, group, volumes)[0] == {"status": "deleted"}


def test_a_volume_that_cannot_join_is_not_left(
    world: World, driver: AshlarDriver, group_type: str
) -> None:
    # The appliance does not know the group.
    group = group_of(world, group_type)
    volume = world.volume(group_id=group.id)
    with pytest.raises(Exception, match="could not be found"):
        driver.create_volume(volume)


def test_other_groups_are_cinder_s_own(world: World, driver: AshlarDriver) -> None:
    plain = group_types.create(world.context, "plain", {})
    group = group_of(world, plain.id)
    with pytest.raises(NotImplementedError):
        driver.create_group(world.context, group)
    with pytest.raises(NotImplementedError):
        driver.update_group(world.context, group)
    with pytest.raises(NotImplementedError):
        driver.delete_group(world.context, group, [])
    volume = world.volume(group_id=group.id)
    driver.create_volume(volume)
    driver.delete_volume(volume)
