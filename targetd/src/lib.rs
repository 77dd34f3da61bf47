//! targetd.
