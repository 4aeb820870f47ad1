//! Attaching: look where both are, bring the data in line when they are not, follow, and wait until the source sends.

use serde_json::{Value, json};

use super::conninfo::Conninfo;
use super::detach::drop_slot;
use super::host::{Host, Role, RoleOptions};
use super::memory::Memory;
use super::place::{History, Place};
use super::slots;
use super::source::Remote;
use super::strategy::{PostgreSqlReplication, WAIT};
use super::tls;
use crate::error::{Error, Result, ResultExt};
use crate::model::{Overrides, ReplicaInfo, ReplicationUser};
use crate::op::Op;
use crate::strategies::replication::Trust;
use crate::system::files;
use crate::system::postgresql::SqlText;
use crate::wait::Wait;

/// How the data of a replica come to be those of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They are, but for what it gets now.
    Follow,
    /// What it has done by itself is undone.
    Rewind,
    /// They are copied.
    Copy,
}

/// See [`crate::strategies::replication::ReplicationStrategy::attach`].
pub(super) async fn run(strategy: &PostgreSqlReplication, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
    let source = &info.context.source;
    let attached = async {
        strategy.require_version(op).await?;
        let user = info.context.user.as_ref().ok_or_else(|| Error::bad_request("the source names no account to replicate with"))?;
        let remote = Remote::new(source, user, info.tls.as_ref())?;
        // Nothing has changed yet.
        drop(remote.session(op).await?);
        let before = strategy.memory()?;
        let way = find(strategy, op, info, &remote).await?;
        tracing::info!(host = source.host, port = source.port, ?way, "attaching to a source");
        match follow(strategy, op, info, user, config, &remote, way).await {
            Ok(()) => Ok(()),
            // The agent is ending: its next life goes on from here.
            Err(error) if op.cancel.is_cancelled() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "attaching failed: detaching again");
                if let Err(left) = undo(strategy, op, &remote, before).await {
                    tracing::error!(error = %left, "failed to detach after a failed attachment");
                }
                Err(error)
            }
        }
    };
    attached.await.action(format!("attach to the source {}:{}", source.host, source.port))
}

/// Which way it goes.
///
/// # Errors
/// The data are not for the agent to replace.
async fn find(strategy: &PostgreSqlReplication, op: &Op, info: &ReplicaInfo, remote: &Remote) -> Result<Way> {
    let host = &*strategy.host;
    if host.is_half_done() {
        return Ok(Way::Copy);
    }
    if strategy.memory()?.rebuilding {
        // An attempt that was cut off: what it was about was looked at then.
        return Ok(Way::Rewind);
    }
    host.ensure_running(op).await?;
    let session = strategy.session(op).await?;
    let here = Place::read(op, &session).await?;
    // After the other: it may be at work.
    let (there, history) = remote.place(op).await?;
    let is_new = info.dataset.is_some();
    if here.system != there.system {
        // Made by `prepare` a moment ago: there is nothing in it.
        return if is_new { Ok(Way::Copy) } else { Err(not_a_copy()) };
    }
    let ours = History::read(op, &session, here.timeline).await?;
    let leaves = history.leaves(here.timeline, there.at).filter(|_| history.agrees(&ours));
    if here.is_standby && leaves.is_some_and(|leaves| here.at <= leaves) {
        // What it has not applied yet must still be there.
        return Ok(if remote.keeps(op, &here, &there).await? { Way::Follow } else { Way::Copy });
    }
    if let Some(leaves) = leaves.filter(|_| here.timeline != there.timeline && !is_new) {
        tracing::warn!(from = %leaves, to = %here.at, "what this instance has done since its source was replaced is undone: nobody else has it");
        return Ok(Way::Rewind);
    }
    // pg_rewind takes servers of one timeline for the same.
    tracing::warn!(at = %here.at, source = %there.at, "this instance has gone its own way: its data are replaced by a copy of the source's");
    Ok(Way::Copy)
}

fn not_a_copy() -> Error {
    Error::guest(
        "this instance is no copy of its new source, and has data of its own: it is not overwritten. Save what is needed, and make a replica anew",
    )
}

