//! `transport_url` and `[oslo_messaging_rabbit]` to [`BrokerSettings`].

use secrecy::{ExposeSecret, SecretString};

use super::options::{DEFAULT, OPTIONS, RABBIT, WITHOUT_EFFECT};
use super::reader::Reader;
use super::settings::{BrokerHost, BrokerSettings, FailoverStrategy, LoginMethod, QuorumSettings, TlsSettings};
use super::transport_url::{TransportUrl, UrlHost, host_and_port};
use super::value::Value;

/// Default port of AMQP, with and without TLS (`host.port or 5672` in oslo_messaging/_drivers/impl_rabbit.py).
const AMQP_PORT: u16 = 5672;
/// What kombu puts in the place of a missing user and of a missing password.
const GUEST: &str = "guest";

pub(super) fn broker_settings(reader: &mut Reader<'_>) -> BrokerSettings {
    let url = transport_url(reader);
    let legacy_hosts = legacy_hosts(reader);
    let legacy_virtual_host = reader.text(RABBIT, "rabbit_virtual_host").unwrap_or_else(|| "/".to_owned());
    let hosts: Vec<BrokerHost> = url.hosts.into_iter().map(broker_host).collect();
    // An empty path and a lone slash both mean the virtual host "/"; without any path the option of old counts.
    let virtual_host = match url.virtual_host {
        Some(name) if name.is_empty() => "/".to_owned(),
        Some(name) => name,
        None => legacy_virtual_host,
    };
    let tls = tls_settings(reader);
    let quorum = reader.optional_flag(RABBIT, "rabbit_quorum_queue");
    let told_durable = reader.optional_flag(RABBIT, "amqp_durable_queues");
    BrokerSettings {
        hosts: if hosts.is_empty() { legacy_hosts } else { hosts },
        virtual_host,
        tls,
        login_method: reader.word(RABBIT, "rabbit_login_method").unwrap_or(LoginMethod::AmqPlain),
        heartbeat: reader.seconds(RABBIT, "heartbeat_timeout_threshold"),
        // Quorum queues are durable whatever `amqp_durable_queues` says.
        durable: if quorum == Some(true) { Some(true) } else { told_durable },
        auto_delete: reader.optional_flag(RABBIT, "amqp_auto_delete"),
        ha_queues: reader.flag(RABBIT, "rabbit_ha_queues"),
        quorum,
        quorum_limits: quorum_limits(reader),
        prefetch: reader.number(RABBIT, "rabbit_qos_prefetch_count"),
        cancel_on_failover: reader.flag(RABBIT, "enable_cancel_on_failover"),
        reconnect_delay: reader.seconds(RABBIT, "kombu_reconnect_delay"),
        reconnect_splay: reader.seconds(RABBIT, "kombu_reconnect_splay"),
        failover: reader.word(RABBIT, "kombu_failover_strategy").unwrap_or(FailoverStrategy::RoundRobin),
        retry_interval: reader.seconds(RABBIT, "rabbit_retry_interval"),
        retry_backoff: reader.seconds(RABBIT, "rabbit_retry_backoff"),
        interval_max: reader.seconds(RABBIT, "rabbit_interval_max"),
        missing_consumer_retry_timeout: reader.seconds(RABBIT, "kombu_missing_consumer_retry_timeout"),
    }
}

