//! Metadata blocks from a descriptor that is open for direct I/O.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ashlar_thin_metadata::{BLOCK, Block, BlockSource};

/// Memory as direct I/O wants it.
#[repr(align(4096))]
struct Page(Block);

/// The metadata device, during one walk.
pub(super) struct MetadataFile<'f> {
    file: &'f File,
    size: u64,
    page: RefCell<Box<Page>>,
}

impl<'f> MetadataFile<'f> {
    pub(super) fn new(file: &'f File, size: u64) -> Self {
        MetadataFile {
            file,
            size,
            page: RefCell::new(Box::new(Page([0; BLOCK]))),
        }
    }
}

impl BlockSource for MetadataFile<'_> {
    fn blocks(&self) -> u64 {
        self.size / BLOCK as u64
    }

    fn read(&self, block: u64, buffer: &mut Block) -> io::Result<()> {
        let mut page = self.page.borrow_mut();
        self.file.read_exact_at(&mut page.0, block * BLOCK as u64)?;
        *buffer = page.0;
        Ok(())
    }
}
