//! A disk as it is.

use crate::read::{Layout, Run, Where};
use crate::{ImageError, Source};

#[derive(Debug)]
pub(super) struct Raw;

impl Layout for Raw {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        Ok(Run {
            length: source.length() - at,
            place: Where::At(at),
        })
    }
}
