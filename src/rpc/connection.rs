//! Connections to the broker: which host, how to log in, and trying again until one answers.
//!
//! The agent supervises its own connections instead of using lapin's recovery: `transport_url` may name several
//! brokers, and a new connection must look at the queue again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::{socket, tls};
use crate::config::{BrokerHost, BrokerSettings, FailoverStrategy, LoginMethod, Settings};
use crate::error::{Error, Result, ResultExt};
use crate::monitor::Metrics;

/// How long one host may take for TCP, TLS and the AMQP handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest AMQP frame, in bytes; longer messages take several.
const FRAME_MAX: u32 = 16_384;

/// What a connection is for; shown in the broker's connection name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum ConnectionPurpose {
    /// Consumes the guest's queue.
    Listen,
    /// Publishes replies and casts.
    Send,
}

/// The brokers of the configuration.
#[derive(Debug)]
pub struct Broker {
    settings: Arc<Settings>,
    /// Index of the host to try next; shared, so that both connections move on together.
    next: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Broker {
    /// Nothing is connected yet. Connections are counted.
    pub fn new(settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        if settings.broker.tls.as_ref().is_some_and(|tls| tls.ca_file.is_none()) {
            tracing::warn!(
                "the message broker's certificate is not verified, so anybody between could pose as the broker: ssl is on without ssl_ca_file. \
                 Set ssl_ca_file to the authority that signed the certificate"
            );
        }
        Broker { settings, next: AtomicUsize::new(0), metrics }
    }

    /// The agent's configuration.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Connects to the first broker that answers, trying for ever with the intervals of the configuration. `None` when
    /// cancelled. An outage is logged once, and its end.
    pub async fn connect(&self, purpose: ConnectionPurpose, cancel: &CancellationToken) -> Option<Connection> {
        let broker = &self.settings.broker;
        let mut pause = broker.retry_interval;
        let mut failures = 0_u32;
        loop {
            for _ in 0..broker.hosts.len() {
                let attempt = tokio::select! {
                    // Cancel-safe: a half-made connection is dropped, which closes it.
                    attempt = self.connect_next(purpose) => attempt,
                    () = cancel.cancelled() => return None,
                };
                match attempt {
                    Ok(connection) => {
                        self.metrics.connection(purpose_name(purpose));
                        if failures > 0 {
                            tracing::info!(purpose = purpose_name(purpose), failures, "connected to the message broker again");
                        }
                        return Some(connection);
                    }
                    Err(error) if failures == 0 => {
                        tracing::warn!(purpose = purpose_name(purpose), %error, "failed to connect to the message broker; trying again");
                    }
                    Err(error) => tracing::debug!(purpose = purpose_name(purpose), %error, "failed to connect to the message broker"),
                }
                failures += 1;
            }
            tokio::select! {
                // Cancel-safe: a timer.
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return None,
            }
            // Not longer than a heartbeat is due: a broker that is back hears the next one in time.
            let longest = broker.interval_max.min(self.settings.report_interval).max(broker.retry_interval);
            pause = (pause + broker.retry_backoff).min(longest);
        }
    }

    /// Connects to the first broker that answers, asking each one once: for a person who waits.
    ///
    /// # Errors
    /// What the last broker that was asked said.
    pub async fn connect_once(&self, purpose: ConnectionPurpose) -> Result<Connection> {
        let mut last = self.connect_next(purpose).await;
        for _ in 1..self.settings.broker.hosts.len() {
            if last.is_ok() {
                break;
            }
            last = self.connect_next(purpose).await;
        }
        last
    }

    /// Whoever connects next tries another broker: this one lets us in but does not have what we need.
    pub(super) fn next_host(&self) {
        let index = self.next.load(Ordering::Relaxed);
        self.next.store(self.after(index), Ordering::Relaxed);
    }

    /// Which host comes after one that failed (`kombu_failover_strategy`).
    fn after(&self, index: usize) -> usize {
        let count = self.settings.broker.hosts.len();
        let step = match self.settings.broker.failover {
            FailoverStrategy::RoundRobin => 1,
            // Any other.
            FailoverStrategy::Shuffle => 1 + chance_below(count.saturating_sub(1)),
        };
        (index + step) % count
    }

    /// What oslo waits before it connects again (`kombu_reconnect_delay`, `kombu_reconnect_splay`).
    pub(super) async fn pause_before_reconnecting(&self, cancel: &CancellationToken) {
        let broker = &self.settings.broker;
        // To keep guests from coming back all at once.
        let pause = broker.reconnect_delay + broker.reconnect_splay.mul_f64(chance());
        tokio::select! {
            // Cancel-safe: a timer.
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => {}
        }
    }

    async fn connect_next(&self, purpose: ConnectionPurpose) -> Result<Connection> {
        let hosts = &self.settings.broker.hosts;
        let index = self.next.load(Ordering::Relaxed) % hosts.len();
        let host = &hosts[index];
        let place = format!("{}:{}", host.host, host.port);
        let result = match tokio::time::timeout(CONNECT_TIMEOUT, connect_to(&self.settings, host, purpose)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { action: "AMQP handshake".into(), after: CONNECT_TIMEOUT, detail: String::new() }),
        };
        if result.is_err() {
            // Only the first of two connections to notice moves on, so that they do not skip a host between them.
            self.next.compare_exchange(index, self.after(index), Ordering::Relaxed, Ordering::Relaxed).ok();
        }
        result.action(format!("connect to {place}"))
    }
}

