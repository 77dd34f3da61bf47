//! A lab: one appliance, one initiator, the certificates to manage it, in virtual machines.
//!
//! `xtask` builds the [`Parts`] once (images, kernel) and writes them to a file that
//! `ASHLAR_PARTS` names; tests, demo and benchmark make any number of [`Site`]s from them.
//!
//! ```text
//!  host ── management, iSCSI, NVMe/TCP on loopback ──▶ appliance 10.77.0.1 ◀──▶ initiator 10.77.0.2
//! ```

pub mod disks;
pub mod factory;
pub mod firmware;
mod initiator;
mod parts;
mod pki;
mod site;
mod updates;
pub mod writer;

pub use initiator::{Device, Initiator};
pub use parts::Parts;
pub use pki::Pki;
pub use site::{Options, Ports, Site, Start};
pub use updates::Updates;
pub use writer::Writer;

/// The appliance's address on the storage network.
pub const APPLIANCE_ADDRESS: &str = "10.77.0.1";

/// Where the agent listens in the guest.
pub const MANAGEMENT_PORT: u16 = 8443;
/// Where iSCSI targets listen in the guest.
pub const ISCSI_PORT: u16 = 3260;
/// Of iSCSI over RDMA, inside the appliance.
pub const ISER_PORT: u16 = 3261;
/// Where NVMe subsystems listen in the guest.
pub const NVME_PORT: u16 = 4420;
