//! What one journal record changes.

use std::fmt;

use super::frame::number;

/// An entry's key: any bytes.
pub type Key = Vec<u8>;
/// An entry's value: any bytes, often with secrets in them, so never logged.
pub type Value = Vec<u8>;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Puts and deletes that happen together or not at all, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(Key, Option<Value>)>,
}

impl Batch {
    /// A batch that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> &mut Self {
        self.changes.push((key.into(), Some(value.into())));
        self
    }

    /// Removes `key`; fine when it is not there.
    pub fn delete(&mut self, key: impl Into<Key>) -> &mut Self {
        self.changes.push((key.into(), None));
        self
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in order; `None` deletes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    pub(crate) fn into_changes(self) -> impl Iterator<Item = (Key, Option<Value>)> {
        self.changes.into_iter()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in self.changes() {
            out.push(if value.is_some() { PUT } else { DELETE });
            encode_bytes(key, &mut out);
            if let Some(value) = value {
                encode_bytes(value, &mut out);
            }
        }
        out
    }

    /// `None` when `bytes` is not what [`Batch::encode`] writes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut batch = Self::new();
        while let Some((tag, rest)) = bytes.split_first() {
            bytes = rest;
            let key = decode_bytes(&mut bytes)?;
            match *tag {
                PUT => batch.put(key, decode_bytes(&mut bytes)?),
                DELETE => batch.delete(key),
                _ => return None,
            };
        }
        Some(batch)
    }
}

/// Counts only: values hold secrets.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let puts = self.changes.iter().filter(|change| change.1.is_some());
        let puts = puts.count();
        f.debug_struct("Batch")
            .field("puts", &puts)
            .field("deletes", &(self.changes.len() - puts))
            .finish()
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn decode_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number::<4>(from, 0)? as usize;
    let (bytes, rest) = from[4..].split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}
