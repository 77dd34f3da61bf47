//! How the kernel reads the text written to an attribute.

use crate::tree::Errno;

/// Who may touch an attribute's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
    WriteOnly,
}

/// What a write to an attribute does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Nothing: the file is read-only.
    Never,
    /// A boolean in any of the kernel's spellings, kept as 0 or 1.
    Bool,
    /// A number from a range, kept in decimal.
    Number(u32, u32),
    /// One of these words; a newline after it is ignored.
    Word(&'static [&'static str]),
    /// What the rules of its subsystem say.
    Rule,
}

/// One attribute of a kind of object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) file: &'static str,
    pub(super) access: Access,
    /// What it reads as when the object is made.
    pub(super) initial: &'static str,
    pub(super) store: Store,
}

/// A file that is read and written.
pub(super) const fn rw(file: &'static str, initial: &'static str, store: Store) -> Attribute {
    Attribute {
        file,
        access: Access::ReadWrite,
        initial,
        store,
    }
}

/// A file that is only read.
pub(super) const fn ro(file: &'static str, initial: &'static str) -> Attribute {
    Attribute {
        file,
        access: Access::ReadOnly,
        initial,
        store: Store::Never,
    }
}

/// A file that is only written.
pub(super) const fn wo(file: &'static str) -> Attribute {
    Attribute {
        file,
        access: Access::WriteOnly,
        initial: "",
        store: Store::Rule,
    }
}

impl Store {
    /// What the attribute reads as after this text was written, for the stores that need to know
    /// nothing else.
    pub(super) fn plain(self, text: &str) -> Result<String, Errno> {
        match self {
            Store::Bool => flag(text).map(|flag| u32::from(flag).to_string()),
            Store::Number(min, max) => {
                let number = number(text, u64::from(u32::MAX))?;
                let accepted = (u64::from(min)..=u64::from(max)).contains(&number);
                accepted.then(|| number.to_string()).ok_or(Errno::EINVAL)
            }
            Store::Word(words) => {
                let word = line(text);
                let known = words.contains(&word) && text.len() <= word.len() + 1;
                known.then(|| word.to_owned()).ok_or(Errno::EINVAL)
            }
            Store::Never | Store::Rule => Err(Errno::EACCES),
        }
    }
}

/// The text before the first newline.
pub(super) fn line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// The text up to the first NUL, which ends a string in the kernel.
pub(super) fn c_string(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// A boolean: its first letters decide.
pub(super) fn flag(text: &str) -> Result<bool, Errno> {
    let mut letters = text.chars().map(|c| c.to_ascii_lowercase());
    match (letters.next(), letters.next()) {
        (Some('y' | 't' | '1'), _) | (Some('o'), Some('n')) => Ok(true),
        (Some('n' | 'f' | '0'), _) | (Some('o'), Some('f')) => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

/// An unsigned number in decimal, octal (`0…`) or hexadecimal (`0x…`), with one newline allowed
/// after it. EINVAL if it is none, ERANGE past `max`.
pub(super) fn number(text: &str, max: u64) -> Result<u64, Errno> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Errno::ERANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        for (text, read) in [
            ("10", Ok(10)),
            ("10\n", Ok(10)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0", Ok(0)),
            ("", Err(Errno::EINVAL)),
            ("-1", Err(Errno::EINVAL)),
            ("1 ", Err(Errno::EINVAL)),
            ("65536", Err(Errno::ERANGE)),
        ] {
            assert_eq!(number(text, 65_535), read, "{text:?}");
        }
    }

    #[test]
    fn the_first_letters_of_a_boolean_decide() {
        for text in ["1", "yes", "Y", "on", "true", "1\n", "10"] {
            assert_eq!(flag(text), Ok(true), "{text:?}");
        }
        for text in ["0", "no", "off", "False"] {
            assert_eq!(flag(text), Ok(false), "{text:?}");
        }
        for text in ["", "2", "x", "o"] {
            assert_eq!(flag(text), Err(Errno::EINVAL), "{text:?}");
        }
    }
}
