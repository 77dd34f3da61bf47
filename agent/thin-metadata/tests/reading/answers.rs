//! What is read is what was written, and at the cost that it should have.

use std::collections::BTreeMap;

use ashlar_thin_metadata::{Change, Difference, Extent, Metadata, MetadataError, ThinDevice};
use proptest::prelude::*;

use crate::pool::{Image, Pool, spread};

fn extents(metadata: &Metadata<&Image>, id: u32, from: u64) -> Vec<Extent> {
    let extents = metadata.extents(id, from).expect("it exists");
    extents.map(|extent| extent.expect("it is whole")).collect()
}

fn differences(metadata: &Metadata<&Image>, first: u32, second: u32, from: u64) -> Vec<Difference> {
    let differences = metadata
        .differences(first, second, from)
        .expect("they exist");
    differences.map(|run| run.expect("it is whole")).collect()
}

fn changes(runs: &[Difference]) -> BTreeMap<u64, Change> {
    let blocks = runs.iter();
    let blocks = blocks.flat_map(|run| (0..run.length).map(|n| (run.begin + n, run.change)));
    blocks.collect()
}

#[test]
fn an_empty_pool_has_no_device() {
    let image = Pool::new().image();
    let metadata = image.open();
    assert_eq!(metadata.devices(0).unwrap().count(), 0);
    assert_eq!(metadata.highest_device().unwrap(), None);
    assert_eq!((metadata.data_block(), metadata.transaction()), (65_536, 7));
    let error = metadata.extents(0, 0).unwrap_err();
    assert!(matches!(error, MetadataError::NoDevice(0)), "{error}");
    assert!(matches!(
        metadata.device(0),
        Err(MetadataError::NoDevice(0))
    ));
}

#[test]
fn the_pools_own_superblock_names_the_held_root() {
    let image = Pool::new().image();
    let own = Metadata::open(&image, 0).unwrap();
    assert_eq!(own.held_root(), Some(image.root));
    assert_eq!(image.open().held_root(), None);
}

#[test]
fn devices_are_told_in_order_from_any_id_on() {
    let mut pool = Pool::new();
    let ids: Vec<u32> = (0..400).map(|n| n * 41_000).collect();
    ids.iter().for_each(|id| pool.create(*id));
    pool.write(41_000, 5..8);
    pool.snapshot(3, 41_000);
    let image = pool.image();
    let metadata = image.open();
    let told = |from| {
        metadata
            .devices(from)
            .unwrap()
            .map(|device| device.unwrap().id)
    };
    assert_eq!(told(0).collect::<Vec<_>>(), pool.ids());
    assert_eq!(told(41_001).next(), Some(82_000));
    assert_eq!(told(399 * 41_000 + 1).next(), None);
    // Two ways down a tree of four levels: its height, and its last leaf.
    let (highest, reads) = image.counted(|| metadata.highest_device().unwrap());
    assert_eq!((highest, reads), (Some(399 * 41_000), 8));
    let snapshot = ThinDevice {
        id: 3,
        mapped_blocks: 3,
        transaction: 7,
        created: 1,
        snapshotted: 1,
    };
    assert_eq!(metadata.device(3).unwrap(), snapshot);
    assert!(metadata.device(4).is_err());
}

#[test]
fn extents_are_as_long_as_they_can_be() {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 10..20);
    pool.write(1, 20..300);
    pool.write(1, 5_000_000..5_000_002);
    pool.write(1, [15]);
    let image = pool.image();
    let extent = |begin, length, data| Extent {
        begin,
        length,
        data,
        time: 0,
    };
    let all = [
        extent(10, 5, 0),
        extent(15, 1, 292),
        extent(16, 284, 6),
        extent(5_000_000, 2, 290),
    ];
    assert_eq!(extents(&image.open(), 1, 0), all);
    assert_eq!(extents(&image.open(), 1, 15), all[1..]);
    assert_eq!(extents(&image.open(), 1, 301), all[3..]);
    assert_eq!(
        extents(&image.open(), 1, 5_000_001),
        [extent(5_000_001, 1, 291)]
    );
    assert_eq!(extents(&image.open(), 1, u64::MAX), []);
}

#[test]
fn what_was_written_and_discarded_since_a_snapshot_is_the_difference() {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 0..1000);
    pool.snapshot(2, 1);
    pool.write(1, 100..103);
    pool.write(1, 2000..2001);
    pool.discard(1, 900..905);
    let image = pool.image();
    let run = |begin, length, change| Difference {
        begin,
        length,
        change,
    };
    let runs = differences(&image.open(), 2, 1, 0);
    let expected = [
        run(100, 3, Change::Changed),
        run(900, 5, Change::Removed),
        run(2000, 1, Change::Added),
    ];
    assert_eq!(runs, expected);
    assert_eq!(
        differences(&image.open(), 2, 1, 902),
        [run(902, 3, Change::Removed), expected[2]]
    );
    assert_eq!(differences(&image.open(), 1, 1, 0), []);
}

/// A large device, so that a walk over all of it would show.
fn large() -> Pool {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 0..200_000);
    pool.snapshot(2, 1);
    pool
}

