//! A stream-optimized vmdk: compressed grains as they come, tables behind them, and a footer that
//! says where those are.

use std::fmt::Write as _;
use std::io::{self, Write};

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::unplanned;

const SECTOR: u64 = 512;
const GRAIN: u64 = 64 * 1024;
const PER_TABLE: u64 = 512;
/// Sectors in front of the first grain, and of the text among them.
const FRONT: u64 = 128;
const DESCRIPTOR: u64 = 20;

/// Lines end as they should; grains are compressed and marked.
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;
const AT_END: u64 = u64::MAX;

/// The quickest that still saves room: the appliance has better uses for its processor.
const LEVEL: u8 = 1;

#[derive(Clone, Copy)]
enum Marker {
    End = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

#[derive(Debug)]
pub(super) struct VmdkWriter<W> {
    out: W,
    /// Sectors of the disk.
    capacity: u64,
    /// The next sector of the image.
    sector: u64,
    directory: Vec<u32>,
    /// The table under way: its number and its grains so far.
    table: u64,
    grains: Vec<u32>,
    /// The grain under way.
    grain: Option<u64>,
    bytes: Vec<u8>,
    filled: usize,
}

impl<W: Write> VmdkWriter<W> {
    pub(super) fn begin(mut out: W, size: u64, identity: [u8; 16]) -> io::Result<VmdkWriter<W>> {
        let capacity = size / SECTOR;
        let mut front = header(capacity, AT_END);
        front.extend_from_slice(descriptor(capacity, identity).as_bytes());
        front.resize((FRONT * SECTOR) as usize, 0);
        out.write_all(&front)?;
        Ok(VmdkWriter {
            out,
            capacity,
            sector: FRONT,
            directory: vec![0; size.div_ceil(GRAIN * PER_TABLE) as usize],
            table: 0,
            grains: vec![0; PER_TABLE as usize],
            grain: None,
            bytes: vec![0; GRAIN as usize],
            filled: 0,
        })
    }

    pub(super) fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.capacity * SECTOR {
            return Err(unplanned("data lies behind the disk's end"));
        }
        while !bytes.is_empty() {
            let (grain, inside) = (offset / GRAIN, (offset % GRAIN) as usize);
            if self.grain != Some(grain) {
                self.start(grain)?;
            }
            if inside < self.filled {
                return Err(unplanned("data does not come in order"));
            }
            let count = (self.bytes.len() - inside).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.bytes[inside..inside + count].copy_from_slice(now);
            self.filled = inside + count;
            (offset, bytes) = (offset + count as u64, later);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_grain()?;
        self.end_table()?;
        let directory: Vec<u8> = entries(&self.directory);
        self.mark(Marker::Directory, directory.len() as u64)?;
        let place = self.sector;
        self.put(&directory)?;
        self.mark(Marker::Footer, SECTOR)?;
        self.put(&header(self.capacity, place))?;
        self.mark(Marker::End, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn start(&mut self, grain: u64) -> io::Result<()> {
        if self.grain.is_some_and(|current| grain < current) {
            return Err(unplanned("data does not come in order"));
        }
        self.end_grain()?;
        if grain / PER_TABLE != self.table {
            self.end_table()?;
            self.table = grain / PER_TABLE;
        }
        self.grain = Some(grain);
        self.filled = 0;
        self.bytes.fill(0);
        Ok(())
    }

    fn end_grain(&mut self) -> io::Result<()> {
        let Some(grain) = self.grain.take() else {
            return Ok(());
        };
        let packed = compress_to_vec_zlib(&self.bytes, LEVEL);
        self.grains[(grain % PER_TABLE) as usize] = self.place()?;
        let mut record = (grain * GRAIN / SECTOR).to_le_bytes().to_vec();
        record.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        record.extend_from_slice(&packed);
        self.put(&record)
    }

    fn end_table(&mut self) -> io::Result<()> {
        if self.grains.iter().all(|grain| *grain == 0) {
            return Ok(());
        }
        let table = entries(&self.grains);
        self.mark(Marker::Table, table.len() as u64)?;
        self.directory[self.table as usize] = self.place()?;
        self.put(&table)?;
        self.grains.fill(0);
        Ok(())
    }

    /// Where the next sector is, as tables say it.
    fn place(&self) -> io::Result<u32> {
        let place = u32::try_from(self.sector);
        place.map_err(|_| unplanned("the image grows over 2 TiB"))
    }

    /// A sector that says what follows and how long that is.
    fn mark(&mut self, what: Marker, length: u64) -> io::Result<()> {
        let mut sector = length.div_ceil(SECTOR).to_le_bytes().to_vec();
        sector.extend_from_slice(&[0; 4]);
        sector.extend_from_slice(&(what as u32).to_le_bytes());
        self.put(&sector)
    }

    /// Whole sectors.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        self.out.write_all(bytes)?;
        super::zeros(&mut self.out, sectors * SECTOR - bytes.len() as u64)?;
        self.sector += sectors;
        Ok(())
    }
}

fn entries(entries: &[u32]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut bytes = b"KDMV".to_vec();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| {
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    let longs = |bytes: &mut Vec<u8>, longs: &[u64]| {
        bytes.extend(longs.iter().flat_map(|long| long.to_le_bytes()));
    };
    // Version; disk, grain and text in sectors; entries of a table; no second directory.
    words(&mut bytes, &[3, FLAGS]);
    longs(&mut bytes, &[capacity, GRAIN / SECTOR, 1, DESCRIPTOR]);
    words(&mut bytes, &[PER_TABLE as u32]);
    longs(&mut bytes, &[0, directory, FRONT]);
    // Closed cleanly; line ends by which a mangled transfer shows; compressed by deflate.
    bytes.extend_from_slice(b"\0\n \r\n\x01\0");
    bytes.resize(SECTOR as usize, 0);
    bytes
}

fn descriptor(capacity: u64, identity: [u8; 16]) -> String {
    let id = u32::from_le_bytes([identity[0], identity[1], identity[2], identity[3]]);
    // Two values mean something else.
    let id = id.clamp(1, u32::MAX - 2);
    let (heads, sectors) = (255, 63);
    let cylinders = (capacity / (heads * sectors)).clamp(1, 65_535);
    let mut text = String::from("# Disk DescriptorFile\nversion=1\n");
    let told = write!(
        text,
        "CID={id:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\
         \n# Extent description\nRW {capacity} SPARSE \"disk.vmdk\"\n\
         \n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{sectors}\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    told.expect("text takes any text");
    text
}
