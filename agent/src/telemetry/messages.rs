//! The kinds of messages in the journal that programs may look for, each with a `MESSAGE_ID`.
//!
//! An id follows from its name, so it is the same for good and no two can be mixed up.
//! `docs/messages.md` and the catalog in the image name them all; a test compares the three.

use ashlar_protocol::EventKind;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message(&'static str);

impl Message {
    /// Its name: that of an event, or one of our own.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its `MESSAGE_ID`: 32 hexadecimal digits.
    pub fn id(self) -> String {
        let digest: [u8; 32] = Sha256::digest(format!("ashlar message {}", self.0)).into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        let id: Uuid = uuid::Builder::from_custom_bytes(bytes).into_uuid();
        id.simple().to_string()
    }
}

/// A call was answered, or its caller has left: one of the audit trail.
pub const CALL: Message = Message("call");

/// Requests' ends. What they were for is in the fields, as is the kind of event.
const FAILED: Message = Message("request.failed");
const CANCELLED: Message = Message("request.cancelled");
const BEGUN: Message = Message("work.begun");
const DONE: Message = Message("work.done");

/// Events of kinds that stand for themselves.
const EVENTS: &[Message] = &[
    Message("system.frozen"),
    Message("system.thawed"),
    Message("system.firmware-changed"),
    Message("pool.created"),
    Message("pool.updated"),
    Message("pool.grown"),
    Message("pool.imported"),
    Message("pool.deleted"),
    Message("pool.disk-replaced"),
    Message("pool.member-in-sync"),
    Message("pool.member-rebuilding"),
    Message("pool.member-failed"),
    Message("pool.member-missing"),
    Message("pool.online"),
    Message("pool.degraded"),
    Message("pool.offline"),
    Message("pool.level-ok"),
    Message("pool.level-warn"),
    Message("pool.level-critical"),
    Message("pool.level-stop"),
    Message("pool.scrubbed"),
    Message("volume.created"),
    Message("volume.updated"),
    Message("volume.extended"),
    Message("volume.reverted"),
    Message("volume.moved"),
    Message("volume.transferred"),
    Message("volume.cleared"),
    Message("volume.adopted"),
    Message("volume.released"),
    Message("volume.deleted"),
    Message("snapshot.created"),
    Message("snapshot.updated"),
    Message("snapshot.adopted"),
    Message("snapshot.released"),
    Message("snapshot.deleted"),
    Message("group.created"),
    Message("group.updated"),
    Message("group.deleted"),
    Message("group-snapshot.created"),
    Message("group-snapshot.updated"),
    Message("group-snapshot.deleted"),
    Message("host.created"),
    Message("host.updated"),
    Message("host.rotated"),
    Message("host.deleted"),
    Message("connection.created"),
    Message("connection.deleted"),
    Message("portal.created"),
    Message("portal.deleted"),
];

/// All of them.
pub fn all() -> impl Iterator<Item = Message> {
    let own = [CALL, FAILED, CANCELLED, BEGUN, DONE];
    own.into_iter().chain(EVENTS.iter().copied())
}

/// The kind of message that an event is; none is missing here that a test has seen.
pub fn of_event(kind: &EventKind) -> Option<Message> {
    let kind = kind.as_str();
    let itself = EVENTS.iter().copied().find(|message| message.0 == kind);
    itself.or_else(|| match kind.rsplit_once('-')?.1 {
        "failed" => Some(FAILED),
        "cancelled" => Some(CANCELLED),
        "begun" => Some(BEGUN),
        "done" => Some(DONE),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ashlar_protocol::ObjectKind;

    use super::*;

    #[test]
    fn each_message_has_an_id_of_its_own_for_good() {
        let ids: BTreeSet<String> = all().map(Message::id).collect();
        assert_eq!(ids.len(), all().count());
        assert_eq!(CALL.id(), "5837fc13306e87ef98b755cdd9f6d59b");
    }

    #[test]
    fn an_event_is_a_message_by_its_kind_or_by_how_it_ends() {
        let name = |what| of_event(&EventKind::new(ObjectKind::Pool, what)).map(Message::name);
        assert_eq!(name("member-failed"), Some("pool.member-failed"));
        assert_eq!(name("create-failed"), Some("request.failed"));
        assert_eq!(name("scrub-done"), Some("work.done"));
        assert_eq!(name("unheard-of"), None);
    }
}
