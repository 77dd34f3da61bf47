//! What is done to devices while something is measured: writing an image, and writing all along.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::fcntl::OFlag;

/// What is written at once: of an image, and to see whether a device takes it.
const CHUNK: usize = 1 << 20;
const BLOCK: usize = 4096;

/// One chunk in so many is data, the others are holes.
const SPARSENESS: u64 = 10;

/// A sparse image, a tenth of it data.
pub struct Image {
    path: PathBuf,
    size: u64,
}

impl Image {
    /// Makes one in a folder.
    pub fn create(folder: &Path, size: u64) -> anyhow::Result<Image> {
        let path = folder.join("image");
        let file = File::create(&path).context("failed to create the image")?;
        file.set_len(size)?;
        let noise = noise();
        for at in places(size) {
            file.write_all_at(&noise, at)
                .context("failed to write the image")?;
        }
        Ok(Image { path, size })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of data.
    pub fn data(&self) -> u64 {
        places(self.size).count() as u64 * CHUNK as u64
    }

    /// Writes just its data to a device, which takes it directly, and has it made durable.
    pub fn write_to(&self, node: &Path) -> anyhow::Result<Duration> {
        let image = File::open(&self.path)?;
        let device = direct(node)?;
        let mut buffer = Aligned::new(CHUNK);
        let start = Instant::now();
        for at in places(self.size) {
            image.read_exact_at(buffer.bytes(), at)?;
            device.write_all_at(buffer.bytes(), at)?;
        }
        device.sync_data()?;
        Ok(start.elapsed())
    }
}

fn places(size: u64) -> impl Iterator<Item = u64> {
    let step = SPARSENESS * CHUNK as u64;
    (0..size / step).map(move |n| n * step)
}

/// What no layer below takes for zeros.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..CHUNK / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    });
    words.collect()
}

/// Writes to devices in turn, until it is asked how long the longest write took.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Duration>>,
}

impl Writer {
    /// Begins to write; every device has been written to when this returns.
    pub fn start(nodes: &[PathBuf]) -> anyhow::Result<Writer> {
        let devices: Vec<File> = nodes
            .iter()
            .map(|node| direct(node))
            .collect::<anyhow::Result<_>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, begun) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut buffer = Aligned::new(BLOCK);
            let mut longest = Duration::ZERO;
            // Every block is there before anything counts.
            for device in &devices {
                device.write_all_at(buffer.bytes(), 0)?;
            }
            tell.send(()).ok();
            while !stopped.load(Ordering::Relaxed) {
                for device in &devices {
                    let start = Instant::now();
                    device.write_all_at(buffer.bytes(), 0)?;
                    longest = longest.max(start.elapsed());
                }
            }
            Ok(longest)
        });
        // A thread that failed says nothing now, and why in the end.
        begun.recv().ok();
        Ok(Writer { stop, thread })
    }

    /// Ends it; the longest write.
    pub fn longest(self) -> anyhow::Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.join();
        let outcome = outcome.map_err(|_| anyhow!("the writer panicked"))?;
        outcome.context("a write failed")
    }
}

fn direct(node: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(node)
        .with_context(|| format!("failed to open {}", node.display()))
}

/// Memory as direct I/O wants it.
struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        let memory = vec![1; length + BLOCK];
        let begin = memory.as_ptr().align_offset(BLOCK);
        Aligned {
            memory,
            begin,
            length,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..][..self.length]
    }
}
