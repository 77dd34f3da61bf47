//! ashlarctl.
