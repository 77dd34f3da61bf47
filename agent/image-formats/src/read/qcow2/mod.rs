//! qcow2: a table of tables of clusters.
//!
//! ```text
//! header ── L1 table ── L2 table ── cluster, or compressed cluster, or 32 subclusters
//! ```
//!
//! Reference counts, snapshots and bitmaps are of no use to who only reads the present disk, and
//! are not looked at.

mod entry;
mod header;

use entry::{Cluster, SUBCLUSTERS, Subclusters, table_at};
use header::Header;

use crate::read::window::Window;
use crate::read::{Layout, Run, Where};
use crate::{Format, ImageError, Source};

#[derive(Debug)]
pub(super) struct Qcow2 {
    header: Header,
    directory: Window,
    table: Window,
}

pub(super) fn open(source: &dyn Source) -> Result<(Qcow2, u64), ImageError> {
    let header = header::read(source)?;
    let size = header.size;
    let layout = Qcow2 {
        header,
        directory: Window::new(Format::Qcow2, "part of the L1 table"),
        table: Window::new(Format::Qcow2, "part of an L2 table"),
    };
    Ok((layout, size))
}

impl Layout for Qcow2 {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        let (cluster, span) = (self.header.cluster(), self.header.span());
        let place = self.header.l1 + at / span * 8;
        let entry = u64::from_be_bytes(self.directory.entry(source, place)?);
        let Some(table) = table_at(entry, cluster)? else {
            return Ok(Run {
                length: span - at % span,
                place: Where::Hole,
            });
        };
        let index = at % span / cluster;
        let left = cluster - at % cluster;
        if !self.header.subclusters {
            let entry = u64::from_be_bytes(self.table.entry(source, table + index * 8)?);
            let place = self.place(Cluster::read(entry, &self.header)?, at, source)?;
            return Ok(Run {
                length: left,
                place,
            });
        }
        let entry: [u8; 16] = self.table.entry(source, table + index * 16)?;
        self.subcluster(u128::from_be_bytes(entry), at, source)
    }
}

impl Qcow2 {
    fn place(&self, what: Cluster, at: u64, source: &dyn Source) -> Result<Where, ImageError> {
        let unit_size = self.header.cluster();
        Ok(match what {
            Cluster::Hole => Where::Hole,
            Cluster::Zero => Where::Zero,
            Cluster::At(place) => {
                self.begins_inside(place, source)?;
                Where::At(place + at % unit_size)
            }
            Cluster::Packed { at: place, length } => {
                self.begins_inside(place, source)?;
                Where::Packed {
                    codec: self.header.codec,
                    at: place,
                    length,
                    unit: at - at % unit_size,
                    unit_size,
                }
            }
        })
    }

    /// With subclusters, as many as are alike.
    fn subcluster(&self, entry: u128, at: u64, source: &dyn Source) -> Result<Run, ImageError> {
        let size = self.header.cluster();
        let part = size / SUBCLUSTERS;
        let what = Subclusters::read(entry, &self.header)?;
        let index = at % size / part;
        let (cluster, last) = what.from(index);
        Ok(Run {
            length: last * part - at % size,
            place: self.place(cluster, at, source)?,
        })
    }

    fn begins_inside(&self, at: u64, source: &dyn Source) -> Result<(), ImageError> {
        super::inside(source, Format::Qcow2, "a cluster", at, 1)
    }
}
