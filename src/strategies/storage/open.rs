//! [`storage_for`] and [`object_store_for`]: the storage a request means.

use std::sync::Arc;

use super::local::LocalStorage;
use super::{ObjectStore, Storage, swift};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::model::Release;
use crate::op::Op;

/// What a request says about storage.
#[derive(Debug, Clone, Default)]
pub struct StorageRequest {
    /// `swift_url`: the user's account (2026.1).
    pub swift_url: Option<String>,
    /// `storage_driver` (2026.1).
    pub storage_driver: Option<String>,
    /// The controller's release, where it is known: Kilo can only delete what has a dynamic manifest.
    pub release: Option<Release>,
}

/// The storage of one request: `op` has its context. `storage_strategy = local` of this guest counts whatever the controller says, since no
/// controller knows it.
///
/// # Errors
/// A kind of storage that is none of a guest's; nothing says where the storage is or who may use it; Keystone refused.
pub async fn storage_for(op: &Op, settings: &Settings, request: &StorageRequest) -> Result<Arc<dyn Storage>> {
    let configured = settings.backup.storage_strategy.as_str();
    let named = match is_local(settings) {
        true => configured,
        false => request.storage_driver.as_deref().filter(|name| !name.is_empty()).unwrap_or(configured),
    };
    match Kind::of(named) {
        Some(Kind::Swift) => Ok(Arc::new(swift::open(op, &settings.storage, request).await?)),
        Some(Kind::Local) => Ok(Arc::new(local(settings)?)),
        Some(Kind::Cinder) => Err(Error::bad_request(
            "backups by snapshots of the volume (cinder) are the controller's: the guest does not make or restore them, it only prepares for them",
        )),
        None => Err(Error::bad_request(format!("there is no storage '{}': it is swift or local", named.escape_debug()))),
    }
}

/// Whether this guest's backups go to a folder of its own, for which nobody has to let it in.
pub fn is_local(settings: &Settings) -> bool {
    Kind::of(&settings.backup.storage_strategy) == Some(Kind::Local)
}

/// Where this request's logs go: the user's account of Swift wherever backups go, but for a guest whose `storage_strategy` is `local`.
///
/// # Errors
/// Nothing says where the storage is or who may use it; Keystone refused.
pub async fn object_store_for(op: &Op, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    match Kind::of(&settings.backup.storage_strategy) {
        Some(Kind::Local) => Ok(Arc::new(local(settings)?)),
        Some(Kind::Swift | Kind::Cinder) | None => Ok(Arc::new(swift::open(op, &settings.storage, &StorageRequest::default()).await?)),
    }
}

fn local(settings: &Settings) -> Result<LocalStorage> {
    let unset = || Error::guest("storage_strategy is 'local', and no folder is given: set backup_local_dir");
    settings.storage.local_dir.clone().map(LocalStorage::new).ok_or_else(unset)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Swift,
    Local,
    Cinder,
}

impl Kind {
    /// Names of every release: `swift`, `SwiftStorage`, `trove.guestagent.strategies.storage.swift.SwiftStorage`.
    fn of(name: &str) -> Option<Kind> {
        let name = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        match name.strip_suffix("storage").unwrap_or(&name) {
            "swift" => Some(Kind::Swift),
            "local" => Some(Kind::Local),
            "cinder" => Some(Kind::Cinder),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn names_of_every_release() {
        for name in ["swift", "SwiftStorage", "trove.guestagent.strategies.storage.swift.SwiftStorage"] {
            assert_eq!(Kind::of(name), Some(Kind::Swift), "{name}");
        }
        assert_eq!(Kind::of("local"), Some(Kind::Local));
        assert_eq!(Kind::of("cinder"), Some(Kind::Cinder));
        assert_eq!(Kind::of("s3"), None);
    }

    async fn opened(lines: &str, request: StorageRequest) -> Result<Arc<dyn Storage>> {
        let text = format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\n{lines}");
        let settings = Settings::from_text("test.conf", &text).unwrap();
        storage_for(&Op::internal(CancellationToken::new()), &settings, &request).await
    }

    #[tokio::test]
    async fn a_guest_that_is_local_stays_local() {
        let request = StorageRequest { storage_driver: Some("swift".to_owned()), ..StorageRequest::default() };
        let storage = opened("storage_strategy = local\nbackup_local_dir = /backups", request.clone()).await.unwrap();
        assert!(storage.location(&super::super::ObjectName::new("c", "o")).starts_with("file:///backups/"));
        let error = opened("storage_strategy = local", request).await.unwrap_err().to_string();
        assert!(error.contains("backup_local_dir"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let driver = |name: &str| StorageRequest { storage_driver: Some(name.to_owned()), ..StorageRequest::default() };
        assert!(opened("", driver("cinder")).await.unwrap_err().to_string().contains("cinder"));
        assert!(opened("", driver("s3")).await.unwrap_err().to_string().contains("s3"));
        assert!(opened("", StorageRequest::default()).await.unwrap_err().to_string().contains("[backup_credentials]"));
    }
}
