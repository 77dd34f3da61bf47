//! What is asked of the box's identity, or cannot be told without it.

use std::sync::{Arc, OnceLock};

use ashlar_protocol::{Operation, Problem, ProblemCode, ResetSpec, TrustUpdate, TrustUpdated};

use super::body::decode;
use super::connection::Standing;
use super::listener::Shared;
use super::operations::Call;
use super::reply::Reply;
use crate::audit::{Asked, Call as Record};
use crate::identity::Shown;
use crate::tls::Peer;

/// Whether an operation is one of these.
pub(super) fn is_of(operation: Operation) -> bool {
    use Operation as Op;
    matches!(
        operation,
        Op::HealthShow
            | Op::IdentityShow
            | Op::IdentityRequest
            | Op::IdentityInstall
            | Op::IdentitySeal
            | Op::IdentityClaim
            | Op::IdentityReset
            | Op::TrustShow
            | Op::TrustUpdate
    )
}

/// Whether those may ask it who have no certificate, where these are let in at all.
pub(super) fn is_for_strangers(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::IdentityShow | Operation::IdentityClaim
    )
}

/// Does what is asked.
pub(super) async fn perform(
    shared: &Shared,
    call: Call,
    (peer, standing): (&Peer, &Standing),
) -> Result<Reply, Problem> {
    use Operation as Op;
    let identity = shared.identity.clone();
    let (body, acting) = (&call.body, identity.clone());
    let caller = Arc::clone(&peer.chain);
    match call.operation {
        Op::HealthShow => {
            let due = identity.due();
            return Reply::ok(&shared.engine.health(due).await);
        }
        Op::TrustShow => return Reply::ok(&identity.trust()?),
        Op::TrustUpdate => return update_trust(shared, &call, peer).await,
        Op::IdentityRequest => {
            let spec = decode(body)?;
            return Reply::ok(&identity.request(spec, caller).await?);
        }
        Op::IdentityInstall => {
            let spec = decode(body)?;
            change(shared, &call, || async move {
                acting.install(spec, caller).await
            })
            .await?;
        }
        Op::IdentitySeal => {
            let spec = decode(body)?;
            // Before all others are waited for, and again when nobody can change it any more.
            shared.engine.check_unused().await?;
            let alone = Arc::clone(&shared.sealing).write_owned().await;
            shared.engine.check_unused().await?;
            let seal = || async move {
                let sealed = acting.seal(spec, caller).await;
                drop(alone);
                sealed
            };
            change(shared, &call, seal).await?;
        }
        Op::IdentityClaim => {
            let spec = decode(body)?;
            // Strangers must not have anything written for them.
            identity.claimable(&spec)?;
            let (audit, caller) = (shared.engine.audit().clone(), Arc::clone(&standing.caller));
            let (id, asked) = (call.context.id, Asked::claim());
            // Where it is done: it goes on when the stranger has left.
            let claim = move || async move {
                let record = Record::begin(&audit, &caller, id, asked).heard();
                let done = acting.claim(spec).await;
                let code = done.as_ref().err().map(|problem| problem.code);
                record
                    .end(code.map_or(200, ProblemCode::status), code)
                    .await;
                done
            };
            change(shared, &call, claim).await?;
        }
        Op::IdentityReset => return reset(shared, &call, caller).await,
        _ => {}
    }
    Reply::ok(&identity.show()?)
}

async fn change<F>(
    shared: &Shared,
    call: &Call,
    act: impl FnOnce() -> F + Send + 'static,
) -> Result<(), Problem>
where
    F: Future<Output = Result<(), Problem>> + Send,
{
    let (engine, context) = (&shared.engine, call.context.clone());
    engine.at_once(call.operation, context, act).await
}

/// Has the box forget its owner, and start again. From then on nothing of his is changed any more.
async fn reset(shared: &Shared, call: &Call, caller: Shown) -> Result<Reply, Problem> {
    let spec: ResetSpec = decode(&call.body)?;
    let (engine, identity) = (&shared.engine, shared.identity.clone());
    identity.resettable(&spec.secret)?;
    if !spec.abandon_pools {
        engine.check_poolless().await?;
    }
    let alone = Arc::clone(&shared.sealing).write_owned().await;
    if !spec.abandon_pools {
        engine.check_poolless().await?;
    }
    let act = move || async move {
        let reset = identity.reset(spec.secret, caller).await;
        drop(alone);
        reset
    };
    engine.reset(call.context.clone(), act).await?;
    Ok(Reply::gone())
}

async fn update_trust(shared: &Shared, call: &Call, peer: &Peer) -> Result<Reply, Problem> {
    let (identity, caller) = (shared.identity.clone(), Arc::clone(&peer.chain));
    let update: TrustUpdate = decode(&call.body)?;
    if update.dry_run {
        return Reply::ok(&identity.update_trust(update, caller).await?);
    }
    // Nobody is, when the same request did it before.
    let cut = Arc::new(OnceLock::new());
    let (acting, telling) = (identity.clone(), Arc::clone(&cut));
    let act = move || async move {
        let updated = acting.update_trust(update, caller).await?;
        telling.get_or_init(|| updated.cut);
        Ok(())
    };
    change(shared, call, act).await?;
    Reply::ok(&TrustUpdated {
        trust: identity.trust()?,
        cut: cut.get().cloned().unwrap_or_default(),
    })
}
