//! The instance's key while the agent runs: `instance_rpc_encr_key` may change in the files it came from.
//!
//! Trove makes the key with the instance and never changes it, but an operator can: in the controller's database, and in the
//! guest's `guest_info.conf`. There is no moment at which both change. So a new key of the files is in force at once, for what
//! the agent sends of its own accord, and the one before still opens requests until the first that the new one opens.

use std::sync::Mutex;

use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::crypto::InstanceKey;
use super::failure;
use crate::config::{FileStamp, Settings, Sources};
use crate::error::{Error, Result};

/// A request's arguments and context in the clear, and the key its answer is sealed with.
pub(super) type Clear = (Map<String, Value>, Map<String, Value>, Option<InstanceKey>);

/// The keys of this guest.
#[derive(Debug)]
pub struct KeyRing {
    sources: Sources,
    guest_id: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The one in force.
    current: Option<Configured>,
    /// The one before, until the controller has used the current one.
    before: Option<Configured>,
    /// Of the files as they were read last; empty when they were not.
    stamps: Vec<FileStamp>,
    /// Whether the files were of no use when they were read last.
    troubled: bool,
}

/// A key and the length of its text.
#[derive(Debug, Clone, PartialEq)]
struct Configured {
    key: InstanceKey,
    length: usize,
}

impl KeyRing {
    /// The key of `settings`, which came from `sources`.
    ///
    /// # Errors
    /// OpenSSL refuses to derive it.
    pub fn new(settings: &Settings, sources: Sources) -> Result<Self> {
        let state = State { current: configured(settings)?, before: None, stamps: Vec::new(), troubled: false };
        Ok(KeyRing { sources, guest_id: settings.guest_id.clone(), state: Mutex::new(state) })
    }

    /// The key in force, after a look at the files.
    pub fn current(&self) -> Option<InstanceKey> {
        let mut state = self.lock();
        self.look(&mut state);
        state.current.as_ref().map(|configured| configured.key.clone())
    }

    /// Decrypts a request: with the key in force, with the one the files have by now, with the one before.
    ///
    /// # Errors
    /// Those of [`InstanceKey::decrypt_request`] with the key in force.
    pub(super) fn open(&self, args: Map<String, Value>, context: Map<String, Value>) -> Result<Clear> {
        let mut state = self.lock();
        let Some(first) = state.current.clone() else { return Ok((args, context, None)) };
        let refused = match first.key.decrypt_request(&args, &context) {
            Ok((args, context)) => {
                state.before = None;
                return Ok((args, context, Some(first.key)));
            }
            Err(error) => error,
        };
        self.look(&mut state);
        let changed = state.current.clone().filter(|current| *current != first);
        for (candidate, is_current) in [(changed, true), (state.before.clone(), false)] {
            let Some(Configured { key, .. }) = candidate else { continue };
            if let Ok((args, context)) = key.decrypt_request(&args, &context) {
                if is_current {
                    state.before = None;
                }
                return Ok((args, context, Some(key)));
            }
        }
        Err(refused)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("never poisoned: no panics while held")
    }

    /// Takes the files' key over if they have changed. What cannot be used changes nothing, and is said once.
    fn look(&self, state: &mut State) {
        let stamps = self.sources.stamps();
        if stamps == state.stamps {
            return;
        }
        state.stamps = stamps;
        match self.read(state.current.as_ref()) {
            Ok(found) => {
                state.troubled = false;
                if found != state.current {
                    tracing::info!("instance_rpc_encr_key has changed; the new key is in force");
                    let before = std::mem::replace(&mut state.current, found);
                    // One that no request has used yet is not worth keeping for the one that was in use.
                    state.before = state.before.take().or(before).filter(|before| state.current.as_ref() != Some(before));
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.troubled, true) {
                    let error = failure::one_line(&error.to_string());
                    tracing::warn!(error, "the configuration has changed and cannot be used; the instance_rpc_encr_key in force stays");
                }
            }
        }
    }

    fn read(&self, in_force: Option<&Configured>) -> Result<Option<Configured>> {
        let settings = Settings::load(&self.sources).map_err(|errors| Error::guest(errors.to_string()))?;
        if settings.guest_id != self.guest_id {
            return Err(Error::guest("it names another guest_id; restart the agent if that is meant"));
        }
        let found = configured(&settings)?;
        // A file that is being written may end in the middle of the key, or before it.
        let length = found.as_ref().map_or(0, |found| found.length);
        if in_force.is_some_and(|in_force| length < in_force.length) {
            return Err(Error::guest(
                "instance_rpc_encr_key is missing or shorter than before; finish the file, or restart the agent if that is meant",
            ));
        }
        Ok(found)
    }
}

