//! CBOR with limits.
