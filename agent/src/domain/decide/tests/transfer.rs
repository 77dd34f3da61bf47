//! Giving volumes to others.

use super::*;

/// A volume without connections, made in the furnished world.
const IDLE: Uuid = Uuid::from_u128(0xe1);

fn owner(world: &World, volume: Uuid) -> Option<String> {
    let owner = &world.intent.volume(volume).unwrap().record.owner;
    owner.as_ref().map(ToString::to_string)
}

#[test]
fn a_volume_that_is_connected_is_transferred_only_by_cutting_its_hosts() {
    let world = &mut World::furnished();
    refuses(
        world,
        transfer(VOLUME, "web", false),
        InUse,
        "has 1 connection",
    );
    assert_eq!(owner(world, VOLUME), None);
    let unit = Unit::Volume(VOLUME);
    assert_eq!(world.does(transfer(VOLUME, "web", true)), Some(unit));
    assert_eq!(owner(world, VOLUME).as_deref(), Some("web"));
    let phase = world.intent.connection(CONNECTION).unwrap().phase;
    assert_eq!(phase, ConnectionPhase::Cutting);
    // Whoever asks again waits for the same end.
    joins(world, transfer(VOLUME, "web", true), unit);
    world.settle(unit);
    assert_eq!(world.intent.connection(CONNECTION), None);
    unchanged(world, transfer(VOLUME, "web", false));
}

#[test]
fn without_connections_it_is_only_noted() {
    let world = &mut World::furnished();
    world.does(volume(IDLE, MIB));
    world.settle(Unit::Volume(IDLE));
    for owned in ["web", "billing"] {
        assert_eq!(world.does(transfer(IDLE, owned, false)), None);
        assert_eq!(owner(world, IDLE).as_deref(), Some(owned));
    }
    refuses(world, transfer(id(9), "web", false), NotFound, "not exist");
    world.does(Command::VolumeDelete { id: IDLE });
    refuses(world, transfer(IDLE, "web", true), Busy, "being deleted");
}
