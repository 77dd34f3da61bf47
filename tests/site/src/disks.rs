//! How the disks of a pool with redundancy are.

use ashlar_protocol::{MemberState, Pool, SetAction};

/// Whether the kernel does nothing with any set.
pub fn rests(pool: &Pool) -> bool {
    pool.sets.iter().all(|set| set.action == SetAction::Idle)
}

/// Whether no disk misses data, and nothing goes on with them.
pub fn all_in_sync(pool: &Pool) -> bool {
    let mut states = pool.members.iter().map(|member| member.state);
    !pool.members.is_empty() && states.all(|state| state == MemberState::InSync) && rests(pool)
}
