//! Compressed clusters: unpacked one at a time, never more than fits.

use std::io::Read;

use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The largest cluster or grain that is unpacked, which is also QEMU's limit.
pub(crate) const LARGEST: u64 = 2 << 20;

/// Most memory for what a zstd frame may refer back to; it need not be more than a cluster.
const ZSTD_WINDOW: u64 = 2 * LARGEST;

/// How a cluster is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// A deflate stream without a head.
    Deflate,
    /// A deflate stream with zlib's head and checksum.
    Zlib,
    /// A zstd frame.
    Zstd,
}

impl Codec {
    /// Unpacks `packed`, which may have anything behind the stream, into `out`; returns how many
    /// bytes came, or `None` when it is not such a stream.
    pub(crate) fn unpack(self, packed: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Codec::Deflate => inflate(packed, out, 0),
            Codec::Zlib => inflate(packed, out, TINFL_FLAG_PARSE_ZLIB_HEADER),
            Codec::Zstd => unpack_zstd(packed, out),
        }
    }
}

fn inflate(packed: &[u8], out: &mut [u8], flags: u32) -> Option<usize> {
    use miniz_oxide::inflate::TINFLStatus::{Done, HasMoreOutput};
    let flags = flags | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = Box::<DecompressorOxide>::default();
    let (status, _, written) = decompress(&mut state, packed, out, 0, flags);
    // More output than a cluster has room for is never made.
    matches!(status, Done | HasMoreOutput).then_some(written)
}

fn unpack_zstd(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    let mut stream = StreamingDecoder::new_with_decoder(packed, decoder).ok()?;
    let mut written = 0;
    while written < out.len() {
        match stream.read(&mut out[written..]).ok()? {
            0 => break,
            count => written += count,
        }
    }
    Some(written)
}
