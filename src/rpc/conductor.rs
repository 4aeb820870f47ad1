//! Casts to the conductor (trove/conductor/api.py).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::envelope::{fresh_id, seal_text};
use super::keyring::KeyRing;
use super::publisher::Publisher;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::journal::{self, Letter};
use crate::model::{BackupUpdate, RequestContext};
use crate::system::files;

/// Casts to the conductor. A heartbeat returns when the broker has confirmed it; what tells of an operation's end is only written here, and
/// leaves with the answer, through the journal: the operation's lane does not wait for the broker.
#[derive(Debug)]
pub struct Conductor {
    settings: Arc<Settings>,
    publisher: Publisher,
    keys: Arc<KeyRing>,
    clock: SentClock,
    /// Each method has its own: the conductor compares within one.
    backup_clock: SentClock,
}

impl Conductor {
    /// Casts go to `conductor_queue` through `publisher`.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn new(settings: Arc<Settings>, publisher: Publisher, keys: Arc<KeyRing>) -> Result<Self> {
        let clock = SentClock::load(&settings, "last_sent")?;
        let backup_clock = SentClock::load(&settings, "last_sent_backup")?;
        Ok(Conductor { settings, publisher, keys, clock, backup_clock })
    }

    /// The connection casts leave over.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The next `sent` of a heartbeat.
    pub fn next_sent(&self) -> f64 {
        self.clock.next()
    }

    /// `heartbeat` with a status description. `sent` is of [`Self::next_sent`]; the conductor drops one that is not newer than the last it saw.
    ///
    /// # Errors
    /// The agent is ending.
    pub async fn heartbeat(&self, service_status: &str, sent: f64) -> Result<()> {
        let args = json!({
            "instance_id": self.settings.guest_id,
            "sent": sent,
            "payload": {"service_status": service_status},
        });
        let letter = self.cast("heartbeat", args, &Map::new())?;
        self.publisher.publish(&Arc::new(letter)).await.map(|_| ())
    }

    /// `report_root`: root can log in from outside. Kilo requires `user`; later conductors still accept it.
    ///
    /// # Errors
    /// Encryption failed.
    pub fn root_report(&self, context: &RequestContext) -> Result<Letter> {
        self.cast("report_root", json!({"instance_id": self.settings.guest_id, "user": "root"}), &context.raw.0)
    }

    /// `update_backup`: how far a backup is.
    ///
    /// # Errors
    /// Encryption failed.
    pub fn update_backup(&self, context: &RequestContext, update: &BackupUpdate) -> Result<Letter> {
        let state: &'static str = update.state.into();
        let mut args = Map::new();
        args.insert("instance_id".into(), json!(self.settings.guest_id));
        args.insert("backup_id".into(), json!(update.backup_id));
        args.insert("sent".into(), json!(self.backup_clock.next()));
        args.insert("state".into(), json!(state));
        // Columns of the controller's table; an absent one stays as it is.
        let texts =
            [("backup_type", &update.backup_type), ("checksum", &update.checksum), ("location", &update.location), ("note", &update.note)];
        args.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
        args.extend(update.size.map(|size| ("size".to_owned(), json!(size))));
        self.cast("update_backup", Value::Object(args), &context.raw.0)
    }

    /// Tells how an operation ended, if its request carried a notification to be answered by the guest.
    /// `payload` is merged into the notification.
    ///
    /// # Errors
    /// Encryption failed.
    pub fn notification(&self, context: &RequestContext, payload: Map<String, Value>, outcome: &Result<Value>) -> Result<Option<Letter>> {
        let Some(notification) = context.guest_notification() else { return Ok(None) };
        let mut notification = notification.clone();
        let (method, args) = match outcome {
            Ok(_) => {
                notification.extend(payload);
                ("notify_end", json!({"serialized_notification": notification, "notification_args": {}}))
            }
            Err(error) => {
                notification.insert("instance_id".into(), json!(self.settings.guest_id));
                let exception = [format!("{}: {error}\n", error.trove_class().class)];
                let args = json!({"serialized_notification": notification, "message": error.to_string(), "exception": exception});
                ("notify_exc_info", args)
            }
        };
        self.cast(method, args, &context.raw.0).map(Some)
    }

    fn cast(&self, method: &str, args: Value, context: &Map<String, Value>) -> Result<Letter> {
        let body = seal_text(&self.message(method, args, context)?);
        let (exchange, key) = (self.settings.control_exchange.clone(), self.settings.conductor_queue.clone());
        Ok(Letter { exchange, key, mandatory: false, body })
    }

    /// The inner message. With a key, each argument is a JSON string that names this instance, so that the conductor finds the
    /// key (trove/common/rpc/conductor_guest_serializer.py).
    fn message(&self, method: &str, args: Value, context: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut message = Map::new();
        message.insert("method".into(), json!(method));
        message.insert("version".into(), json!("1.0"));
        message.insert("_unique_id".into(), json!(fresh_id()));
        let Value::Object(args) = args else { return Err(Error::guest("casts have named arguments")) };
        let Some(key) = self.keys.current() else {
            message.insert("args".into(), Value::Object(args));
            message.extend(context.iter().map(|(name, value)| (format!("_context_{name}"), value.clone())));
            return Ok(message);
        };
        let guest = &self.settings.guest_id;
        let mut sealed = Map::new();
        for (name, value) in args {
            let entity = json!({"entity": key.encrypt(&value)?, "csz-instance-id": guest});
            sealed.insert(name, Value::String(entity.to_string()));
        }
        message.insert("args".into(), Value::Object(sealed));
        message.insert("_context_context".into(), Value::String(key.encrypt(&Value::Object(context.clone()))?));
        message.insert("_context_csz-instance-id".into(), json!(guest));
        Ok(message)
    }
}

/// `sent` of one method's casts: seconds since 1970, strictly increasing, also over restarts and clocks set back. The conductor drops what is not
/// newer than the last it saw (trove/conductor/manager.py: _message_too_old).
#[derive(Debug)]
struct SentClock {
    last: Mutex<f64>,
    file: camino::Utf8PathBuf,
}

/// A double has a resolution of 2.4e-7 s in this century.
const TICK: f64 = 1e-6;

impl SentClock {
    fn load(settings: &Settings, name: &str) -> Result<Self> {
        let file = settings.state_dir.join(name);
        let last = files::read_optional(&file)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        Ok(SentClock { last: Mutex::new(last), file })
    }

    fn next(&self) -> f64 {
        let mut last = self.last.lock().expect("never poisoned: no panics while held");
        *last = journal::now().max(*last + TICK);
        // Best effort: without the file only a clock set back over a restart is noticed by nobody.
        if let Err(error) = overwrite(&self.file, &format!("{:.6}\n", *last)) {
            tracing::debug!(%error, "failed to remember the time of the last cast");
        }
        *last
    }
}

/// In place, without cutting it off first: that needs no room, and a full disk leaves what was there. The text is never shorter than before.
fn overwrite(file: &camino::Utf8Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).open(file)?.write_all_at(text.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("last_sent")).unwrap();
        let future = journal::now() + 3600.0;
        let clock = SentClock { last: Mutex::new(future), file: file.clone() };
        let first = clock.next();
        let second = clock.next();
        assert!(first > future && second > first);
        assert!(std::fs::read_to_string(file).unwrap().trim().parse::<f64>().unwrap() >= future);
    }
}
