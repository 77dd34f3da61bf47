//! Addresses that could not be had, and ports of Fibre Channel, and what is to be served there once
//! they can.
//!
//! ```text
//! attempt ── refused places ─────► note ──┬─ no interface has it: the kernel tells when one does
//!                                         └─ something else: one of those who want it asks again
//! the kernel told ──► found ──► whoever wants what is here now is applied once more
//! one of them has it ──► likewise the others
//! ```
//!
//! So what a network that comes late costs does not depend on how many volumes wait for it until it
//! comes, and nobody asks for what the kernel tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use ashlar_protocol::{PortalAddr, Problem, ProblemCode, Transport};
use ashlar_targetd_protocol::{ServedAt, Unserved};
use tokio::sync::Notify;

use crate::domain::record::Unit;

/// Over what, to where.
type Way = (Transport, ServedAt);

/// The addresses, and ports, that could not be had when they were tried last.
#[derive(Debug, Default)]
pub struct Addresses {
    state: Mutex<State>,
    /// Told when something is to be applied once more.
    news: Notify,
    /// Told when an address was refused as lacking that was not lacking at the last look.
    doubt: Notify,
}

#[derive(Debug, Default)]
struct State {
    refused: BTreeMap<Way, Refusal>,
    /// Of the box's portals, those that no interface had at the last look.
    absent: BTreeSet<IpAddr>,
    /// To be applied once more.
    again: BTreeSet<Unit>,
}

#[derive(Debug)]
struct Refusal {
    absent: bool,
    message: String,
    units: BTreeSet<Unit>,
}

/// Why a portal does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// No interface has its address.
    Address,
    /// The kernel refused.
    Refused(String),
}

impl Addresses {
    /// Takes over what an attempt at a unit came to.
    pub(super) fn note(&self, unit: Unit, unserved: &[Unserved]) {
        let mut state = self.lock();
        let State {
            refused,
            again,
            absent,
        } = &mut *state;
        let lacked = |at: ServedAt| {
            let address = at.address();
            address.is_some_and(|at| absent.contains(&at.socket().ip()))
        };
        let still = |way: &Way| {
            let mut ways = unserved.iter().map(|one| (one.transport, one.at));
            ways.any(|one| one == *way)
        };
        refused.retain(|way, refusal| {
            // It has it now, or wants it no longer: in either case another is to try, unless the
            // kernel will tell.
            let told = refusal.absent && lacked(way.1);
            if !still(way) && refusal.units.remove(&unit) && !told {
                again.append(&mut refusal.units);
            }
            !refusal.units.is_empty()
        });
        for one in unserved {
            let way = (one.transport, one.at);
            // It may have come while it was tried, and then nobody tells of it any more.
            if one.absent && !lacked(one.at) && !refused.contains_key(&way) {
                self.doubt.notify_one();
            }
            let refusal = refused.entry(way).or_insert_with(|| Refusal {
                absent: one.absent,
                message: String::new(),
                units: BTreeSet::new(),
            });
            refusal.absent = one.absent;
            refusal.message.clone_from(&one.message);
            refusal.units.insert(unit);
        }
        if !again.is_empty() {
            self.news.notify_one();
        }
    }

    /// Why a unit is to try again by itself: an address is here and cannot be had, or a port of
    /// Fibre Channel cannot, the kernel does not tell when that changes, and this unit is the one that asks for all.
    pub(super) fn asks_again(&self, unit: Unit) -> Option<Problem> {
        let state = self.lock();
        let asked = state
            .refused
            .values()
            .find(|refusal| !refusal.absent && refusal.units.first() == Some(&unit))?;
        let problem = Problem::new(ProblemCode::KernelFailed, asked.message.clone());
        Some(problem.about(unit.object()))
    }

    /// Addresses that matter: who waits for one, and all that `portals` names.
    pub fn of_interest(&self, portals: impl IntoIterator<Item = PortalAddr>) -> BTreeSet<IpAddr> {
        let state = self.lock();
        let waiting = state.refused.keys().filter_map(|(_, at)| at.address());
        let all = waiting.chain(portals);
        all.map(|at| at.socket().ip()).collect()
    }

    /// Takes over which of those the box lacks. Whether any came that it lacked before.
    pub fn found(&self, absent: BTreeSet<IpAddr>) -> bool {
        let mut state = self.lock();
        let State {
            refused,
            again,
            absent: lacked,
        } = &mut *state;
        for ((_, at), refusal) in refused.iter() {
            let Some(at) = at.address() else {
                continue;
            };
            let ip = at.socket().ip();
            // An IPv6 address is here before it can be had, and the kernel tells again then.
            let may_be_had = refusal.absent || lacked.contains(&ip);
            if !absent.contains(&ip) && may_be_had {
                again.extend(&refusal.units);
            }
        }
        let came = !lacked.is_subset(&absent);
        *lacked = absent;
        if !again.is_empty() {
            self.news.notify_one();
        }
        came
    }

    /// Resolves when the box's addresses are to be looked at once more.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Resolves when something is to be applied once more.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is to be applied once more.
    pub fn take_again(&self) -> BTreeSet<Unit> {
        std::mem::take(&mut self.lock().again)
    }

