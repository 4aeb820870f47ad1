//! Whether the volume is where the guest's table of file systems has it.

use camino::Utf8Path;

use super::{fstab, mounts};
use crate::error::Result;

/// The table of this guest.
const FSTAB: &str = "/etc/fstab";

/// True when fstab has something for `mount_point` that is not mounted there.
///
/// # Errors
/// fstab or the list of mounts cannot be read.
pub fn is_missing(mount_point: &Utf8Path) -> Result<bool> {
    let belongs = fstab::source_at(Utf8Path::new(FSTAB), mount_point)?.is_some();
    Ok(belongs && mounts::at(mount_point)?.is_none())
}