/// Reads the URL and lets its query override the group. After a mistake, a URL that says nothing.
fn transport_url(reader: &mut Reader<'_>) -> TransportUrl {
    let nothing = TransportUrl { scheme: "rabbit".into(), hosts: Vec::new(), virtual_host: None, query: Vec::new() };
    let outcome = reader.outcome(DEFAULT, "transport_url");
    let Value::Text(text) = outcome.value else { return nothing };
    let mut mistake = |message: &str| reader.mistake(outcome.origin.clone(), DEFAULT, "transport_url", message);
    let url = match TransportUrl::parse(text.expose_secret()) {
        Ok(url) => url,
        Err(reason) => {
            mistake(&format!("the URL (not shown, it may hold a password) is not valid: {reason}"));
            return nothing;
        }
    };
    match url.scheme.as_str() {
        "rabbit" | "kombu" => {}
        "amqp" | "amqps" => {
            mistake("in oslo.messaging 'amqp' is AMQP 1.0, which this agent does not speak; write rabbit:// (and ssl = true for TLS)")
        }
        _ => mistake("the agent speaks to RabbitMQ only; the URL must start with rabbit://"),
    }
    let accepted = |name: &str| {
        let of_group = OPTIONS.iter().filter(|spec| spec.group == RABBIT);
        of_group.clone().any(|spec| spec.name == name || spec.aliases.contains(&(RABBIT, name))) || WITHOUT_EFFECT.contains(&name)
    };
    for (index, (name, _)) in url.query.iter().enumerate() {
        if !accepted(name) {
            // Not quoted: after a raw '?' in a password this would be its rest.
            mistake(&format!(
                "option {} after its '?' is not one of [{RABBIT}]; take it out (a '?' in a password is written %3F)",
                index + 1
            ));
        }
    }
    reader.query.clone_from(&url.query);
    reader.query_origin = outcome.origin;
    url
}

fn broker_host(host: UrlHost) -> BrokerHost {
    let given = |text: &SecretString| !text.expose_secret().is_empty();
    BrokerHost {
        host: host.host.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned()),
        port: host.port.filter(|port| *port != 0).unwrap_or(AMQP_PORT),
        user: host.user.filter(|user| !user.is_empty()).unwrap_or_else(|| GUEST.to_owned()),
        password: host.password.filter(given).unwrap_or_else(|| SecretString::from(GUEST)),
    }
}

/// The brokers of `rabbit_hosts`, or of `rabbit_host` and `rabbit_port`, which it defaults to.
fn legacy_hosts(reader: &mut Reader<'_>) -> Vec<BrokerHost> {
    // Read for their own mistakes, and to be shown; `rabbit_hosts` refers to both.
    let _host = reader.outcome(RABBIT, "rabbit_host");
    let _port = reader.outcome(RABBIT, "rabbit_port");
    let user = reader.text(RABBIT, "rabbit_userid");
    let password = reader.secret(RABBIT, "rabbit_password");
    let outcome = reader.outcome(RABBIT, "rabbit_hosts");
    let Value::List(items) = outcome.value else { return Vec::new() };
    let mut hosts = Vec::new();
    for item in items.iter().filter(|item| !item.is_empty()) {
        match host_and_port(item) {
            Ok((host, port)) => hosts.push(broker_host(UrlHost { host, port, user: user.clone(), password: password.clone() })),
            Err(reason) => {
                let message = format!("{reason}; write host:port, and [address]:port for IPv6");
                reader.mistake(outcome.origin.clone(), RABBIT, "rabbit_hosts", &message);
            }
        }
    }
    hosts
}

fn tls_settings(reader: &mut Reader<'_>) -> Option<TlsSettings> {
    let wanted = reader.flag(RABBIT, "ssl");
    let settings = TlsSettings {
        ca_file: reader.path(RABBIT, "ssl_ca_file"),
        verify_hostname: reader.flag(RABBIT, "ssl_enforce_hostname_verification"),
        // "sslv23" is oslo's word for negotiating, and no word of the enum.
        version: reader.word(RABBIT, "ssl_version"),
        cert_file: reader.path(RABBIT, "ssl_cert_file"),
        key_file: reader.path(RABBIT, "ssl_key_file"),
    };
    wanted.then_some(settings)
}

fn quorum_limits(reader: &mut Reader<'_>) -> QuorumSettings {
    QuorumSettings {
        delivery_limit: reader.number(RABBIT, "rabbit_quorum_delivery_limit"),
        max_memory_length: reader.number(RABBIT, "rabbit_quorum_max_memory_length"),
        max_memory_bytes: reader.number(RABBIT, "rabbit_quorum_max_memory_bytes"),
    }
}
