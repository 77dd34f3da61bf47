//! What the process says about the image, a line at a time.
//!
//! ```text
//! open FORMAT SIZE full|without-landlock
//! too-large WHY    its disk does not fit
//! refused WHY      the image is to blame otherwise
//! failed WHY       it is not
//! ```
//!
//! The agent reads few bytes of it, and repeats only what can be printed.

use std::io::{self, Read, Write};

use ashlar_image_formats::Format;

use crate::Confinement;

/// The image that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it is.
    pub format: Format,
    /// Bytes of its disk.
    pub size: u64,
    /// How far the process that reads it is shut in.
    pub confinement: Confinement,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open(Opened),
    TooLarge(String),
    Refused(String),
    Failed(String),
}

const FULL: &str = "full";
const WITHOUT_LANDLOCK: &str = "without-landlock";

impl Line {
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let text = match self {
            Line::Open(opened) => {
                let confinement = match opened.confinement {
                    Confinement::Full => FULL,
                    Confinement::WithoutLandlock => WITHOUT_LANDLOCK,
                };
                format!("open {} {} {confinement}\n", opened.format, opened.size)
            }
            Line::TooLarge(why) => format!("too-large {why}\n"),
            Line::Refused(why) => format!("refused {why}\n"),
            Line::Failed(why) => format!("failed {why}\n"),
        };
        out.write_all(text.as_bytes())
    }

    fn parse(text: &str) -> Option<Line> {
        let (word, rest) = text.split_once(' ')?;
        match word {
            "open" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let [format, size, confinement] = words[..] else {
                    return None;
                };
                Some(Line::Open(Opened {
                    format: format.parse().ok()?,
                    size: size.parse().ok()?,
                    confinement: match confinement {
                        FULL => Confinement::Full,
                        WITHOUT_LANDLOCK => Confinement::WithoutLandlock,
                        _ => return None,
                    },
                }))
            }
            "too-large" => Some(Line::TooLarge(rest.to_owned())),
            "refused" => Some(Line::Refused(rest.to_owned())),
            "failed" => Some(Line::Failed(rest.to_owned())),
            _ => None,
        }
    }
}

/// Bytes of a line that are looked at.
const LONGEST: usize = 512;

/// Reads the next line; `None` at the end, for what is no line of ours, and for one too long.
pub(crate) fn next_line(from: &mut impl Read) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if bytes.len() == LONGEST => return Ok(None),
            Ok(_) => bytes.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .filter(|letter| matches!(letter, ' '..='~'))
        .collect();
    Ok(Line::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_they_were_written() {
        let opened = Opened {
            format: Format::Vhdx,
            size: u64::MAX,
            confinement: Confinement::WithoutLandlock,
        };
        let lines = [
            Line::Open(opened),
            Line::TooLarge("at most 5 fit".to_owned()),
            Line::Refused("the vmdk image is damaged: no".to_owned()),
            Line::Failed("x".to_owned()),
        ];
        let mut bytes = Vec::new();
        lines
            .iter()
            .for_each(|line| line.write(&mut bytes).unwrap());
        let mut from = &bytes[..];
        for line in lines {
            assert_eq!(next_line(&mut from).unwrap(), Some(line));
        }
        assert_eq!(next_line(&mut from).unwrap(), None);
    }

    #[test]
    fn what_is_no_line_says_nothing() {
        let long = [b'x'; 100_000];
        for bytes in [&b"open qcow2 -1 full\n"[..], b"open\n", b"\n", &long] {
            assert_eq!(next_line(&mut &bytes[..]).unwrap(), None);
        }
        let escape = next_line(&mut &b"refused \x1b[2J\xffa\n"[..]).unwrap();
        assert_eq!(escape, Some(Line::Refused("[2Ja".to_owned())));
    }
}
