use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use ashlar_extents::{Decoder, Piece};
use ashlar_protocol::Sha256;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::frames::{Frames, Out};
use super::gather::Gather;
use super::{BLOCK, CHUNK, Form, TransferError};

/// What is to be written to a volume.
#[derive(Debug)]
pub struct Source {
    name: String,
    pub(super) file: File,
    form: Form,
    /// Its size, where it can be read more than once.
    size: Option<u64>,
    /// What a stream's digest is known to be.
    expected: Option<Sha256>,
}

impl Source {
    /// A file, a block device, or a pipe.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, form: Form) -> Result<Source, TransferError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(TransferError::file("open", &name))?;
        Source::of(name, file, form)
    }

    /// A file that is open already; it is read from its beginning if that can be.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(name: String, mut file: File, form: Form) -> Result<Source, TransferError> {
        let kind = file
            .metadata()
            .map_err(TransferError::file("look at", &name))?;
        let seekable = kind.is_file() || kind.file_type().is_block_device();
        let size = match seekable {
            true => {
                let end = file.seek(SeekFrom::End(0));
                Some(end.map_err(TransferError::file("look for the end of", &name))?)
            }
            false => None,
        };
        Ok(Source {
            name,
            file,
            form,
            size,
            expected: None,
        })
    }

    /// A stream of extents that is refused, before its end, if its digest is another one.
    pub fn expecting(self, digest: Sha256) -> Source {
        Source {
            expected: Some(digest),
            ..self
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes of a volume it has, if that is known before it is read.
    pub(super) fn content(&self) -> Option<u64> {
        self.size.filter(|_| self.form == Form::Raw)
    }

    /// How long it is, if that is known before it is read.
    pub(super) fn length(&self) -> Option<u64> {
        self.size
    }

    /// Whether it can be read again.
    pub(super) fn lasts(&self) -> bool {
        self.size.is_some()
    }

    /// Gives all of it that is not before `from`; how far it goes. At most `limit` bytes.
    pub(super) fn give<O: Out>(
        &mut self,
        from: u64,
        limit: u64,
        gather: &mut Gather<Frames<O>>,
    ) -> Result<u64, TransferError> {
        let end = match (self.form, self.size) {
            (Form::Raw, Some(size)) => self.give_file(from, size, gather)?,
            (Form::Raw, None) => self.give_pipe(limit, gather)?,
            (Form::Extents, _) => self.give_extents(limit, gather)?,
        };
        gather.flush()?;
        Ok(end.next_multiple_of(BLOCK as u64))
    }

    fn give_file<O: Out>(
        &self,
        from: u64,
        size: u64,
        gather: &mut Gather<Frames<O>>,
    ) -> Result<u64, TransferError> {
        let mut buffer = vec![0; CHUNK];
        let mut at = from;
        while at < size {
            let data = self.seek(at, size, Whence::SeekData)?;
            // What is told begins and ends where blocks do, whatever the file system says.
            let begin = match data >= size {
                true => size.next_multiple_of(BLOCK as u64),
                false => data - data % BLOCK as u64,
            };
            if begin > at {
                gather.zeros(at, begin - at, true)?;
                at = begin;
            }
            if data >= size {
                break;
            }
            let hole = self.seek(data, size, Whence::SeekHole)?;
            let hole = hole.next_multiple_of(BLOCK as u64).min(size);
            while at < hole {
                let length = (hole - at).min(CHUNK as u64) as usize;
                let chunk = &mut buffer[..length];
                let read = self.file.read_exact_at(chunk, at);
                read.map_err(TransferError::file("read", &self.name))?;
                gather.data(at, chunk)?;
                at += length as u64;
            }
        }
        Ok(size)
    }

    /// Where data or a hole is next; where neither can be told, all is data.
    fn seek(&self, at: u64, size: u64, whence: Whence) -> Result<u64, TransferError> {
        match lseek(&self.file, at as i64, whence) {
            Ok(found) => Ok((found as u64).min(size)),
            Err(Errno::ENXIO) => Ok(size),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => match whence {
                Whence::SeekData => Ok(at),
                _ => Ok(size),
            },
            Err(errno) => Err(TransferError::file("look for holes in", &self.name)(
                errno.into(),
            )),
        }
    }

    fn give_pipe<O: Out>(
        &mut self,
        limit: u64,
        gather: &mut Gather<Frames<O>>,
    ) -> Result<u64, TransferError> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let length = match self.file.read(&mut buffer) {
                Ok(0) => return Ok(at),
                Ok(length) => length as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TransferError::file("read", &self.name)(error)),
            };
            if length > limit - at {
                return Err(TransferError::TooLong {
                    name: self.name.clone(),
                    room: limit,
                });
            }
            gather.data(at, &buffer[..length as usize])?;
            at += length;
        }
    }

    fn check(&self, digest: [u8; 32]) -> Result<(), TransferError> {
        let found = Sha256::from(digest);
        match &self.expected {
            Some(expected) if *expected != found => Err(TransferError::OtherStream {
                name: self.name.clone(),
                found,
                expected: expected.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn give_extents<O: Out>(
        &mut self,
        limit: u64,
        gather: &mut Gather<Frames<O>>,
    ) -> Result<u64, TransferError> {
        if self.lasts() {
            let rewound = self.file.rewind();
            rewound.map_err(TransferError::file("go back in", &self.name))?;
        }
        let mut decoder = Decoder::new(limit);
        let mut buffer = vec![0; CHUNK];
        let mut whole = 0;
        loop {
            let length = match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TransferError::file("read", &self.name)(error)),
            };
            let mut input = &buffer[..length];
            while let Some(piece) = decoder
                .next(&mut input)
                .map_err(TransferError::stream(&self.name))?
            {
                match piece {
                    Piece::Data { offset, bytes } => gather.data(offset, bytes)?,
                    Piece::Zero { offset, length } => gather.zeros(offset, length, false)?,
                    Piece::Hole { offset, length } => gather.zeros(offset, length, true)?,
                    Piece::End { size, digest } => {
                        self.check(digest)?;
                        whole = size;
                    }
                }
            }
        }
        decoder
            .finish()
            .map_err(TransferError::stream(&self.name))?;
        Ok(whole)
    }
}
