//! What is written, encrypted on its way: CMS's `AuthEnvelopedData` (RFC 5083) with AES-256-GCM (RFC 5084).
//!
//! `openssl cms -decrypt` opens it. Its length need not be known before, since BER has values without one:
//! the content is a string of pieces, and its authentication code comes behind it.

use std::io::{self, Write};

use aes::Aes256;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use ctr::Ctr32BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroizing;

use super::der::{octets, sequence};
use super::recipient::{ContentKey, Recipient};

/// Bytes of a piece: whole blocks, so that only the last one is padded where it is authenticated.
const PIECE: usize = 64 << 10;

// Object identifiers, as DER.
const AUTH_ENVELOPED_DATA: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17";
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const AES_256_GCM: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2e";

/// A sequence, and `[0]`, without a length.
const OPEN_SEQUENCE: &[u8] = b"\x30\x80";
const OPEN_0: &[u8] = b"\xa0\x80";
/// What ends a value without a length.
const END: &[u8] = b"\x00\x00";

/// Bytes of the authentication code.
const CODE: u8 = 16;

/// Encrypts to `W` what is written.
pub(super) struct Sealed<W> {
    out: W,
    gcm: Gcm,
    piece: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealed<W> {
    /// Begins a message to `recipient`, with a key of its own.
    pub(super) fn begin(recipient: &Recipient, mut out: W) -> io::Result<Sealed<W>> {
        let mut key = ContentKey::default();
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        // The key is used for this message alone, so any number does that is used once.
        let nonce = [0; 12];
        let info = recipient.wrap(&key).map_err(io::Error::other)?;
        let parameters = sequence(&[&octets(&nonce), &[0x02, 0x01, CODE]]);
        for part in [
            OPEN_SEQUENCE,
            AUTH_ENVELOPED_DATA,
            OPEN_0,
            OPEN_SEQUENCE,
            // Version 0.
            b"\x02\x01\x00",
            &super::der::value(0x31, &[&info]),
            OPEN_SEQUENCE,
            DATA,
            &sequence(&[AES_256_GCM, &parameters]),
            OPEN_0,
        ] {
            out.write_all(part)?;
        }
        Ok(Sealed {
            out,
            gcm: Gcm::new(&key, nonce),
            piece: Zeroizing::new(Vec::with_capacity(PIECE)),
        })
    }

    /// Ends the message. Without this nobody takes it for whole.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.send()?;
        // The string, and what it is in; the code; the message, and what that is in.
        for part in [END, END, &octets(&self.gcm.code()), END, END, END] {
            self.out.write_all(part)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.gcm.encrypt(&mut self.piece);
        self.out.write_all(&octets(&self.piece))?;
        self.piece.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    /// Nothing is sent before a piece is full: what is in it could not be told apart from its end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// AES-256-GCM over pieces, of which all but the last are whole blocks. Crates that have it whole take
/// all of a message at once.
struct Gcm {
    cipher: Ctr32BE<Aes256>,
    hash: GHash,
    mask: [u8; 16],
    bytes: u64,
}

impl Gcm {
    fn new(key: &ContentKey, nonce: [u8; 12]) -> Gcm {
        let block = Aes256::new(key.as_slice().into());
        let encrypted = |bytes: [u8; 16]| {
            let mut bytes = bytes.into();
            block.encrypt_block(&mut bytes);
            <[u8; 16]>::from(bytes)
        };
        let counter = |count: u32| {
            let mut bytes = [0; 16];
            bytes[..12].copy_from_slice(&nonce);
            bytes[12..].copy_from_slice(&count.to_be_bytes());
            bytes
        };
        let hash_key = Zeroizing::new(encrypted([0; 16]));
        Gcm {
            cipher: Ctr32BE::new(key.as_slice().into(), &counter(2).into()),
            hash: GHash::new(hash_key.as_slice().into()),
            mask: encrypted(counter(1)),
            bytes: 0,
        }
    }

    fn encrypt(&mut self, piece: &mut [u8]) {
        self.cipher.apply_keystream(piece);
        self.hash.update_padded(piece);
        self.bytes += piece.len() as u64;
    }

    fn code(&self) -> [u8; 16] {
        let mut hash = self.hash.clone();
        let mut lengths = [0; 16];
        lengths[8..].copy_from_slice(&(self.bytes * 8).to_be_bytes());
        hash.update_padded(&lengths);
        let mut code = <[u8; 16]>::from(hash.finalize());
        for (byte, mask) in code.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::*;

    #[test]
    fn piece_by_piece_is_what_is_encrypted_at_once() {
        let key = ContentKey::new(std::array::from_fn(|at| at as u8));
        let whole = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).unwrap());
        for length in [0, 1, 15, 16, 17, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let plain: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let mut expected = plain.clone();
            let nonce = Nonce::assume_unique_for_key([9; 12]);
            let code = whole.seal_in_place_separate_tag(nonce, Aad::empty(), &mut expected);
            let mut gcm = Gcm::new(&key, [9; 12]);
            let mut found = plain;
            found.chunks_mut(PIECE).for_each(|piece| gcm.encrypt(piece));
            assert!(found == expected, "{length}");
            assert_eq!(gcm.code(), code.unwrap().as_ref(), "{length}");
        }
    }
}
