use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};
use uuid::Uuid;

use super::frames::{Frames, Out};
use super::gather::Sink;
use super::{CHUNK, Form, Step, TransferError};

/// Where what was read of a volume or snapshot goes.
#[derive(Debug)]
pub struct Target {
    out: FileOut,
    form: Form,
}

#[derive(Debug)]
enum Place {
    /// A new file beside the one that it becomes once it is whole.
    Beside { partial: PathBuf, path: PathBuf },
    /// What is there already, as it is: a block device.
    Over,
    /// One byte after the other.
    Pipe,
}

impl Target {
    /// A file, which is there once all of it is, in place of any before it; or a block device
    /// or pipe as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, form: Form) -> Result<Target, TransferError> {
        let name = path.display().to_string();
        let special = fs::metadata(path).ok().map(|found| found.file_type());
        let special = special.filter(|kind| !kind.is_file());
        let (place, at) = match special {
            Some(kind) if kind.is_block_device() => (Place::Over, path.to_owned()),
            Some(_) => (Place::Pipe, path.to_owned()),
            None => {
                let mut partial = path.as_os_str().to_owned();
                partial.push(format!(".{:.8}.partial", Uuid::new_v4().simple()));
                let partial = PathBuf::from(partial);
                let path = path.to_owned();
                let at = partial.clone();
                (Place::Beside { partial, path }, at)
            }
        };
        let new = matches!(place, Place::Beside { .. });
        let file = OpenOptions::new().write(true).create_new(new).open(at);
        let file = file.map_err(TransferError::file("write to", &name))?;
        Ok(Target::of(name, file, place, form))
    }

    /// What is written to from where it is: standard output.
    pub fn pipe(name: String, file: File, form: Form) -> Target {
        Target::of(name, file, Place::Pipe, form)
    }

    fn of(name: String, file: File, place: Place, form: Form) -> Target {
        let out = FileOut {
            file,
            name,
            place,
            written: 0,
        };
        Target { out, form }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.out.name
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub(super) fn land(self, step: Step) -> Landing {
        let Target { out, form } = self;
        match form {
            Form::Raw => Landing::Raw { out, step },
            Form::Extents => Landing::Extents(Box::new(Frames::new(out, 0, step))),
        }
    }
}

/// A target that is being written.
pub(super) enum Landing {
    Raw { out: FileOut, step: Step },
    Extents(Box<Frames<FileOut>>),
}

impl Landing {
    /// All of it has come: it becomes what it is to be. The digest of a stream of extents.
    pub(super) fn end(&mut self, size: u64) -> Result<Option<[u8; 32]>, TransferError> {
        match self {
            Landing::Raw { out, .. } => {
                out.reach(size)?;
                out.settle(Some(size))?;
                Ok(None)
            }
            Landing::Extents(frames) => {
                let digest = frames.end(size)?;
                frames.out.settle(None)?;
                Ok(Some(digest))
            }
        }
    }

    /// Bytes of the stream that was made, if one was.
    pub(super) fn written(&self) -> u64 {
        match self {
            Landing::Raw { .. } => 0,
            Landing::Extents(frames) => frames.out.written,
        }
    }

    /// Begins anew, if that can be.
    pub(super) fn restart(&mut self) -> bool {
        match self {
            Landing::Raw { out, .. } => match out.place {
                Place::Beside { .. } => out.file.set_len(0).is_ok(),
                Place::Over => true,
                Place::Pipe => false,
            },
            Landing::Extents(_) => false,
        }
    }
}

impl Sink for Landing {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        match self {
            Landing::Raw { out, step } => {
                out.write_at(offset, bytes)?;
                step(offset + bytes.len() as u64);
                Ok(())
            }
            Landing::Extents(frames) => frames.data(offset, bytes),
        }
    }

    fn zeros(&mut self, offset: u64, length: u64, hole: bool) -> Result<(), TransferError> {
        match self {
            Landing::Raw { out, step } => {
                out.zeros_at(offset, length)?;
                step(offset + length);
                Ok(())
            }
            Landing::Extents(frames) => frames.zeros(offset, length, hole),
        }
    }
}

/// A file that is written. Dropped before it has settled, a new one is gone.
#[derive(Debug)]
pub(super) struct FileOut {
    file: File,
    name: String,
    place: Place,
    /// How far it is, where that is not for the device to say.
    written: u64,
}

impl FileOut {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let written = match self.place {
            Place::Pipe => {
                self.reach(offset)?;
                self.written += bytes.len() as u64;
                self.file.write_all(bytes)
            }
            Place::Beside { .. } | Place::Over => self.file.write_all_at(bytes, offset),
        };
        written.map_err(TransferError::file("write to", &self.name))
    }

    fn zeros_at(&mut self, offset: u64, length: u64) -> Result<(), TransferError> {
        match self.place {
            // It has nothing yet where nothing was written.
            Place::Beside { .. } => Ok(()),
            Place::Pipe => self.reach(offset + length),
            Place::Over => {
                let flags =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                match fallocate(&self.file, flags, offset as i64, length as i64) {
                    Ok(()) => Ok(()),
                    Err(_) => self.blank(offset, offset + length),
                }
            }
        }
    }

    fn blank(&mut self, from: u64, to: u64) -> Result<(), TransferError> {
        let zeros = vec![0; CHUNK];
        for at in (from..to).step_by(CHUNK) {
            let length = (to - at).min(CHUNK as u64) as usize;
            let written = self.file.write_all_at(&zeros[..length], at);
            written.map_err(TransferError::file("write to", &self.name))?;
        }
        Ok(())
    }

    /// Fills a pipe with zeros up to there.
    fn reach(&mut self, end: u64) -> Result<(), TransferError> {
        if !matches!(self.place, Place::Pipe) || end <= self.written {
            return Ok(());
        }
        let zeros = vec![0; CHUNK];
        while self.written < end {
            let length = (end - self.written).min(CHUNK as u64) as usize;
            let written = self.file.write_all(&zeros[..length]);
            written.map_err(TransferError::file("write to", &self.name))?;
            self.written += length as u64;
        }
        Ok(())
    }

    /// Makes it durable and, if it is new, gives it its name. A pipe is its reader's.
    fn settle(&mut self, size: Option<u64>) -> Result<(), TransferError> {
        let file = TransferError::file("keep", &self.name);
        let kept = match &self.place {
            Place::Pipe => self.file.flush(),
            Place::Over => self.file.sync_data(),
            Place::Beside { partial, path } => {
                let sized = size.map_or(Ok(()), |size| self.file.set_len(size));
                let kept = sized.and_then(|()| self.file.sync_all());
                kept.and_then(|()| fs::rename(partial, path))
            }
        };
        kept.map_err(file)?;
        // Under its own name, it is not partial any more.
        self.place = Place::Pipe;
        Ok(())
    }
}

impl Out for FileOut {
    fn put(&mut self, frame: Bytes) -> Result<(), TransferError> {
        self.written += frame.len() as u64;
        let written = self.file.write_all(&frame);
        written.map_err(TransferError::file("write to", &self.name))
    }
}

impl Drop for FileOut {
    fn drop(&mut self) {
        if let Place::Beside { partial, .. } = &self.place {
            // What is not whole is nothing; that it stays does no harm.
            drop(fs::remove_file(partial));
        }
    }
}
