//! How far the kernel reads ahead on the volume.

use super::device::Volume;
use crate::error::{Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;

impl Volume {
    /// Has the kernel read ahead as far as `readahead_size` says; without that option, as it does by itself. Lost with the device: to be done
    /// whenever it is mounted. (Trove's VolumeDevice.set_readahead_size.)
    ///
    /// # Errors
    /// The device refuses.
    pub async fn set_readahead(&self, op: &Op) -> Result<()> {
        let Some(sectors) = self.settings().readahead else { return Ok(()) };
        let blockdev = CommandSpec::new("blockdev").args(["--setra", &sectors.to_string()]).arg(self.device());
        self.run(op, blockdev).await.action(format!("set the read-ahead of {} to {sectors} sectors", self.device()))?;
        Ok(())
    }
}
