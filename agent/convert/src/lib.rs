//! Reading an image of a stranger's, in a process that can do nothing else.
//!
//! ```text
//!            agent                                     ashlar-convert
//! Conversion::spawn ─── stdin: the image, read-only ──▶ confine: no file, socket, process, memory
//!                   ◀── stderr: what it is, what is wrong ── open
//!             frames ◀── stdout: extents ──────────────── next, next, …
//!               stop ─── kill ──▶
//! ```
//!
//! The process that reads the image has no privilege to begin with and gives up the rest before
//! the first byte: see [`confine`]. It can read the image and write to two pipes. What comes out
//! is believed no more than what a client uploads: the agent decodes it like an upload, and
//! bounds what it says.
//!
//! | module       | side |
//! |--------------|------|
//! | [`Conversion`] | the agent's |
//! | `extents`, `report` | both |
//! | [`confine`], [`run`] | the process's |

mod confine;
mod conversion;
mod extents;
mod report;
mod run;

pub use confine::{ConfineError, Confinement, confine};
pub use conversion::{Conversion, ConvertError, Order, Stop};
pub use extents::{MOST_DATA, ZERO_GRAIN};
pub use report::Opened;
pub use run::run;
