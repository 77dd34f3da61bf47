//! Bytes on the disk: what is written reads back, and no bytes make reading panic.

use proptest::prelude::*;

use super::*;
use crate::store::digest::Digest;
use crate::store::frame::{Frame, Kind};

fn any_batch() -> impl Strategy<Value = Batch> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec((bytes(), prop::option::of(bytes())), 0..10).prop_map(|changes| {
        let mut batch = Batch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            };
        }
        batch
    })
}

fn encoded(batch: &Batch, generation: u64, mark: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = Frame {
        kind: Kind::Record,
        generation,
        mark,
        payload: &batch.encode(),
    };
    frame.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn a_record_reads_back(batch in any_batch(), generation: u64, mark: u64) {
        let bytes = encoded(&batch, generation, mark);
        let frame = Frame::parse(&bytes).unwrap();
        prop_assert_eq!((frame.generation, frame.mark), (generation, mark));
        prop_assert_eq!(frame.size(), bytes.len());
        prop_assert_eq!(Batch::decode(frame.payload), Some(batch));
    }

    #[test]
    fn a_record_with_any_byte_changed_is_no_record(
        batch in any_batch(),
        place: prop::sample::Index,
        change in 1..=u8::MAX,
    ) {
        let mut bytes = encoded(&batch, 1, 0);
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        prop_assert_eq!(Frame::parse(&bytes), None);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Frame::parse(&bytes);
        let _ = Batch::decode(&bytes);
        let _ = Digest::decode(&bytes);
    }

    #[test]
    fn a_digest_tells_what_is_held_and_not_how_it_came_about(
        entries in prop::collection::btree_map(0..50_u8, any::<u8>(), 1..20),
        passing: u8,
    ) {
        let (mut plain, mut winding) = (Digest::default(), Digest::default());
        for (key, value) in &entries {
            plain.add(&[*key], &[*value]);
        }
        for (key, value) in entries.iter().rev() {
            winding.add(&[*key], &[passing, 0]);
            winding.add(&[*key], &[*value]);
            winding.remove(&[*key], &[passing, 0]);
        }
        prop_assert_eq!(plain, winding);
        let (key, value) = entries.first_key_value().expect("not empty");
        winding.remove(&[*key], &[*value]);
        prop_assert_ne!(plain, winding);
        // The border between key and value counts.
        winding.add(&[], &[*key, *value]);
        prop_assert_ne!(plain, winding);
    }
}
