//! A qcow2, version 3, front to back.

use std::io::{self, Write};

use super::layout::{CLUSTER, Clusters, Front, PER_COUNTS, PER_TABLE};
use super::{unplanned, zeros};

/// The bit of an entry whose cluster is referred to once.
const COPIED: u64 = 1 << 63;

/// Puts data where a plan wants it.
#[derive(Debug)]
pub(super) struct Qcow2Writer<W> {
    out: W,
    plan: Clusters,
    /// The next cluster of the image, and how much of it is written.
    cluster: u64,
    filled: u64,
    /// The cluster of the disk that is being written.
    current: Option<u64>,
    /// The L2 table that comes next, and its entries so far.
    table: usize,
    entries: Vec<u64>,
    clusters: u16,
}

impl<W: Write> Qcow2Writer<W> {
    /// Writes all that comes before data.
    pub(super) fn begin(plan: Clusters, mut out: W) -> io::Result<Qcow2Writer<W>> {
        let front = plan.front();
        write_header(&mut out, &plan, front)?;
        write_l1(&mut out, &plan, front)?;
        write_counts(&mut out, front)?;
        Ok(Qcow2Writer {
            out,
            plan,
            cluster: front.first,
            filled: 0,
            current: None,
            table: 0,
            entries: vec![0; PER_TABLE as usize],
            clusters: 0,
        })
    }

    pub(super) fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (cluster, inside) = (offset / CLUSTER, offset % CLUSTER);
            if self.current != Some(cluster) {
                self.start(cluster)?;
            }
            if inside < self.filled {
                return Err(unplanned("data does not come in order"));
            }
            self.pad(inside)?;
            let count = (CLUSTER - inside).min(bytes.len() as u64) as usize;
            self.out.write_all(&bytes[..count])?;
            self.filled += count as u64;
            (offset, bytes) = (offset + count as u64, &bytes[count..]);
        }
        Ok(())
    }

    /// Writes what is left and gives back where it was written.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_cluster()?;
        while self.table < self.plan.tables.len() {
            self.end_table()?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn start(&mut self, cluster: u64) -> io::Result<()> {
        if self.current.is_some_and(|current| cluster < current) {
            return Err(unplanned("data does not come in order"));
        }
        self.end_cluster()?;
        let table = (cluster / PER_TABLE) as usize;
        if table >= self.plan.tables.len() {
            return Err(unplanned("data lies behind the disk's end"));
        }
        while self.table < table {
            self.end_table()?;
        }
        self.entries[(cluster % PER_TABLE) as usize] = (self.cluster * CLUSTER) | COPIED;
        self.clusters += 1;
        self.current = Some(cluster);
        Ok(())
    }

    /// Fills the cluster with zeros up to a place in it.
    fn pad(&mut self, to: u64) -> io::Result<()> {
        zeros(&mut self.out, to - self.filled)?;
        self.filled = to;
        Ok(())
    }

    fn end_cluster(&mut self) -> io::Result<()> {
        if self.current.take().is_some() {
            self.pad(CLUSTER)?;
            self.cluster += 1;
            self.filled = 0;
        }
        Ok(())
    }

    fn end_table(&mut self) -> io::Result<()> {
        if self.clusters != self.plan.tables[self.table] {
            return Err(unplanned("there is more or less data than was planned"));
        }
        if self.clusters > 0 {
            entries(&mut self.out, &self.entries)?;
            self.entries.fill(0);
            self.cluster += 1;
            self.clusters = 0;
        }
        self.table += 1;
        Ok(())
    }
}

fn write_header(out: &mut impl Write, plan: &Clusters, front: Front) -> io::Result<()> {
    let mut header = Vec::with_capacity(CLUSTER as usize);
    header.extend_from_slice(b"QFI\xfb");
    let words = |header: &mut Vec<u8>, words: &[u32]| {
        header.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    };
    let longs = |header: &mut Vec<u8>, longs: &[u64]| {
        header.extend(longs.iter().flat_map(|long| long.to_be_bytes()));
    };
    // Version; no backing file; size of clusters; size of the disk; not encrypted; L1 table.
    words(&mut header, &[3]);
    longs(&mut header, &[0]);
    words(&mut header, &[0, CLUSTER.trailing_zeros()]);
    longs(&mut header, &[plan.size]);
    words(&mut header, &[0, plan.tables.len() as u32]);
    longs(
        &mut header,
        &[front.l1 * CLUSTER, front.directory * CLUSTER],
    );
    // Clusters of the reference counts' table; no snapshots; no features; counts of 16 bits;
    // length of the header.
    words(&mut header, &[(front.counts - front.directory) as u32, 0]);
    longs(&mut header, &[0, 0, 0, 0]);
    words(&mut header, &[4, 104]);
    header.resize(CLUSTER as usize, 0);
    out.write_all(&header)
}

/// Each L2 table is behind its clusters.
fn write_l1(out: &mut impl Write, plan: &Clusters, front: Front) -> io::Result<()> {
    let mut next = front.first;
    let mut table = |clusters: &u16| {
        if *clusters == 0 {
            return 0;
        }
        let at = next + u64::from(*clusters);
        next = at + 1;
        (at * CLUSTER) | COPIED
    };
    for part in plan.tables.chunks(PER_TABLE as usize) {
        let part: Vec<u64> = part.iter().map(&mut table).collect();
        entries(out, &part)?;
    }
    pad_entries(out, plan.tables.len() as u64, front.directory - front.l1)
}

/// Every cluster is used once.
fn write_counts(out: &mut impl Write, front: Front) -> io::Result<()> {
    let blocks = front.first - front.counts;
    for block in 0..blocks {
        out.write_all(&((front.counts + block) * CLUSTER).to_be_bytes())?;
    }
    pad_entries(out, blocks, front.counts - front.directory)?;
    for block in 0..blocks {
        let used = (front.clusters - block * PER_COUNTS).min(PER_COUNTS) as usize;
        let mut counts = [0, 1].repeat(used);
        counts.resize(CLUSTER as usize, 0);
        out.write_all(&counts)?;
    }
    Ok(())
}

/// Fills a table up to whole clusters.
fn pad_entries(out: &mut impl Write, entries: u64, clusters: u64) -> io::Result<()> {
    zeros(out, clusters * CLUSTER - entries * 8)
}

fn entries(out: &mut impl Write, entries: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.to_be_bytes())
        .collect();
    out.write_all(&bytes)
}
