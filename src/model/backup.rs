//! What a backup is on the wire: `backup_info` of `create_backup` and of `prepare` (trove/backup/models.py, trove/taskmanager/models.py).

use std::collections::BTreeMap;

use serde::Deserialize;

/// `backup_info` of `create_backup`: the backup to make.
#[derive(Debug, Clone, Deserialize)]
pub struct BackupRequest {
    /// Id of the controller's record; the first part of every object's name.
    pub id: String,
    /// The instance, which is this guest.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// The backup an incremental one builds on.
    #[serde(default)]
    pub parent: Option<ParentBackup>,
    /// Name of the datastore, kept with the backup.
    #[serde(default)]
    pub datastore: Option<String>,
    /// Name of its version, kept likewise.
    #[serde(default)]
    pub datastore_version: Option<String>,
    /// Container to store into; `backup_swift_container` when absent (Zed and later).
    #[serde(default)]
    pub swift_container: Option<String>,
    /// Storage account of the user (2026.1).
    #[serde(default)]
    pub swift_url: Option<String>,
    /// `swift` when absent (2026.1).
    #[serde(default)]
    pub storage_driver: Option<String>,
}

/// The parent of an incremental backup.
#[derive(Debug, Clone, Deserialize)]
pub struct ParentBackup {
    /// Where it is.
    pub location: String,
    /// Its checksum, as it was reported.
    #[serde(default)]
    pub checksum: Option<String>,
}

/// `backup_info` of `prepare`: the backup to restore, a leaf of its chain.
#[derive(Debug, Clone, Deserialize)]
pub struct RestoreRequest {
    /// Id of the controller's record.
    #[serde(default)]
    pub id: Option<String>,
    /// Where it is: `<storage url>/<container>/<object>`.
    pub location: String,
    /// Checksum the controller has of it.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Class name of the Python runner that made it (`InnoBackupEx`; Kilo, Train), or `full` and `incremental` (Zed and later).
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Storage account of the user (2026.1).
    #[serde(default)]
    pub swift_url: Option<String>,
    /// `swift` when absent (2026.1).
    #[serde(default)]
    pub storage_driver: Option<String>,
}

impl RestoreRequest {
    /// True for a snapshot of a volume (2026.1): the data are there already, as the volume, and are a copy of another instance's.
    pub fn is_volume_snapshot(&self) -> bool {
        self.storage_driver.as_deref() == Some("cinder")
    }

    /// A backup that no controller asks for: a drill's.
    pub fn of(location: impl Into<String>, checksum: Option<String>, kind: Option<String>) -> Self {
        RestoreRequest { id: None, location: location.into(), checksum, kind, swift_url: None, storage_driver: None }
    }
}

/// What is kept with a backup besides its bytes, such as `lsn` or `parent_location`: `X-Object-Meta-*` in Swift. Keys are lower case with
/// underscores, as the Python agent's readers see them.
pub type BackupMetadata = BTreeMap<String, String>;

/// States of a backup the guest reports (trove/backup/state.py).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum BackupState {
    /// It is being made.
    Building,
    /// It is whole, checked and stored.
    Completed,
    /// There is nothing of it.
    Failed,
}

/// What `update_backup` tells the conductor; what is absent is not sent.
#[derive(Debug, Clone)]
pub struct BackupUpdate {
    /// Id of the controller's record.
    pub backup_id: String,
    /// State.
    pub state: BackupState,
    /// Used space of the data volume when the backup began, in GB of 2^30 bytes.
    pub size: Option<f64>,
    /// Type, in the words of the controller's release.
    pub backup_type: Option<String>,
    /// Checksum of the stored object.
    pub checksum: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// What went wrong, for the user (a column of Kilo and Train; later conductors ignore it).
    pub note: Option<String>,
}
