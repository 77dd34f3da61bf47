use std::fs::File;
use std::os::unix::fs::FileExt;

use ashlar_extents::ExtentsError;
use bytes::Bytes;

use super::*;

const MIB: u64 = 1 << 20;

fn device(size: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file
}

fn content(file: &File, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn body(file: &File, format: Format, segments: &[Segment], size: u64) -> (Vec<u8>, [u8; 32]) {
    let mut body = Vec::new();
    let mut send = |bytes: Bytes| {
        body.extend_from_slice(&bytes);
        true
    };
    let mut reader = Reader::new(file, format, &mut send);
    for segment in segments {
        reader.segment(*segment).unwrap();
    }
    let Whole { last, digest } = Box::new(reader).finish(size).unwrap();
    body.extend_from_slice(&last);
    (body, digest)
}

fn write(
    file: &File,
    size: u64,
    how: (Format, u64),
    body: &[u8],
) -> Result<ashlar_protocol::JobResult, WriteError> {
    let mut writer = Writer::new(file, size, how, &|_| true);
    // In pieces that are aligned to nothing.
    for piece in body.chunks(77_777) {
        writer.take(piece)?;
    }
    writer.finish()
}

fn mapped(offset: u64, length: u64) -> Segment {
    Segment {
        offset,
        length,
        mapped: true,
    }
}

fn hole(offset: u64, length: u64) -> Segment {
    Segment {
        mapped: false,
        ..mapped(offset, length)
    }
}

/// 4 MiB with something at 64 KiB, and from just before 2 MiB to behind it.
fn sample() -> File {
    let file = device(4 * MIB);
    file.write_all_at(&[1; 4096], 64 << 10).unwrap();
    file.write_all_at(&[2; 300_000], 2 * MIB - 100).unwrap();
    file
}

#[test]
fn what_is_read_is_what_is_written_elsewhere() {
    let from = sample();
    let all = [mapped(0, 3 * MIB), hole(3 * MIB, MIB)];
    for format in [Format::Raw, Format::Extents] {
        let (bytes, digest) = body(&from, format, &all, 4 * MIB);
        // What was there before is gone, zeros included.
        let to = device(4 * MIB);
        to.write_all_at(&vec![9; 4 << 20], 0).unwrap();
        let result = write(&to, 4 * MIB, (format, 0), &bytes).unwrap();
        assert_eq!(content(&to, 4 * MIB), content(&from, 4 * MIB), "{format:?}");
        assert_eq!(result.sha256, Some(digest.into()));
        assert_eq!(result.written.unwrap() + result.zeroed.unwrap(), 4 * MIB);
        assert!(result.zeroed.unwrap() >= MIB, "{result:?}");
    }
}

#[test]
fn extents_carry_no_zeros() {
    let (bytes, _) = body(&sample(), Format::Extents, &[mapped(0, 4 * MIB)], 4 * MIB);
    assert!(bytes.len() < 600_000, "{}", bytes.len());
}

#[test]
fn raw_bytes_begin_at_their_offset_and_may_end_anywhere() {
    let file = device(MIB);
    file.write_all_at(&[9; 1 << 20], 0).unwrap();
    write(&file, MIB, (Format::Raw, 8192), &[7; 5000]).unwrap();
    let mut expected = vec![9; 1 << 20];
    expected[8192..13_192].fill(7);
    assert_eq!(content(&file, MIB), expected);
}

#[test]
fn what_does_not_fit_or_is_not_sound_is_refused() {
    let long = write(&device(MIB), MIB, (Format::Raw, 4096), &[1; 1 << 20]);
    assert!(matches!(long, Err(WriteError::TooLong { size: MIB })));

    let (sound, _) = body(&sample(), Format::Extents, &[mapped(0, 4 * MIB)], 4 * MIB);
    let try_it = |bytes: &[u8], size| {
        write(&device(size), size, (Format::Extents, 0), bytes).map_err(|error| match error {
            WriteError::Extents(error) => error,
            other => panic!("{other}"),
        })
    };
    let mut changed = sound.clone();
    changed[24 + (100 << 10)] ^= 1;
    assert_eq!(try_it(&changed, 4 * MIB), Err(ExtentsError::Checksum));
    let cut = &sound[..sound.len() - 1];
    assert_eq!(try_it(cut, 4 * MIB), Err(ExtentsError::Truncated));
    let small = try_it(&sound, MIB).unwrap_err();
    assert!(matches!(small, ExtentsError::TooLarge { .. }), "{small}");
}

/// A device that is cleared behind the end of what it is given stops there, too, and what is left
/// of the work then is cleared with the rest.
#[test]
fn what_is_not_wanted_is_cleared_whatever_was_there() {
    let (bytes, _) = body(&sample(), Format::Extents, &[mapped(0, 4 * MIB)], 4 * MIB);
    let file = device(6 * MIB + 8192);
    let size = 6 * MIB + 8192;
    file.write_all_at(&vec![9; size as usize], 0).unwrap();
    let stops = |reached| reached < size;
    let mut writer = Writer::new(&file, size, (Format::Extents, 0), &stops);
    assert!(!writer.has_begun());
    writer.take(&bytes).unwrap();
    assert!(writer.has_begun());
    let stopped = writer.clear_behind();
    assert!(matches!(stopped, Err(WriteError::Stopped)), "{stopped:?}");
    drop(writer);
    assert!(content(&file, size)[..4 << 20] == content(&sample(), 4 * MIB));
    wipe(Device::from(&file), size, 64 << 10).unwrap();
    assert!(content(&file, size).iter().all(|byte| *byte == 0));
}

/// Whatever does not take discards is overwritten, and only where there is something.
#[test]
fn what_cannot_be_discarded_is_overwritten() {
    let file = device(4 * MIB);
    file.write_all_at(&[9; 4096], MIB - 4096).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let read_only = File::open(path).unwrap();
    let refused = wipe(Device::from(&read_only), 4 * MIB, 64 << 10);
    let Err(WriteError::Device { action, offset, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((action, offset), ("clear", 0));
    assert_eq!(content(&file, MIB)[MIB as usize - 1], 9);
}

#[test]
fn both_stop_when_told() {
    let file = sample();
    let mut writer = Writer::new(&file, 4 * MIB, (Format::Raw, 0), &|reached| reached < MIB);
    let stopped = writer.take(&vec![1; 2 << 20]);
    assert!(matches!(stopped, Err(WriteError::Stopped)));
    let mut send = |_| false;
    let mut reader = Reader::new(&file, Format::Raw, &mut send);
    let stopped = reader.segment(mapped(0, 4 * MIB));
    assert!(matches!(stopped, Err(ReadError::Stopped)));
}