async fn follow(
    strategy: &PostgreSqlReplication,
    op: &Op,
    info: &ReplicaInfo,
    user: &ReplicationUser,
    config: Option<&Overrides>,
    remote: &Remote,
    way: Way,
) -> Result<()> {
    let (host, source) = (&*strategy.host, &info.context.source);
    let slot = slots::name(host.guest_id());
    slots::ensure(op, &remote.session(op).await?, &slot).await.action("reserve the log at the source")?;
    let passfile = host.keep_password(op, &user.name, &user.password).await?;
    let trust = keep_authority(host, op, info).await?;
    let (name, user_name) = (host.guest_id().to_owned(), user.name.clone());
    let conninfo = Conninfo { host: source.host.clone(), port: source.port, user: user_name, passfile, name, trust };
    let memory = Memory {
        password: Some(user.password.clone()),
        source: Some((source.host.clone(), source.port)),
        tls: info.tls.clone(),
        rebuilding: way != Way::Follow,
    };
    strategy.remember(&memory)?;
    take_role(host, op, config, &conninfo, remote.limits(op).await?).await.action("take the role of a replica")?;
    if way == Way::Follow {
        host.settle(op, Role::Replica).await?;
    } else {
        bring_in_line(host, op, info, &conninfo, way).await?;
    }
    host.ensure_running(op).await?;
    strategy.remember(&Memory { rebuilding: false, ..memory })?;
    wait_until_streaming(strategy, op, &conninfo).await?;
    host.keep_role(Role::Replica)?;
    // Of those who followed this instance when it was a source.
    slots::drop_idle(op, &strategy.session(op).await?, true).await
}

/// The source's authority, where the server's programs find it; nothing, for one that has told of no TLS.
async fn keep_authority(host: &dyn Host, op: &Op, info: &ReplicaInfo) -> Result<Option<Trust>> {
    let file = host.authority_file();
    match &info.tls {
        None => files::remove(&file).map(|()| None),
        Some(tls) => tls::trust(&file, &info.context.source.host, tls, host.version(op).await?).map(Some),
    }
}

async fn take_role(host: &dyn Host, op: &Op, config: Option<&Overrides>, conninfo: &Conninfo, limits: Vec<(String, u64)>) -> Result<()> {
    let required: [(&str, Value); 5] = [
        ("primary_conninfo", json!(conninfo.to_string())),
        ("primary_slot_name", json!(slots::name(host.guest_id()))),
        ("recovery_target_timeline", json!("latest")),
        // Its own archive has its own log.
        ("restore_command", json!("")),
        ("hot_standby", json!(true)),
    ];
    // A source that was restarted is there again at once.
    let otherwise = [("wal_retrieve_retry_interval", json!("1s"))];
    host.take_role(op, Role::Replica, RoleOptions { wanted: config, required: &required, otherwise: &otherwise, at_least: &limits }).await
}

/// Leaves the server stopped, as one that will follow when it is started.
async fn bring_in_line(host: &dyn Host, op: &Op, info: &ReplicaInfo, source: &Conninfo, way: Way) -> Result<()> {
    let administrator = PostgreSqlReplication::administrator(info)?;
    host.stop(op).await?;
    if way == Way::Copy || !host.rewind(op, source).await? {
        host.copy(op, source, &slots::name(host.guest_id())).await?;
    }
    host.make_standby(op).await?;
    host.set_administrator(&administrator)
}

async fn wait_until_streaming(strategy: &PostgreSqlReplication, op: &Op, conninfo: &Conninfo) -> Result<()> {
    let mut wait = Wait::new(op, "wait until the source sends its log", WAIT);
    loop {
        let sql = SqlText::new("SELECT status FROM pg_stat_wal_receiver WHERE sender_host = ")
            .literal(&conninfo.host)
            .raw(" AND sender_port = ")
            .number(conninfo.port);
        let status = strategy.session(op).await?.texts(op, "look whether the replica receives", &sql).await?;
        if status.first().is_some_and(|status| status == "streaming") {
            return Ok(());
        }
        if let Err(error) = wait.next(op, "the source is not reached, or sends nothing".to_owned()).await {
            let tail = strategy.host.log_tail(op).await;
            return Err(if op.cancel.is_cancelled() { error } else { Error::guest(format!("{error}{tail}")) });
        }
    }
}

/// A detached server: what it was, when its data are what they were; else one that nobody can write to, until it is attached again.
async fn undo(strategy: &PostgreSqlReplication, op: &Op, remote: &Remote, before: Memory) -> Result<()> {
    let host = &*strategy.host;
    host.follow_nobody(op).await?;
    if !host.is_standby() {
        host.drop_role(op, Role::Replica).await?;
    }
    if host.is_half_done() {
        return Err(Error::guest("the data of this instance are half rewound, and its server is not started: attach it again"));
    }
    // Its data, and with them the account, are its own still, or its source's already.
    let memory = if host.is_standby() { strategy.memory()? } else { before };
    strategy.remember(&Memory { rebuilding: false, ..memory })?;
    host.ensure_running(op).await?;
    drop_slot(op, remote, &slots::name(host.guest_id())).await.or_else(|error| {
        tracing::warn!(%error, "the source keeps the slot of an instance that does not follow it: what it keeps for it is bounded");
        Ok(())
    })
}
