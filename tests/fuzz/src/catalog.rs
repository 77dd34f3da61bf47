//! A pool's catalog, as a region with anything in it: disks come from other boxes.

use std::io;

use arbitrary::Unstructured;
use ashlar_agent::catalog::{BLOCK, Medium, Owner, Writer, highest, read};
use uuid::Uuid;

use crate::seed;

/// Two sides of eight blocks.
const SIZE: usize = 16 * BLOCK;
/// Where a frame's checksum begins to count, and where it has its length.
const SIGNED: usize = 12;
const HEAD: usize = 64;

#[derive(Clone)]
struct Region(Vec<u8>);

impl Medium for Region {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let at = at as usize;
        let there = self.0.get(at..at + bytes.len());
        let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(there);
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = at as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pool() -> Uuid {
    seed::id(3)
}

/// Takes the bytes for a region; with the first one odd, all frames in it are made to have sound
/// checksums.
///
/// # Panics
/// When reading it panics, or what was read is not read again once it was written.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let forged = input.arbitrary::<u8>().unwrap_or(0) % 2 == 1;
    let mut region = Region(vec![0; SIZE]);
    let bytes = input.take_rest();
    let length = bytes.len().min(SIZE);
    region.0[..length].copy_from_slice(&bytes[..length]);
    if forged {
        region.0.chunks_mut(BLOCK).for_each(sign);
    }
    let Ok(catalog) = read(&mut region, pool()) else {
        // Whatever is there, the pool's box can write a whole one.
        let mut writer = Writer::after(pool(), highest(&mut region, pool()));
        let checkpoint = writer.begin(1, Owner::default());
        let nothing = ashlar_agent::store::Batch::new();
        let finished = writer.finish(&mut region, checkpoint, &nothing);
        finished.expect("nothing takes no room");
        return;
    };
    let mut writer = Writer::new(pool(), Some(&catalog));
    let mut checkpoint = writer.begin(1, catalog.owner);
    for (key, value) in catalog.entries.clone() {
        if writer
            .add(&mut region, &mut checkpoint, key, value)
            .is_err()
        {
            return;
        }
    }
    let nothing = ashlar_agent::store::Batch::new();
    if writer.finish(&mut region, checkpoint, &nothing).is_ok() {
        let again = read(&mut region, pool()).expect("it was just written");
        assert_eq!(again.entries, catalog.entries);
        assert_eq!(again.owner, catalog.owner);
    }
}

fn sign(block: &mut [u8]) {
    if !block.starts_with(b"ASHLARCT") {
        return;
    }
    let length = u32::from_be_bytes(block[12..16].try_into().expect("four bytes")) as usize;
    if let Some(signed) = block.get(SIGNED..HEAD + length) {
        let crc = crc32fast::hash(signed);
        block[8..12].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Regions that were written once and twice, as they are and to be forged.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut region = Region(vec![0; SIZE]);
    let mut writer = Writer::new(pool(), None);
    let mut seeds = Vec::new();
    let owner = Owner {
        id: seed::id(9),
        generation: 4,
    };
    for life in [7, 8] {
        let mut checkpoint = writer.begin(life, owner);
        for number in 0..3 {
            let (key, value) = (vec![0x30, number], vec![number; 40]);
            let added = writer.add(&mut region, &mut checkpoint, key, value);
            added.expect("there is room");
        }
        let mut since = ashlar_agent::store::Batch::new();
        since.put([0x30, 1], *b"changed");
        let finished = writer.finish(&mut region, checkpoint, &since);
        finished.expect("there is room");
        let mut batch = ashlar_agent::store::Batch::new();
        batch.put([0x30, 9], *b"later").delete([0x30, 0]);
        let appended = writer.append(&mut region, &batch);
        appended.expect("there is room");
        for forged in [0, 1] {
            let mut seed = vec![forged];
            seed.extend(&region.0);
            seeds.push(seed);
        }
    }
    seeds
}
