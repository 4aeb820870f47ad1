//! The message broker, the guest's queue on it, and the conductor at the other end.

use std::sync::Arc;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, Queue};

use super::finding::Finding;
use super::patient::Patient;
use crate::config::{BrokerHost, Settings};
use crate::rpc::{Broker, ConnectionPurpose, queue_name};

const BROKER: &str = "broker";
const QUEUE: &str = "queue";
const CONDUCTOR: &str = "conductor";

/// Of requests that wait, or of casts that the conductor has not taken: more is a sign.
const BACKLOG: u32 = 1000;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let (mut findings, mut connection) = (Vec::new(), None);
    for host in &patient.settings.broker.hosts {
        match connect(&patient.settings, host).await {
            Ok(open) => {
                findings.push(Finding::ok(BROKER, place(&patient.settings, host)));
                connection.get_or_insert(open);
            }
            Err(reason) => {
                findings.push(Finding::failed(BROKER, reason, "correct transport_url or [oslo_messaging_rabbit], or start the broker"))
            }
        }
    }
    let Some(connection) = connection else {
        findings.push(Finding::skipped(QUEUE, "no broker lets this guest in"));
        findings.push(Finding::skipped(CONDUCTOR, "no broker lets this guest in"));
        return findings;
    };
    for finding in &mut findings {
        // The others do.
        if finding.verdict == super::finding::Verdict::Failed {
            finding.verdict = super::finding::Verdict::Warning;
        }
    }
    findings.push(queue(patient, &connection).await);
    findings.push(conductor(patient, &connection).await);
    // It ends with this process anyway.
    connection.close(200, "OK".into()).await.ok();
    findings
}

async fn connect(settings: &Settings, host: &BrokerHost) -> Result<Connection, String> {
    let mut alone = settings.clone();
    alone.broker.hosts = vec![host.clone()];
    Broker::new(Arc::new(alone), Arc::default()).connect_once(ConnectionPurpose::Send).await.map_err(|error| error.to_string())
}

fn place(settings: &Settings, host: &BrokerHost) -> String {
    let how = match &settings.broker.tls {
        Some(tls) if tls.ca_file.is_some() => "with TLS",
        Some(_) => "with TLS that anybody could offer (no ssl_ca_file)",
        None => "without TLS",
    };
    format!("{}:{} takes {} at virtual host '{}', {how}", host.host, host.port, host.user, settings.broker.virtual_host)
}

/// Looks for a queue, and changes nothing.
async fn find(connection: &Connection, name: &str) -> Result<Queue, lapin::Error> {
    let channel = connection.create_channel().await?;
    let queue =
        channel.queue_declare(name.into(), QueueDeclareOptions { passive: true, ..Default::default() }, FieldTable::default()).await?;
    channel.close(200, "OK".into()).await?;
    Ok(queue)
}

async fn queue(patient: &Patient, connection: &Connection) -> Finding {
    let name = queue_name(&patient.settings);
    match find(connection, &name).await {
        Err(error) => Finding::failed(QUEUE, format!("{name}: {error}"), "the agent makes it when it starts: look at the agent's log"),
        Ok(queue) => match (queue.consumer_count(), queue.message_count()) {
            (0, waiting) => {
                Finding::failed(QUEUE, format!("nobody consumes {name}; {waiting} requests wait"), "start the agent, or look at its log")
            }
            (1, waiting) if waiting > BACKLOG => {
                Finding::warning(QUEUE, format!("{waiting} requests wait in {name}"), "trove-guestctl status shows what the agent is doing")
            }
            (1, waiting) => Finding::ok(QUEUE, format!("{name} is consumed; {waiting} requests wait")),
            (consumers, _) => Finding::failed(
                QUEUE,
                format!("{consumers} agents consume {name}: each request reaches one of them"),
                "another guest has the same guest_id, or another agent runs on this one: stop it",
            ),
        },
    }
}

async fn conductor(patient: &Patient, connection: &Connection) -> Finding {
    let name = &patient.settings.conductor_queue;
    let advice = "start trove-conductor, or correct conductor_queue and control_exchange";
    match find(connection, name).await {
        Err(error) => Finding::failed(CONDUCTOR, format!("{name}: {error}"), advice),
        Ok(queue) => match (queue.consumer_count(), queue.message_count()) {
            (0, waiting) => Finding::failed(CONDUCTOR, format!("nobody consumes {name}; {waiting} messages wait"), advice),
            (consumers, waiting) if waiting > BACKLOG => Finding::warning(
                CONDUCTOR,
                format!("{waiting} messages wait in {name}, {consumers} conductors consume it"),
                "the conductors do not keep up, or hang: look at their logs",
            ),
            (consumers, _) => Finding::ok(CONDUCTOR, format!("{name} is consumed by {consumers}")),
        },
    }
}