    /// Why a portal does not serve, if that is known.
    pub fn lacking(&self, transport: Transport, at: PortalAddr) -> Option<Lacking> {
        let state = self.lock();
        if state.absent.contains(&at.socket().ip()) {
            return Some(Lacking::Address);
        }
        let refusal = state.refused.get(&(transport, ServedAt::Address(at)))?;
        Some(match refusal.absent {
            true => Lacking::Address,
            false => Lacking::Refused(refusal.message.clone()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn unserved(at: &str, absent: bool) -> Unserved {
        Unserved {
            transport: Transport::NvmeTcp,
            at: ServedAt::Address(at.parse().unwrap()),
            absent,
            message: format!("failed to listen at {at}"),
        }
    }

    fn ip(of: &Unserved) -> IpAddr {
        of.at.address().unwrap().socket().ip()
    }

    fn unit(n: u128) -> Unit {
        Unit::Volume(Uuid::from_u128(n))
    }

    #[test]
    fn who_waits_for_an_address_is_applied_when_it_comes_and_not_before() {
        let addresses = Addresses::default();
        let late = unserved("10.0.0.9:4420", true);
        let at = late.at.address().unwrap();
        let ip = at.socket().ip();
        addresses.found([ip].into());
        for n in [1, 2] {
            addresses.note(unit(n), std::slice::from_ref(&late));
            assert_eq!(addresses.asks_again(unit(n)), None);
        }
        assert!(!addresses.found([ip].into()));
        assert_eq!(addresses.take_again(), BTreeSet::new());
        let lacking = addresses.lacking(late.transport, at);
        assert_eq!(lacking, Some(Lacking::Address));

        assert!(addresses.found(BTreeSet::new()));
        assert_eq!(addresses.take_again(), [unit(1), unit(2)].into());
        addresses.note(unit(1), &[]);
        addresses.note(unit(2), &[]);
        assert_eq!(addresses.lacking(late.transport, at), None);
    }

    #[test]
    fn of_those_who_want_a_taken_address_one_asks_and_all_get_it() {
        let addresses = Addresses::default();
        let taken = unserved("10.0.0.1:4420", false);
        for n in [1, 2, 3] {
            addresses.note(unit(n), std::slice::from_ref(&taken));
        }
        let asking = [1, 2, 3].map(|n| addresses.asks_again(unit(n)).is_some());
        assert_eq!(asking, [true, false, false]);
        // What the kernel tells of other addresses is no reason to ask for this one.
        assert!(!addresses.found(BTreeSet::new()));
        assert_eq!(addresses.take_again(), BTreeSet::new());

        addresses.note(unit(1), &[]);
        assert_eq!(addresses.take_again(), [unit(2), unit(3)].into());
    }

    #[tokio::test]
    async fn an_address_that_came_while_it_was_tried_is_looked_for_once() {
        let addresses = Addresses::default();
        let doubted = async || {
            let now = std::time::Duration::ZERO;
            tokio::time::timeout(now, addresses.doubted()).await.is_ok()
        };
        addresses.found(BTreeSet::new());
        let late = unserved("10.0.0.9:4420", true);
        addresses.note(unit(1), std::slice::from_ref(&late));
        assert!(doubted().await);
        assert!(!addresses.found(BTreeSet::new()));
        assert_eq!(addresses.take_again(), [unit(1)].into());
        // It is here and cannot be had all the same: nothing to look for.
        addresses.note(unit(1), std::slice::from_ref(&late));
        assert!(!doubted().await);
        // Nor is it where the kernel is known to lack it.
        addresses.note(unit(1), &[]);
        addresses.found([ip(&late)].into());
        addresses.note(unit(1), &[late]);
        assert!(!doubted().await);
    }

    #[test]
    fn who_no_longer_waits_for_an_address_wakes_nobody() {
        let addresses = Addresses::default();
        let late = unserved("10.0.0.9:4420", true);
        addresses.found([ip(&late)].into());
        for n in [1, 2] {
            addresses.note(unit(n), std::slice::from_ref(&late));
        }
        addresses.note(unit(1), &[]);
        assert_eq!(addresses.take_again(), BTreeSet::new());
        let address = late.at.address().unwrap();
        assert!(addresses.lacking(late.transport, address).is_some());
    }

    #[test]
    fn a_port_of_fibre_channel_is_asked_for_and_no_address_is_awaited() {
        let addresses = Addresses::default();
        let port = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f";
        let dead = Unserved {
            transport: Transport::NvmeFc,
            at: ServedAt::NvmeFc(port.parse().unwrap()),
            ..unserved("10.0.0.1:4420", false)
        };
        for n in [1, 2] {
            addresses.note(unit(n), std::slice::from_ref(&dead));
        }
        let asking = [1, 2].map(|n| addresses.asks_again(unit(n)).is_some());
        assert_eq!(asking, [true, false]);
        assert_eq!(addresses.of_interest([]), BTreeSet::new());
        assert!(!addresses.found(BTreeSet::new()));
        assert_eq!(addresses.take_again(), BTreeSet::new());
        addresses.note(unit(1), &[]);
        assert_eq!(addresses.take_again(), [unit(2)].into());
    }

    #[test]
    fn who_lets_go_leaves_another_to_ask() {
        let addresses = Addresses::default();
        let taken = unserved("10.0.0.1:4420", false);
        for n in [1, 2] {
            addresses.note(unit(n), std::slice::from_ref(&taken));
        }
        addresses.note(unit(1), &[]);
        assert_eq!(addresses.take_again(), [unit(2)].into());
        addresses.note(unit(2), &[taken]);
        assert!(addresses.asks_again(unit(2)).is_some());
    }
}
