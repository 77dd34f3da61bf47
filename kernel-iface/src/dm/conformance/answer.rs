//! Answers as a script writes them.

use crate::block::{BlockError, DiskContent, MetadataState, PoolSize};
use crate::dm::{
    DmError, DmInfo, LegState, PoolMode, RaidStatus, TargetStatus, ThinPoolStatus, ThinStatus,
};

/// How an operation ended: an answer, or an errno by name.
pub(super) type Answer = Result<String, String>;

pub(super) fn ok<T>(outcome: Result<T, DmError>) -> Answer {
    said(outcome, |_| "ok".to_owned())
}

pub(super) fn said<T, S>(
    outcome: Result<T, DmError>,
    say: impl FnOnce(T) -> S,
) -> Result<S, String> {
    match outcome {
        Ok(value) => Ok(say(value)),
        Err(error) => Err(error
            .errno()
            .map_or(error.to_string(), |errno| format!("{errno:?}"))),
    }
}

pub(super) fn block_errno(error: &BlockError) -> String {
    error
        .errno()
        .map_or(error.to_string(), |errno| format!("{errno:?}"))
}

pub(super) fn nothing_or(text: String) -> String {
    let text = text.trim();
    if text.is_empty() {
        "(nothing)".to_owned()
    } else {
        text.to_owned()
    }
}

pub(super) fn describe(info: Option<&DmInfo>) -> String {
    let Some(info) = info else {
        return "absent".to_owned();
    };
    let flags = [
        (info.live, "live"),
        (info.inactive, "inactive"),
        (info.suspended, "suspended"),
        (info.read_only, "read-only"),
    ];
    let set = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
    let mut words: Vec<String> = set.map(str::to_owned).collect();
    if info.open_count > 0 {
        words.push(format!("open {}", info.open_count));
    }
    nothing_or(words.join(" "))
}

/// Metadata blocks are left out: how many a pool uses depends on its size.
pub(super) fn statuses(statuses: Vec<TargetStatus>) -> String {
    let words = statuses.iter().map(|status| match status {
        TargetStatus::Plain => "plain".to_owned(),
        TargetStatus::Raid(status) => raid(status),
        TargetStatus::ThinPool(ThinPoolStatus::Failed) => "pool failed".to_owned(),
        TargetStatus::ThinPool(ThinPoolStatus::Good(usage)) => format!(
            "pool transaction {} data {}/{} {} {:?}{}",
            usage.transaction_id,
            usage.data_used,
            usage.data_total,
            match usage.mode {
                PoolMode::ReadWrite => "rw",
                PoolMode::OutOfDataSpace => "out_of_data_space",
                PoolMode::ReadOnly => "ro",
            },
            usage.discard,
            if usage.error_if_no_space {
                " error_if_no_space"
            } else {
                ""
            },
        ),
        TargetStatus::Thin(ThinStatus::Failed) => "thin failed".to_owned(),
        TargetStatus::Thin(ThinStatus::NotOpen) => "thin not open".to_owned(),
        TargetStatus::Thin(ThinStatus::Good { mapped, .. }) => {
            format!("thin mapped {}", mapped.0)
        }
    });
    nothing_or(words.collect::<Vec<_>>().join("; "))
}

/// How far it is is left out: that is a matter of time.
fn raid(status: &RaidStatus) -> String {
    let members = status.members.iter().map(|member| match member {
        LegState::InSync => 'A',
        LegState::Partial => 'a',
        LegState::Failed => 'D',
        LegState::Missing => '-',
    });
    let members: String = members.collect();
    format!("{} {members} {:?}", status.level, status.action)
}

/// How large a pool is.
pub(super) fn totals(status: Option<ThinPoolStatus>) -> String {
    match status {
        Some(ThinPoolStatus::Good(usage)) => {
            format!(
                "metadata {} data {}",
                usage.metadata_total, usage.data_total
            )
        }
        Some(ThinPoolStatus::Failed) | None => "nothing".to_owned(),
    }
}

/// Pools are told by their place only: what else the label says is the script's own choice.
pub(super) fn content(content: &DiskContent) -> String {
    match content {
        DiskContent::Blank => "blank".to_owned(),
        DiskContent::Pool { label, partition } => format!(
            "pool disk {} of {}, {} at {}",
            label.index, label.count, partition.length, partition.start
        ),
        DiskContent::Unfinished(_) => "unfinished".to_owned(),
        DiskContent::Foreign(what) => what.clone(),
    }
}

pub(super) fn state_name(state: MetadataState) -> String {
    match state {
        MetadataState::Zero => "zero",
        MetadataState::Formatted => "formatted",
        MetadataState::Unknown => "unknown",
    }
    .to_owned()
}

/// What the superblock of thin metadata says.
pub(super) fn size(size: PoolSize) -> String {
    format!(
        "metadata {} data {}",
        size.metadata_blocks, size.data_blocks
    )
}
