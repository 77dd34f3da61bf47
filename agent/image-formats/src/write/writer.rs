//! One way to write every format.

use std::io::{self, Write};

use super::blocks::{BlockWriter, Blocks};
use super::plan::{Needs, Plan};
use super::qcow2::Qcow2Writer;
use super::vmdk::VmdkWriter;
use super::{vhd, vhdx};
use crate::Format;

/// Puts a disk's data where a plan wants it, and headers and tables around it.
#[derive(Debug)]
pub struct Writer<W>(Kind<W>);

#[derive(Debug)]
enum Kind<W> {
    Qcow2(Qcow2Writer<W>),
    Blocks(BlockWriter<W>),
    Vmdk(VmdkWriter<W>),
}

impl<W: Write> Writer<W> {
    /// Writes what comes before data. Formats that name an image apart from others use
    /// `identity`, which is random.
    pub fn new(plan: Plan, identity: [u8; 16], out: W) -> io::Result<Writer<W>> {
        let (format, size) = (plan.format(), plan.size());
        Ok(Writer(match plan.needs {
            Needs::Clusters(clusters) => Kind::Qcow2(Qcow2Writer::begin(clusters, out)?),
            Needs::Blocks(blocks) if format == Format::Vhd => {
                Kind::Blocks(vhd::begin(out, size, blocks, identity)?)
            }
            Needs::Blocks(blocks) => Kind::Blocks(vhdx::begin(out, size, blocks, identity)?),
            Needs::Nothing if format == Format::Vmdk => {
                Kind::Vmdk(VmdkWriter::begin(out, size, identity)?)
            }
            Needs::Nothing => Kind::Blocks(raw(out, size)),
        }))
    }

    /// Writes data at a place of the disk. All calls together hold just what was planned, in the
    /// same order; each may have less at once than was added at once.
    pub fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Qcow2(writer) => writer.data(offset, bytes),
            Kind::Blocks(writer) => writer.data(offset, bytes),
            Kind::Vmdk(writer) => writer.data(offset, bytes),
        }
    }

    /// Writes what is left and gives back where it was written.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Qcow2(writer) => writer.finish(),
            Kind::Blocks(writer) => writer.finish(),
            Kind::Vmdk(writer) => writer.finish(),
        }
    }
}

/// One block that is the whole disk, begun already, so that a disk of nothing is all zeros.
fn raw<W>(out: W, size: u64) -> BlockWriter<W> {
    let blocks = Blocks::new(size, size.max(1));
    BlockWriter {
        out,
        before: Vec::new(),
        end: Vec::new(),
        next: blocks.count,
        filled: (blocks.count > 0).then_some(0),
        blocks,
    }
}
