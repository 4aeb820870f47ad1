//! A connection to the broker on behalf of a person: where it is, and the key of the guest.

use std::sync::Arc;
use std::time::Duration;

use lapin::{Channel, Connection};
use tokio_util::sync::CancellationToken;

use super::cli::BrokerArgs;
use crate::config::{ConfigArgument, Settings, Sources};
use crate::error::{Error, Result, ResultExt};
use crate::rpc::{Broker, ConnectionPurpose, InstanceKey};
use crate::system::files;

/// How long the broker may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The broker, and what is needed to talk to a guest through it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) settings: Arc<Settings>,
    pub(super) key: Option<InstanceKey>,
    connection: Connection,
}

impl Remote {
    pub(super) async fn connect(args: &BrokerArgs) -> Result<Self> {
        let settings = Arc::new(settings(args)?);
        let key = match &args.key_file {
            Some(path) => Some(read_secret(path)?.into()),
            None => settings.instance_rpc_encr_key.clone(),
        };
        let key = key.as_ref().map(InstanceKey::derive).transpose()?;
        let broker = Broker::new(settings.clone());
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, broker.connect(ConnectionPurpose::Send, &CancellationToken::new())).await;
        let connection = connection.ok().flatten().ok_or_else(|| {
            let hosts: Vec<String> = settings.broker.hosts.iter().map(|host| format!("{}:{}", host.host, host.port)).collect();
            Error::guest(format!("no broker answers at {}; see the warning above for why", hosts.join(", ")))
        })?;
        Ok(Remote { settings, key, connection })
    }

    pub(super) async fn channel(&self) -> Result<Channel> {
        self.connection.create_channel().await.map_err(broker_error)
    }
}

/// What the broker or the connection said.
pub(super) fn broker_error(error: lapin::Error) -> Error {
    Error::guest(format!("the message broker says: {error}"))
}

fn settings(args: &BrokerArgs) -> Result<Settings> {
    let config = |error: crate::config::ConfigErrors| Error::guest(error.to_string());
    match &args.transport_url_file {
        Some(path) => {
            let url = read_secret(path)?;
            // A guest id and a manager are required of every configuration; neither is used here.
            let text = format!(
                "[DEFAULT]\nguest_id = -\ndatastore_manager = mysql\ntransport_url = {}\ncontrol_exchange = {}\n",
                url.trim().replace('$', "$$"),
                args.exchange
            );
            Settings::from_text(path.as_str(), &text).map_err(config)
        }
        None => Settings::load(&Sources::of_process(vec![ConfigArgument::Dir(args.config_dir.clone())])).map_err(config),
    }
}

fn read_secret(path: &camino::Utf8Path) -> Result<String> {
    let text = files::read_optional(path).action("read a secret")?;
    text.map(|text| text.trim_end().to_owned()).ok_or_else(|| Error::guest(format!("there is no file {path}")))
}
