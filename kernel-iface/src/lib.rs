//! Kernel interface.
