//! Sizes as people write and read them.

use std::str::FromStr;

use bytesize::ByteSize;

/// A number of bytes, written like `4096`, `512MiB` or `1.5TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is bytes, or like 512MiB, 10GiB, 1.5TiB")]
pub struct NotASize;

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let size: ByteSize = text.parse().map_err(|_| NotASize)?;
        // The library's answer to all that is too large.
        match size.as_u64() {
            u64::MAX => Err(NotASize),
            bytes => Ok(Size(bytes)),
        }
    }
}

/// A size for a table.
pub fn human(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for (text, bytes) in [
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("1.5TiB", 3 << 39),
            ("10GB", 10_000_000_000),
            ("262143GiB", 262_143 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in [
            "",
            "GiB",
            "-1",
            "1e3x",
            "10 elephants",
            "0x10",
            "17179869184GiB",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_read_back() {
        assert_eq!(human(10 << 30), "10.0 GiB");
        assert_eq!(human(512), "512 B");
    }
}
