//! Attaching: check, take the role, find the place, follow, and wait until it does. What fails leaves the server as it was.

use super::dialect::Target;
use super::host::Role;
use super::memory::Memory;
use super::server::Server;
use super::start::{self, Start};
use super::strategy::{MySqlReplication, Positioning, WAIT};
use super::tls;
use crate::error::{Error, Result, ResultExt};
use crate::model::{Overrides, ReplicaInfo, ReplicationUser};
use crate::op::Op;
use crate::wait::Wait;

/// See [`crate::strategies::replication::ReplicationStrategy::attach`].
pub(super) async fn run(strategy: &MySqlReplication, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
    let user = info.context.user.as_ref().ok_or_else(|| Error::bad_request("the source names no account to replicate with"))?;
    let mut server = strategy.server(op).await?;
    let start = start::find(strategy, op, &mut server, info).await?;
    let was_read_only = server.is_on(op, "read_only").await?;
    let was_replica = strategy.host.has_role(Role::Replica)?;
    server.close().await;
    let source = &info.context.source;
    tracing::info!(host = source.host, port = source.port, ?start, "attaching to a source");
    match follow(strategy, op, info, user, config, &start).await {
        Ok(()) => Ok(()),
        // The agent is ending: its next life goes on from here.
        Err(error) if op.cancel.is_cancelled() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "attaching failed: detaching again");
            // A replica that was attached again stays read-only: it is none to write to.
            if let Err(left) = undo(strategy, op, was_read_only || was_replica).await {
                tracing::error!(error = %left, "failed to detach after a failed attachment");
            }
            Err(error)
        }
    }
    .action(format!("attach to the source {}:{}", source.host, source.port))
}

async fn follow(
    strategy: &MySqlReplication,
    op: &Op,
    info: &ReplicaInfo,
    user: &ReplicationUser,
    config: Option<&Overrides>,
    start: &Start,
) -> Result<()> {
    let mut server = strategy.server(op).await?;
    stop(op, &mut server, *start != Start::Here).await?;
    server.close().await;
    strategy.take_role(op, Role::Replica, config).await.action("take the role of a replica")?;
    let mut server = strategy.server(op).await?;
    // After a restart it follows whom it followed before.
    stop(op, &mut server, false).await?;
    start::apply(op, &mut server, start).await?;
    let own = server.own(op).await?.map(|own| own.text());
    strategy.remember(&Memory { own_at_attach: own, ..strategy.memory()? })?;
    name_source(strategy, op, &mut server, info, user, start).await?;
    wait_until_running(op, &mut server).await?;
    server.close().await;
    strategy.remember(&Memory { handover: None, ..strategy.memory()? })
}

async fn name_source(
    strategy: &MySqlReplication,
    op: &Op,
    server: &mut Server<'_>,
    info: &ReplicaInfo,
    user: &ReplicationUser,
    start: &Start,
) -> Result<()> {
    // A server forgets its place when its source is named, even the same one.
    let place = match (strategy.positioning, start) {
        (Positioning::Binlog, Start::Here) => server.following(op).await?.and_then(|following| following.applied),
        _ => start::place(start).cloned(),
    };
    let trust = tls::trust(strategy.host.data_dir(), &info.context.source.host, info.tls.as_ref())?;
    let target = Target { source: &info.context.source, user, tls: trust.as_ref(), place: place.as_ref() };
    let sql = server.dialect.change_source(strategy.positioning, &target);
    server.run(op, "name the source", &sql).await?;
    let begin = server.dialect.start();
    server.run(op, "start replication", &begin).await
}

async fn wait_until_running(op: &Op, server: &mut Server<'_>) -> Result<()> {
    let mut wait = Wait::new(op, "wait for replication to run", WAIT);
    while let Some(missing) = running(op, server).await? {
        wait.next(op, missing).await?;
    }
    Ok(())
}

/// What keeps replication from running, if it may go away.
async fn running(op: &Op, server: &mut Server<'_>) -> Result<Option<String>> {
    let Some(following) = server.following(op).await? else {
        return Err(Error::guest("the server has forgotten its source while it was attached"));
    };
    if let Some(reason) = following.broken() {
        // The source has no such log, or no such transaction, any more or at all.
        let advice = if reason.contains("(error 1236)") { ". Make the replica anew from a backup of the source" } else { "" };
        return Err(Error::guest(format!("replication does not run: {reason}{advice}")));
    }
    if following.receiving && following.applying {
        return Ok(None);
    }
    if let Some((trouble, advice)) = following.trouble.as_deref().and_then(|trouble| Some((trouble, lasting(trouble)?))) {
        return Err(Error::guest(format!("replication does not run: {trouble}. {advice}")));
    }
    Ok(Some(following.trouble.unwrap_or_else(|| "the source has not answered yet".to_owned())))
}

/// What to do about trouble that does not go away, however often the replica tries.
fn lasting(trouble: &str) -> Option<&'static str> {
    if trouble.ends_with("(error 1045)") {
        return Some("The source does not know this account or password: ask it again (get_replica_context)");
    }
    // CR_SSL_CONNECTION_ERROR: but for a connection that broke in the middle of the handshake (a source that is restarting).
    let broke = ["eof", "EOF", "yscall", "reset", "Lost connection", "imeout", "imed out"];
    let tls = trouble.ends_with("(error 2026)") && !broke.iter().any(|word| trouble.contains(word));
    tls.then_some("The certificate of the source is not of the authority it told, or its server has no TLS: check its ssl_cert and ssl_ca")
}

/// Stops following, and forgets whom, if it has a source.
async fn stop(op: &Op, server: &mut Server<'_>, forget: bool) -> Result<()> {
    if server.following(op).await?.is_none() {
        return Ok(());
    }
    let sql = server.dialect.stop();
    server.run(op, "stop replication", &sql).await?;
    if forget {
        let sql = server.dialect.forget_source();
        server.run(op, "forget the source", &sql).await?;
    }
    Ok(())
}

/// A clean, detached server.
async fn undo(strategy: &MySqlReplication, op: &Op, read_only: bool) -> Result<()> {
    strategy.host.drop_role(Role::Replica)?;
    let mut server = strategy.server(op).await?;
    stop(op, &mut server, true).await?;
    let sql = server.dialect.set_read_only(read_only);
    server.run(op, "restore who may write", &sql).await?;
    server.close().await;
    strategy.remember(&Memory { own_at_attach: None, ..strategy.memory()? })
}
