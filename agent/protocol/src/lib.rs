//! Management protocol.
