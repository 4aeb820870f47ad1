//! All checks at once, told in their order.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};

use super::finding::{Finding, Verdict};
use super::patient::Patient;
use super::{broker, configuration, database, host, object_store, own, report};
use crate::config::Settings;
use crate::ctl::cli::{BrokerArgs, DoctorArgs};
use crate::ctl::guest::Guest;
use crate::ctl::{output, remote};
use crate::error::Result;
use crate::monitor;
use crate::status::StatusTracker;

pub(in crate::ctl) async fn run(args: &BrokerArgs, wanted: &DoctorArgs) -> Result<ExitCode> {
    let (settings, mut findings) = configuration::check(&remote::sources(args)?);
    let tell = |finding: &Finding| if wanted.json { Ok(()) } else { output::print(&report::lines(finding)) };
    findings.iter().try_for_each(tell)?;
    let guest_id = settings.as_ref().map(|settings| settings.guest_id.clone());
    if let Some(settings) = settings {
        let patient = patient(settings, wanted).await?;
        let limit = Duration::from_secs(wanted.timeout);
        let mut checks = checks(&patient, limit);
        while let Some(found) = checks.next().await {
            found.iter().try_for_each(tell)?;
            findings.extend(found);
        }
    }
    output::print(&if wanted.json { report::json(guest_id.as_deref(), &findings)? } else { report::verdict(&findings) })?;
    Ok(if report::worst(&findings) == Verdict::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn patient(settings: Settings, wanted: &DoctorArgs) -> Result<Patient> {
    let Guest { settings, commands, manager, op } = Guest::of(settings, wanted.token_file.as_deref())?;
    // That it does not answer is a finding.
    let agent = monitor::ask(&settings.state_dir).await.ok();
    let phase = StatusTracker::load(&settings.state_dir).ok().map(|status| status.phase());
    Ok(Patient { settings, manager, commands, op, swift_url: wanted.swift_url.clone(), phase, agent })
}

fn checks(patient: &Patient, limit: Duration) -> FuturesOrdered<BoxFuture<'_, Vec<Finding>>> {
    let all: [BoxFuture<'_, Vec<Finding>>; 9] = [
        async { own::agent(patient) }.boxed(),
        async { own::heartbeat(patient) }.boxed(),
        bounded("broker", limit, broker::check(patient)).boxed(),
        bounded("database", limit, database::check(patient)).boxed(),
        bounded("backup tool", limit, database::tool(patient)).boxed(),
        bounded("storage", limit, object_store::check(patient)).boxed(),
        async { host::volume(patient) }.boxed(),
        async { host::disks(patient) }.boxed(),
        async { own::journal(patient) }.boxed(),
    ];
    all.into_iter().collect()
}

/// A check that hangs is a finding, too.
async fn bounded(check: &'static str, limit: Duration, asking: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
        vec![Finding::failed(
            check,
            format!("no answer within {} s", limit.as_secs()),
            "see whether the network or the disk hangs; --timeout waits longer",
        )]
    })
}
