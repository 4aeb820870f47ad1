//! A connection to the broker on behalf of a person: where it is, and the key of the guest.

use std::sync::Arc;

use lapin::{Channel, Connection};

use super::cli::BrokerArgs;
use crate::config::{ConfigArgument, Settings, Sources};
use crate::error::{Error, Result, ResultExt};
use crate::rpc::{Broker, ConnectionPurpose, InstanceKey};
use crate::system::files;

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
        let connection = Broker::new(settings.clone(), Arc::default()).connect_once(ConnectionPurpose::Send).await?;
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

/// What the agent of this guest was told, or as much as a transport_url says.
pub(super) fn settings(args: &BrokerArgs) -> Result<Settings> {
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
        None => Settings::load(&sources(args)?).map_err(config),
    }
}

/// The files the agent of this guest reads.
pub(super) fn sources(args: &BrokerArgs) -> Result<Sources> {
    if !args.config_dir.is_dir() {
        return Err(Error::guest(format!(
            "there is no directory {}: say where the broker is, with --config-dir (the directory with trove-guestagent.conf) or --transport-url-file",
            args.config_dir
        )));
    }
    Ok(Sources::of_process(vec![ConfigArgument::Dir(args.config_dir.clone())]))
}

/// The text of a file that holds a secret.
pub(super) fn read_secret(path: &camino::Utf8Path) -> Result<String> {
    let text = files::read_optional(path).action("read a secret")?;
    text.map(|text| text.trim_end().to_owned()).ok_or_else(|| Error::guest(format!("there is no file {path}")))
}