/// From 0 to 1. Ids are random: no other source of chance is needed.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// Of the numbers below `end`; 0 when there is none.
fn chance_below(end: usize) -> usize {
    usize::try_from(uuid::Uuid::new_v4().as_fields().0).unwrap_or(0).checked_rem(end).unwrap_or(0)
}

fn purpose_name(purpose: ConnectionPurpose) -> &'static str {
    purpose.into()
}

async fn connect_to(settings: &Settings, host: &BrokerHost, purpose: ConnectionPurpose) -> Result<Connection> {
    let broker = &settings.broker;
    let uri = AMQPUri {
        // Of the TCP connection below; TLS comes on top.
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: host.user.clone(), password: host.password.expose_secret().to_owned() },
            host: host.host.clone(),
            port: host.port,
        },
        vhost: broker.virtual_host.clone(),
        query: AMQPQueryString {
            // lapin keeps two buffers of 32 frames a connection; with the default of 131072 bytes they alone take 8 MiB.
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(u16::try_from(broker.heartbeat.as_secs()).unwrap_or(u16::MAX)),
            auth_mechanism: Some(match broker.login_method {
                LoginMethod::AmqPlain => SASLMechanism::AMQPlain,
                LoginMethod::Plain => SASLMechanism::Plain,
                LoginMethod::External => SASLMechanism::External,
            }),
            ..Default::default()
        },
    };
    let name = format!("trove-guestagent:{}:{}:{}", std::process::id(), settings.guest_id, purpose_name(purpose));
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| Error::guest(format!("no runtime for AMQP: {error}")))?;
    let connector = broker.tls.as_ref().map(|tls| tls::Connector::new(tls, &host.host)).transpose()?;
    // Written where it is used: only there the compiler knows what the streams of this runtime are.
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                socket::expect_answers(plain.get_ref())?;
            }
            match &connector {
                Some(connector) => {
                    stream.into_openssl(connector.openssl(), &uri.authority.host).await.map_err(|error| connector.explain(error))
                }
                None => Ok(stream),
            }
        },
        properties,
    );
    match connecting.await {
        Ok(connection) => Ok(connection),
        Err(error) => Err(Error::guest(explained(error, broker, host).await)),
    }
}

async fn explained(error: lapin::Error, broker: &BrokerSettings, host: &BrokerHost) -> String {
    if let Some(refusal) = tls::refusal(&error) {
        return refusal;
    }
    if tls::is_sudden(&error) {
        let (settings, name, port) = (broker.tls.clone(), host.host.clone(), host.port);
        let diagnosis = tokio::task::spawn_blocking(move || tls::diagnose(settings.as_ref(), &name, port));
        if let Ok(Some(advice)) = diagnosis.await {
            return format!("{error}: {advice}");
        }
    }
    format!("{error}{}", hint(&error))
}

/// What an operator can do about the commonest refusals.
fn hint(error: &lapin::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("ACCESS_REFUSED") {
        " (check user, password and rabbit_login_method in transport_url)"
    } else if text.contains("NOT_ALLOWED") {
        " (check the virtual host in transport_url, and the user's permissions on it)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn broker(hosts: usize, strategy: &str) -> Broker {
        let hosts = (0..hosts).map(|number| format!("h{number}")).collect::<Vec<_>>().join(",");
        let text = format!(
            "[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ntransport_url = rabbit://{hosts}/\n\
             [oslo_messaging_rabbit]\nkombu_failover_strategy = {strategy}\n"
        );
        Broker::new(Arc::new(Settings::from_text("a.conf", &text).unwrap()), Arc::default())
    }

    #[test]
    fn the_next_broker_is_the_next_of_the_list_or_any_other() {
        let ring = broker(3, "round-robin");
        assert_eq!([0, 1, 2].map(|index| ring.after(index)), [1, 2, 0]);
        let shuffled = broker(4, "shuffle");
        // Chance leaves one out once in 10^25 runs.
        let seen: BTreeSet<usize> = (0..200).map(|_| shuffled.after(1)).collect();
        assert_eq!(seen, BTreeSet::from([0, 2, 3]));
        for strategy in ["round-robin", "shuffle"] {
            assert_eq!(broker(1, strategy).after(0), 0);
        }
    }
}