fn configured(settings: &Settings) -> Result<Option<Configured>> {
    let derive = |text: &secrecy::SecretString| InstanceKey::derive(text).map(|key| Configured { key, length: text.expose_secret().len() });
    settings.instance_rpc_encr_key.as_ref().map(derive).transpose()
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use serde_json::json;

    use super::*;
    use crate::config::ConfigArgument;

    const OLD: &str = "planted-key-planted-key-planted-1";
    const NEW: &str = "planted-key-planted-key-planted-2";

    struct Guest {
        _dir: tempfile::TempDir,
        file: Utf8PathBuf,
        ring: KeyRing,
    }

    fn guest(key: Option<&str>) -> Guest {
        let dir = tempfile::tempdir().unwrap();
        let file = Utf8PathBuf::from_path_buf(dir.path().join("guest_info.conf")).unwrap();
        write(&file, key);
        let arguments = vec![ConfigArgument::Dir(file.parent().unwrap().to_owned())];
        let sources = Sources { arguments, environment: Default::default(), home: None, default_dirs: Vec::new() };
        let ring = KeyRing::new(&Settings::load(&sources).unwrap(), sources).unwrap();
        Guest { _dir: dir, file, ring }
    }

    fn write(file: &Utf8PathBuf, key: Option<&str>) {
        let line = key.map(|key| format!("instance_rpc_encr_key={key}\n")).unwrap_or_default();
        std::fs::write(file, format!("[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\n{line}")).unwrap();
    }

    impl Guest {
        /// Whether a request under this key is understood, and answered under the same.
        fn opens(&self, text: &str) -> bool {
            let key = InstanceKey::derive(&text.into()).unwrap();
            let context = json!({"context": key.encrypt(&json!({"user": "u"})).unwrap()});
            let args = json!({"a": key.encrypt(&json!("planted")).unwrap()});
            let opened = self.ring.open(args.as_object().unwrap().clone(), context.as_object().unwrap().clone());
            opened.is_ok_and(|(args, _, answer)| args["a"] == "planted" && answer == Some(key))
        }

        fn in_force(&self, text: &str) -> bool {
            self.ring.current() == Some(InstanceKey::derive(&text.into()).unwrap())
        }
    }

    #[test]
    fn the_key_before_opens_requests_until_the_new_one_did() {
        let guest = guest(Some(OLD));
        assert!(guest.opens(OLD) && !guest.opens(NEW));
        write(&guest.file, Some(NEW));
        assert!(guest.in_force(NEW) && guest.opens(OLD));
        assert!(guest.opens(NEW) && !guest.opens(OLD) && !guest.opens("another"));
        // And back; this time a request is the first to notice.
        write(&guest.file, Some(OLD));
        assert!(guest.opens(OLD) && guest.in_force(OLD) && !guest.opens(NEW));
    }

    #[test]
    fn a_key_nobody_used_does_not_take_the_place_of_one_in_use() {
        let guest = guest(Some(OLD));
        write(&guest.file, Some("planted-key-planted-key-mistaken!"));
        assert!(!guest.in_force(OLD) && guest.opens(OLD));
        write(&guest.file, Some(NEW));
        assert!(guest.in_force(NEW) && guest.opens(OLD));
        write(&guest.file, Some(OLD));
        assert!(guest.in_force(OLD) && guest.opens(OLD) && !guest.opens(NEW));
    }

    #[test]
    fn a_file_that_cannot_be_used_changes_nothing() {
        let guest = guest(Some(OLD));
        let whole = std::fs::read_to_string(&guest.file).unwrap();
        for length in 0..whole.len() - 1 {
            std::fs::write(&guest.file, whole.get(..length).unwrap()).unwrap();
            assert!(guest.in_force(OLD) && guest.opens(OLD), "after {length} bytes");
        }
        std::fs::write(&guest.file, whole.replace("=g\n", "=h\n").replace(OLD, NEW)).unwrap();
        assert!(guest.in_force(OLD));
        std::fs::remove_file(&guest.file).unwrap();
        assert!(guest.in_force(OLD));
        write(&guest.file, Some(NEW));
        assert!(guest.in_force(NEW));
    }

    #[test]
    fn a_guest_can_be_given_a_key_and_nothing_shows_it() {
        let guest = guest(None);
        assert!(guest.ring.current().is_none());
        write(&guest.file, Some(OLD));
        assert!(guest.in_force(OLD) && guest.opens(OLD));
        let plain = guest.ring.open(Map::new(), Map::new()).unwrap_err().to_string();
        assert!(plain.contains("refuses plaintext"), "{plain}");
        assert!(!format!("{:?}", guest.ring).contains("planted"), "{:?}", guest.ring);
    }
}
