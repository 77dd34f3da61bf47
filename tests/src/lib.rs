//! Scenarios: one text, two kernels.
//!
//! A scenario is a file below `tests/scenarios`: requests as they go over the wire, the
//! answers they must get, what the kernel must then hold, and the accidents in between
//! (a daemon killed, the power cut). The same file runs on the model kernel, with agent
//! and targetd in this process, and on the appliance in a virtual machine.
//!
//! | module       | what |
//! |--------------|------|
//! | [`scenario`] | the file format: parse, placeholders, matching |
//! | [`runner`]   | runs a scenario on anything that is an [`runner::Appliance`] |
//! | [`contract`] | real traffic against `protocol.cddl` |
//! | [`wire`]     | a bare client that can send what no well-made client would |
//! | [`model`]    | an appliance in this process, on the model kernel |

pub mod contract;
pub mod model;
pub mod runner;
pub mod scenario;
pub mod wire;
