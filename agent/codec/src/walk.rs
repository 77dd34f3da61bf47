//! The structural walk before decoding: one pass, no recursion, memory bounded by the input.

use crate::{DecodeError, Limits, Unused};

/// Checks that `bytes` hold exactly one value in the form we accept, without decoding it.
///
/// Never panics and never recurses, whatever the bytes: this is the function to fuzz.
///
/// # Errors
/// Every variant of [`DecodeError`] but `Content`.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    if bytes.len() > limits.bytes {
        return Err(DecodeError::TooLarge {
            bytes: bytes.len(),
            limit: limits.bytes,
        });
    }
    let mut walk = Walk {
        bytes,
        at: 0,
        open: Vec::new(),
        depth: limits.depth,
    };
    walk.run()
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open<'a>>,
    depth: usize,
}

/// An array or map whose items are still coming.
struct Open<'a> {
    /// Items to come; a pair of a map is two.
    left: u64,
    /// The encoded keys so far and where each begins; `None` for an array.
    keys: Option<Vec<(&'a [u8], usize)>>,
}

/// The first bytes of an item.
struct Head {
    offset: usize,
    major: u8,
    info: u8,
    argument: u64,
}

impl<'a> Walk<'a> {
    fn run(&mut self) -> Result<(), DecodeError> {
        loop {
            self.item()?;
            while self.open.last().is_some_and(|open| open.left == 0) {
                self.close()?;
            }
            let Some(open) = self.open.last_mut() else {
                break;
            };
            open.left -= 1;
        }
        if self.at < self.bytes.len() {
            return Err(DecodeError::Trailing { offset: self.at });
        }
        Ok(())
    }

    fn item(&mut self) -> Result<(), DecodeError> {
        let key = self.open.last().is_some_and(Open::expects_key);
        let head = self.head()?;
        if key && head.major > 3 {
            return Err(DecodeError::KeyType {
                offset: head.offset,
            });
        }
        match head.major {
            0 | 1 => {}
            2 => {
                self.string(&head)?;
            }
            3 => self.text(&head)?,
            4 => self.enter(&head, 1)?,
            5 => self.enter(&head, 2)?,
            6 => {
                return Err(DecodeError::Unused {
                    offset: head.offset,
                    what: Unused::Tag(head.argument),
                });
            }
            _ => simple(&head)?,
        }
        if key {
            let encoded = &self.bytes[head.offset..self.at];
            if let Some(keys) = self.open.last_mut().and_then(|open| open.keys.as_mut()) {
                keys.push((encoded, head.offset));
            }
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let offset = self.at;
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => self
                .take(1 << (info - 24))?
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            31 if (2..=5).contains(&major) => return Err(DecodeError::Indefinite { offset }),
            _ => return Err(DecodeError::Malformed { offset }),
        };
        if major < 7 && info >= 24 && argument < least(info) {
            return Err(DecodeError::NotShortest { offset });
        }
        Ok(Head {
            offset,
            major,
            info,
            argument,
        })
    }

    fn string(&mut self, head: &Head) -> Result<&'a [u8], DecodeError> {
        let length = self.length_within(head, 1)?;
        self.take(length)
    }

    fn text(&mut self, head: &Head) -> Result<(), DecodeError> {
        let start = self.at;
        match std::str::from_utf8(self.string(head)?) {
            Ok(_) => Ok(()),
            Err(error) => Err(DecodeError::Utf8 {
                offset: start + error.valid_up_to(),
            }),
        }
    }

    /// Opens an array (`width` 1) or a map (`width` 2).
    fn enter(&mut self, head: &Head, width: u64) -> Result<(), DecodeError> {
        if self.open.len() >= self.depth {
            return Err(DecodeError::TooDeep {
                offset: head.offset,
                limit: self.depth,
            });
        }
        self.length_within(head, width)?;
        self.open.push(Open {
            left: head.argument * width,
            keys: (width == 2).then(Vec::new),
        });
        Ok(())
    }

    /// The claimed length, once `width` bytes for each of it can be there.
    fn length_within(&self, head: &Head, width: u64) -> Result<usize, DecodeError> {
        let left = self.bytes.len() - self.at;
        usize::try_from(head.argument)
            .ok()
            .filter(|_| head.argument <= left as u64 / width)
            .ok_or(DecodeError::LengthBeyondInput {
                offset: head.offset,
                claimed: head.argument,
                left,
            })
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let Some(mut keys) = self.open.pop().and_then(|open| open.keys) else {
            return Ok(());
        };
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(DecodeError::DuplicateKey { offset: pair[1].1 }),
            None => Ok(()),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let taken =
            self.bytes[self.at..]
                .split_at_checked(count)
                .ok_or(DecodeError::Truncated {
                    offset: self.bytes.len(),
                })?;
        self.at += count;
        Ok(taken.0)
    }
}

impl Open<'_> {
    /// Whether the item now being read is a key: `left` already leaves it out.
    fn expects_key(&self) -> bool {
        self.keys.is_some() && self.left % 2 == 1
    }
}

/// The smallest argument that needs the width `info` stands for.
fn least(info: u8) -> u64 {
    match info {
        24 => 24,
        25 => 1 << 8,
        26 => 1 << 16,
        _ => 1 << 32,
    }
}

/// Major type 7: false, true, null and floats.
fn simple(head: &Head) -> Result<(), DecodeError> {
    let offset = head.offset;
    match head.info {
        20..=22 | 25..=27 => Ok(()),
        24 if head.argument < 32 => Err(DecodeError::Malformed { offset }),
        _ => Err(DecodeError::Unused {
            offset,
            what: Unused::Simple(head.argument as u8),
        }),
    }
}
