//! `ssl_show`, `ssl_action` and `ssl_rollback`, whatever the datastore (trove/guestagent/datastore/ssl.py).

use serde_json::{Value, json};

use super::details::Details;
use super::material::{Container, Material};
use super::server::ClientTls;
use super::store::{Offer, Record, State};
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// Arguments of `ssl_action`.
#[derive(Debug)]
pub struct Action<'a> {
    /// `basic`, `enforced` or `mtls`. Controllers send one with a switching off, too.
    pub mode: Option<&'a str>,
    /// Key and certificates.
    pub container: Option<&'a Container>,
    /// Switch on, or change.
    pub enable: bool,
    /// Switch off.
    pub disable: bool,
}

/// `ssl_show`.
///
/// # Errors
/// The server does not answer.
pub async fn show(op: &Op, tls: &dyn ClientTls) -> Result<Value> {
    let Some(certificate) = tls.presented(op).await? else { return Ok(json!({"status": "off"})) };
    let mode = standing(op, tls).await?.current.mode;
    Ok(json!({"status": "on", "mode": mode, "certificate": Details::of(certificate)?}))
}

/// `ssl_action`. What is wrong with its arguments is found before anything changes; what fails later is taken back.
///
/// # Errors
/// The container does not hold together, or the server refuses it.
pub async fn action(op: &Op, tls: &dyn ClientTls, action: &Action<'_>) -> Result<Value> {
    let wanted = match (action.enable, action.disable) {
        (true, true) => return Err(Error::bad_request("Cannot enable and disable ssl")),
        (false, false) => return Ok(json!({})),
        (true, false) => {
            let mode = mode_of(action.mode)?;
            let container =
                action.container.ok_or_else(|| Error::bad_request("ssl_action enables TLS without a container of certificates"))?;
            let material = Material::check(container, mode)?;
            let record = started(op, tls).await?;
            let offer = Offer::Files(tls.store().add(op, &material).await?);
            (record, State { offer, mode: Some(mode), on: true })
        }
        (false, true) => {
            tls.check(op, &Offer::Off).await?;
            (started(op, tls).await?, State { offer: Offer::Off, mode: None, on: false })
        }
    };
    let (record, wanted) = wanted;
    let restart_required = change(op, tls, &record.current, &wanted).await?;
    // The same call again: the way back leads to what was before the first.
    let previous = if record.current == wanted { record.previous } else { Some(record.current) };
    tls.store().write(op, &Record { current: wanted, previous, rolled_back: false }).await?;
    Ok(json!({"restart_required": restart_required}))
}

/// `ssl_rollback`: TLS as it was before the last `ssl_action`. Made again, it finds that done.
///
/// # Errors
/// There was none, or the server refuses.
pub async fn rollback(op: &Op, tls: &dyn ClientTls) -> Result<Value> {
    let record = tls.store().read()?;
    let record = record.filter(|record| record.previous.is_some() || record.rolled_back);
    let record = record.ok_or_else(|| Error::bad_request("TLS of this instance was not changed: there is nothing to go back to"))?;
    let wanted = record.previous.clone().unwrap_or_else(|| record.current.clone());
    let restart_required = change(op, tls, &record.current, &wanted).await?;
    let answer = json!({"status": if wanted.on { "on" } else { "off" }, "restart_required": restart_required, "mode": wanted.mode});
    tls.store().write(op, &Record { current: wanted, previous: None, rolled_back: true }).await?;
    Ok(answer)
}

/// After a change that the agent's end cut short, and that nobody waits for any more: all is as its record says.
///
/// # Errors
/// The server refuses.
pub async fn settle(op: &Op, tls: &dyn ClientTls) -> Result<()> {
    let Some(record) = tls.store().read()? else { return Ok(()) };
    carry_out(op, tls, &record.current).await?;
    tls.store().write(op, &record).await
}

fn mode_of(word: Option<&str>) -> Result<TlsMode> {
    let mode = word.and_then(|word| word.parse().ok());
    mode.ok_or_else(|| Error::bad_request("Unknown SSL mode. Available options are: basic, enforced, mtls"))
}

/// What is recorded, or what is found where nobody has changed anything.
async fn standing(op: &Op, tls: &dyn ClientTls) -> Result<Record> {
    if let Some(record) = tls.store().read()? {
        return Ok(record);
    }
    let offer = Offer::Own(tls.own_settings(op).await?);
    let current = State { offer, mode: tls.configured_mode(), on: tls.presented(op).await?.is_some() };
    Ok(Record { current, previous: None, rolled_back: false })
}

/// [`standing`], on disk: whatever happens next, the way back is known.
async fn started(op: &Op, tls: &dyn ClientTls) -> Result<Record> {
    if let Some(record) = tls.store().read()? {
        return Ok(record);
    }
    let record = standing(op, tls).await?;
    tls.store().write(op, &record).await?;
    Ok(record)
}

/// All of `wanted`, or all of `before`.
async fn change(op: &Op, tls: &dyn ClientTls, before: &State, wanted: &State) -> Result<bool> {
    match carry_out(op, tls, wanted).await {
        // The agent ends: its next life finds the operation in the journal.
        Err(error) if !op.cancel.is_cancelled() => {
            carry_out(op, tls, before).await.action(format!("go back to the TLS of before, after this: {error}"))?;
            Err(error)
        }
        other => other,
    }
}

async fn carry_out(op: &Op, tls: &dyn ClientTls, state: &State) -> Result<bool> {
    if let Offer::Files(number) = state.offer {
        tls.store().point_at(number)?;
        let restart_required = tls.offer(op, &state.offer, state.mode).await?;
        tls.hold_accounts_to(op, state.mode).await?;
        return Ok(restart_required);
    }
    // Nobody is locked out in between.
    tls.hold_accounts_to(op, state.mode).await?;
    tls.offer(op, &state.offer, state.mode).await
}
