//! What is gathered for somebody who is to help.

use ashlar_protocol::{Problem, SupportSpec, support};

use super::body::decode;
use super::data::Content;
use super::listener::Shared;
use super::operations::Call;
use super::reply::Reply;
use crate::engine::Download;
use crate::support::{Recipient, bundle};

/// Begins to answer with a bundle.
pub(super) fn perform(shared: &Shared, call: &Call) -> Result<Reply, Problem> {
    let spec: SupportSpec = decode(&call.body)?;
    let recipient = Recipient::parse(spec.certificate.as_str())?;
    let permit = shared.turns.bundle()?;
    let (engine, identity) = (shared.engine.clone(), shared.identity.clone());
    let download = Download {
        pieces: bundle(engine, identity, recipient),
        length: None,
    };
    let content = Content::of(download, permit);
    Ok(Reply::content(content, support::MEDIA_TYPE))
}
