//! How much volumes may do: limits on their devices.
//!
//! ```text
//!   Qos ─► throttles ─► Limiter ─► kernel: blkio        once, when a volume is applied
//!                          ▲  │
//!                counters ─┘  └─► kernel: blkio         four times a second, for totals only
//! ```
//!
//! | file        | what |
//! |-------------|------|
//! | `throttles` | what the kernel is to be told for a volume, pure |
//! | `share`     | dividing a total between reads and writes, pure |
//! | `limiter`   | which devices have limits, and setting them |
//! | `governor`  | the thread that divides totals, while there are any |
//!
//! The kernel lists the limits of all devices at once or not at all. So that a volume costs the
//! same however many there are, they are read at start, and what is set after that is
//! remembered. A volume without limits costs nothing.

mod governor;
mod limiter;
mod share;
mod throttles;

pub use limiter::Limiter;
pub use share::most;
pub use throttles::{fit, in_words, possible};
