//! Images written front to back, as a download is.
//!
//! Formats that say first where everything is must know beforehand which parts of the disk have
//! data: the extents are walked once for a [`Plan`] and once more for the data.

mod blocks;
mod layout;
mod plan;
mod qcow2;
mod vhd;
mod vhdx;
mod vmdk;
mod writer;

pub use plan::{Plan, Unwritable};
pub use writer::Writer;

use std::io::{self, Write};

/// Data that a plan did not promise, or not in this order.
fn unplanned(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn zeros(out: &mut impl Write, mut count: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let part = count.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..part as usize])?;
        count -= part;
    }
    Ok(())
}
