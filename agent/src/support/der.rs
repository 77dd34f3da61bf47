//! As much of DER (X.690) as is written here.

/// A value: its tag, its length, what is in it.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut written = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => written.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            // A length has eight bytes at most.
            written.push(0x80 | (bytes.len() - zeros) as u8);
            written.extend_from_slice(&bytes[zeros..]);
        }
    }
    for part in parts {
        written.extend_from_slice(part);
    }
    written
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(0x30, parts)
}

pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    value(0x04, &[bytes])
}

/// `[number]` around other values.
pub(super) fn tagged(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    value(0xa0 | number, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (length, head) in [
            (0, &[0x04, 0x00][..]),
            (0x7f, &[0x04, 0x7f]),
            (0x80, &[0x04, 0x81, 0x80]),
            (0xff, &[0x04, 0x81, 0xff]),
            (0x100, &[0x04, 0x82, 0x01, 0x00]),
            (0x1_0000, &[0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let written = octets(&vec![7; length]);
            assert!(written.starts_with(head), "{length}");
            assert_eq!(written.len(), head.len() + length);
        }
    }
}