#[test]
fn a_difference_costs_what_changed_and_not_what_there_is() {
    let mut pool = large();
    let unchanged = pool.image();
    let (runs, same) = unchanged.counted(|| differences(&unchanged.open(), 2, 1, 0));
    assert_eq!(runs, []);
    // The superblock, and for each device the tree of roots and the way down its own.
    let heights = same;
    assert!(heights < 20, "{heights}");

    pool.write(1, [70, 90_000, 199_999]);
    let image = pool.image();
    let whole = image.counted(|| extents(&image.open(), 1, 0)).1;
    assert!(whole > 3000, "{whole}");
    let (runs, cost) = image.counted(|| differences(&image.open(), 2, 1, 0));
    assert_eq!(runs.len(), 3);
    // Each change has a path of its own at most, on both sides.
    assert!(cost <= heights + 3 * 2 * 4, "{cost}");
}

#[test]
fn trees_of_different_heights_are_compared() {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 0..64);
    pool.snapshot(2, 1);
    pool.write(1, [1 << 40, 1 << 50]);
    let image = pool.image();
    for (first, second, change) in [(2, 1, Change::Added), (1, 2, Change::Removed)] {
        let runs = differences(&image.open(), first, second, 0);
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert!(
            runs.iter()
                .all(|run| run.change == change && run.length == 1)
        );
    }
    assert_eq!(image.open().exclusive_blocks(1, [2]).unwrap(), 2);
    assert_eq!(image.open().exclusive_blocks(2, [1]).unwrap(), 0);
}

#[test]
fn what_a_device_has_alone_is_found_at_the_cost_of_what_differs() {
    let mut pool = large();
    pool.snapshot(3, 1);
    pool.write(1, 50_000..50_010);
    pool.snapshot(4, 1);
    pool.write(1, [3, 50_003, 50_004]);
    let image = pool.image();
    let alone = |id: u32| image.open().exclusive_blocks(id, pool.ids()).unwrap();
    let (counts, cost) = image.counted(|| [1, 2, 3, 4].map(alone));
    assert_eq!(counts, [3, 0, 0, 2]);
    assert_eq!(counts, [1, 2, 3, 4].map(|id| pool.exclusive(id)));
    assert!(cost < 250, "{cost}");
}

#[test]
fn blocks_are_exclusive_again_when_the_snapshot_is_gone() {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 0..100);
    pool.snapshot(2, 1);
    assert_eq!(pool.image().open().exclusive_blocks(1, [2]).unwrap(), 0);
    pool.delete(2);
    for others in [vec![], vec![1, 2, 5]] {
        let alone = pool.image().open().exclusive_blocks(1, others);
        assert_eq!(alone.unwrap(), 100);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Create(u32),
    Snapshot(u32, u32),
    Write(u32, u64, u64),
    Discard(u32, u64, u64),
    Delete(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let id = || 0_u32..6;
    let place = || prop_oneof![0_u64..300, 4000_u64..4100, Just(1 << 30)];
    prop_oneof![
        1 => id().prop_map(Event::Create),
        2 => (id(), id()).prop_map(|(id, origin)| Event::Snapshot(id, origin)),
        6 => (id(), place(), 1_u64..150).prop_map(|(id, at, n)| Event::Write(id, at, n)),
        2 => (id(), place(), 1_u64..150).prop_map(|(id, at, n)| Event::Discard(id, at, n)),
        1 => id().prop_map(Event::Delete),
    ]
}

fn happen(pool: &mut Pool, event: Event) {
    let has = |pool: &Pool, id: u32| pool.ids().contains(&id);
    match event {
        Event::Create(id) if !has(pool, id) => pool.create(id),
        Event::Snapshot(id, origin) if !has(pool, id) && has(pool, origin) => {
            pool.snapshot(id, origin);
        }
        Event::Write(id, at, n) if has(pool, id) => pool.write(id, at..at + n),
        Event::Discard(id, at, n) if has(pool, id) => pool.discard(id, at..at + n),
        Event::Delete(id) => pool.delete(id),
        Event::Create(_) | Event::Snapshot(..) | Event::Write(..) | Event::Discard(..) => {}
    }
}

proptest! {
    #[test]
    fn any_life_of_a_pool_is_read_as_it_was(
        events in prop::collection::vec(event(), 1..40),
        from in 0_u64..5000,
    ) {
        let mut pool = Pool::new();
        pool.create(0);
        for event in events {
            happen(&mut pool, event);
        }
        let image = pool.image();
        let metadata = image.open();
        for id in pool.ids() {
            let mapped = spread(&extents(&metadata, id, 0));
            prop_assert_eq!(&mapped, pool.mappings(id));
            let rest = spread(&extents(&metadata, id, from));
            prop_assert!(rest.iter().eq(pool.mappings(id).range(from..)));
            let last = pool.mappings(id).last_key_value().map(|(block, _)| *block);
            prop_assert_eq!(metadata.last_block(id).unwrap(), last);
            prop_assert_eq!(metadata.device(id).unwrap().mapped_blocks, mapped.len() as u64);
            prop_assert_eq!(metadata.exclusive_blocks(id, pool.ids()).unwrap(), pool.exclusive(id));
            for other in pool.ids() {
                let mut expected = pool.differences(id, other);
                prop_assert_eq!(&changes(&differences(&metadata, id, other, 0)), &expected);
                expected = expected.split_off(&from);
                prop_assert_eq!(changes(&differences(&metadata, id, other, from)), expected);
            }
        }
    }
}
