//! The unprivileged management daemon: policy, protocol and the record of what is intended.
//!
//! ```text
//! client ══ mutual TLS ══ http ── engine ── domain     pure rules: command to change
//!                          │        ├────── store      journal and index, a thread of its own
//!                         tls       └────── reconcile ── targetd ══ AF_UNIX ══ ashlar-targetd
//! ```
//!
//! | module        | what |
//! |---------------|------|
//! | [`config`]    | the configuration file |
//! | [`telemetry`] | log lines to the journal |
//! | [`audit`]     | who asked for what, and what came of it |
//! | [`kept`]      | what is told in order, and kept for a while |
//! | [`clock`]     | the time that records carry |
//! | [`notify`]    | what systemd is told |
//! | [`tls`]       | certificates, and who a peer is |
//! | [`identity`]  | who the box is, whose it is, whom it lets in |
//! | [`http`]      | the management port |
//! | [`engine`]    | commands and queries |
//! | [`data`]      | moving what volumes hold |
//! | [`lanes`]     | which lets hosts go first |
//! | [`domain`]    | the rules |
//! | [`firmware`]  | asking the updater |
//! | [`store`]     | what is durable |
//! | [`support`]   | what somebody needs who is to help |
//! | [`reconcile`] | making the kernel as intended |
//! | [`targetd`]   | speaking to the privileged daemon |
//! | [`thin`]      | what is mapped, shared and changed |
//! | [`catalog`]   | the copy of its records that a pool carries |
//!
//! One asynchronous thread does the network; the store has a thread, because it waits for the
//! disk.

pub mod audit;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod data;
pub mod domain;
pub mod engine;
pub mod firmware;
pub mod http;
pub mod identity;
pub mod kept;
pub mod lanes;
pub mod notify;
pub mod reconcile;
pub mod store;
pub mod support;
pub mod targetd;
pub mod telemetry;
pub mod thin;
pub mod tls;
