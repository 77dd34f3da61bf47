//! Whatever is wrong with a block is found and said.

use ashlar_thin_metadata::{BLOCK, Damage, Metadata, MetadataError};

use crate::pool::{Image, Pool};

const SUPERBLOCK_SALT: u32 = 160_774;
const NODE_SALT: u32 = 121_107;

/// One device; its tree has two levels.
fn image() -> Image {
    let mut pool = Pool::new();
    pool.create(1);
    pool.write(1, 0..200);
    pool.image()
}

impl Image {
    fn block(&mut self, block: u64) -> &mut [u8] {
        &mut self.bytes[block as usize * BLOCK..][..BLOCK]
    }

    /// Puts bytes into a block and mends its checksum.
    fn forge(&mut self, block: u64, at: usize, bytes: &[u8]) {
        let salt = match block == self.root {
            true => SUPERBLOCK_SALT,
            false => NODE_SALT,
        };
        let block = self.block(block);
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let checksum = !crc32c::crc32c(&block[4..]) ^ salt;
        block[..4].copy_from_slice(&checksum.to_le_bytes());
    }

    fn long(&mut self, block: u64, at: usize) -> u64 {
        let bytes = &self.block(block)[at..at + 8];
        u64::from_le_bytes(bytes.try_into().expect("it is 8"))
    }

    /// The root of the device's tree, and the first leaf under it.
    fn nodes(&mut self) -> (u64, u64) {
        let root = self.root;
        let mapping = self.long(root, 320);
        let tree = self.long(mapping, 32 + 252 * 8);
        let leaf = self.long(tree, 32 + 252 * 8);
        (tree, leaf)
    }

    /// What a walk over everything ends with.
    fn walk(&self) -> Result<u64, MetadataError> {
        let metadata = Metadata::open(self, self.root)?;
        for device in metadata.devices(0)? {
            device?;
        }
        metadata.exclusive_blocks(1, [1])?;
        let mut blocks = 0;
        for extent in metadata.extents(1, 0)? {
            blocks += extent?.length;
        }
        Ok(blocks)
    }

    #[track_caller]
    fn expect(&self, block: u64, damage: Damage) {
        match self.walk() {
            Err(MetadataError::Damaged {
                block: at,
                damage: found,
            }) => {
                assert_eq!((at, found), (block, damage));
            }
            other => panic!("{other:?} instead of {damage}"),
        }
    }
}

#[test]
fn what_is_whole_is_read() {
    assert_eq!(image().walk().unwrap(), 200);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let clean = image();
    for at in (0..clean.bytes.len()).step_by(509) {
        let mut image = image();
        image.bytes[at] ^= 0x10;
        let own = at < BLOCK;
        assert_eq!(image.walk().is_ok(), own, "byte {at}");
    }
}

#[test]
fn a_superblock_must_be_one() {
    let mut blank = image();
    let root = blank.root;
    blank.block(root).fill(0);
    blank.expect(root, Damage::Magic);

    let mut moved = image();
    moved.forge(root, 8, &5_u64.to_le_bytes());
    moved.expect(root, Damage::Misplaced(5));

    let mut large = image();
    large.forge(root, 340, &16_u32.to_le_bytes());
    large.expect(root, Damage::MetadataBlock(16));

    for sectors in [0_u32, 64, 129, 2_097_280] {
        let mut image = image();
        image.forge(root, 336, &sectors.to_le_bytes());
        image.expect(root, Damage::DataBlock(sectors));
    }
    for (at, number) in [(40, 3_u32), (40, 0), (360, 1)] {
        let mut image = image();
        image.forge(root, at, &number.to_le_bytes());
        let error = image.walk().unwrap_err();
        assert!(
            matches!(error, MetadataError::Unsupported { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_node_must_be_where_it_says_and_of_one_kind() {
    let (tree, leaf) = image().nodes();
    let mut moved = image();
    moved.forge(leaf, 8, &9_u64.to_le_bytes());
    moved.expect(leaf, Damage::Misplaced(9));
    for kind in [0_u32, 3, 4] {
        let mut image = image();
        image.forge(leaf, 4, &kind.to_le_bytes());
        image.expect(leaf, Damage::Kind(kind));
    }
    let mut shallow = image();
    shallow.forge(tree, 4, &2_u32.to_le_bytes());
    assert!(
        shallow.walk().is_ok_and(|blocks| blocks != 200),
        "its children pass as mappings"
    );
}

#[test]
fn entries_must_fit_into_their_node() {
    let (_, leaf) = image().nodes();
    for (entries, most, value) in [
        (253_u32, 252_u32, 8_u32),
        (64, u32::MAX, 8),
        (64, 255, 8),
        (64, 252, 24),
    ] {
        let mut image = image();
        image.forge(leaf, 16, &entries.to_le_bytes());
        image.forge(leaf, 20, &most.to_le_bytes());
        image.forge(leaf, 24, &value.to_le_bytes());
        image.expect(
            leaf,
            Damage::Entries {
                entries,
                most,
                value,
            },
        );
    }
}

#[test]
fn keys_must_ascend_within_what_is_said_above() {
    let (tree, leaf) = image().nodes();
    let mut repeated = image();
    repeated.forge(leaf, 32 + 8, &0_u64.to_le_bytes());
    repeated.expect(leaf, Damage::Key(0));
    // The second leaf again: its keys are not those of the first.
    let mut twice = image();
    let second = twice.long(tree, 32 + 252 * 8 + 8);
    twice.forge(tree, 32 + 252 * 8, &second.to_le_bytes());
    twice.expect(second, Damage::Key(127));
    let mut low = image();
    low.forge(tree, 32, &5_u64.to_le_bytes());
    low.expect(leaf, Damage::Key(0));
}

#[test]
fn a_tree_that_loops_ends() {
    let (tree, _) = image().nodes();
    let mut image = image();
    image.forge(tree, 32 + 252 * 8, &tree.to_le_bytes());
    image.expect(tree, Damage::Depth);
}

#[test]
fn a_loop_beside_the_first_path_ends() {
    let (tree, _) = image().nodes();
    let mut image = image();
    image.forge(tree, 32 + 252 * 8 + 8, &tree.to_le_bytes());
    image.expect(tree, Damage::Depth);
}

#[test]
fn an_empty_node_has_nothing_above_it() {
    let (tree, leaf) = image().nodes();
    for node in [tree, leaf] {
        let mut image = image();
        image.forge(node, 16, &0_u32.to_le_bytes());
        image.expect(node, Damage::Depth);
    }
}

#[test]
fn a_child_must_exist() {
    let (tree, _) = image().nodes();
    for child in [0, image().bytes.len() as u64 / BLOCK as u64, u64::MAX] {
        let mut image = image();
        image.forge(tree, 32 + 252 * 8 + 8, &child.to_le_bytes());
        image.expect(child, Damage::Outside);
    }
}

#[test]
fn an_id_past_24_bits_is_damage() {
    let mut image = image();
    let root = image.root;
    let details = image.long(root, 328);
    image.forge(details, 32, &(1_u64 << 24).to_le_bytes());
    image.expect(details, Damage::Key(1 << 24));
}

#[test]
fn a_walk_ends_at_the_first_thing_wrong() {
    let (tree, _) = image().nodes();
    let mut image = image();
    let second = image.long(tree, 32 + 252 * 8 + 8);
    image.block(second)[100] ^= 1;
    let metadata = image.open();
    let mut extents = metadata
        .extents(1, 0)
        .expect("the way to the first leaf is whole");
    assert!(extents.next().is_some_and(|extent| extent.is_err()));
    assert!(extents.next().is_none());
}
