//! targetd protocol.
