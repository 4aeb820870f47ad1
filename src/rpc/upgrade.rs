//! `pre_upgrade`, `upgrade`, `post_upgrade`, `rebuild`: what they do to the instance's phase, and so what the controller is told.

use serde_json::{Value, json};

use super::args::{Rebuild, UpgradeInfo};
use super::dispatch::{Dispatcher, done, to_value};
use crate::error::{Error, Result};
use crate::managers::upgrade;
use crate::model::Release;
use crate::op::Op;
use crate::status::Event;

/// What to do with an instance whose rebuild failed: nothing of its data was touched.
const REBUILD_AGAIN: &str = "The data are on the volume; look at the reason, and rebuild the instance again";

impl Dispatcher {
    /// Since Wallaby only a question, and the answer is empty. Before, the guest's root disk goes next.
    pub(super) async fn pre_upgrade(&self, op: &Op) -> Result<Value> {
        let Some(upgrades) = self.manager.upgrades().filter(|_| self.release.current() <= Release::Train) else { return Ok(json!({})) };
        self.status.apply(&Event::UpgradeBegins)?;
        let _quiet = self.status.quiet();
        let saved = upgrade::leave(op, &*self.manager, upgrades, &self.volume(None, None).0).await;
        // Nobody but its caller is told: the instance is not lost, and "restart" starts its database again.
        to_value(saved?)
    }

    pub(super) async fn upgrade(&self, op: &Op, info: Option<&UpgradeInfo>) -> Result<Value> {
        let version = info.and_then(|info| info.datastore_version.as_deref()).ok_or_else(|| self.not_supported("upgrade"))?;
        let upgrades = self.facet("upgrade", self.manager.upgrades())?;
        self.upgrading(op, async { upgrade::in_place(op, &*self.manager, upgrades, &self.prepare, version).await }).await
    }

    pub(super) async fn post_upgrade(&self, op: &Op, info: &UpgradeInfo) -> Result<Value> {
        let upgrades = self.facet("post_upgrade", self.manager.upgrades())?;
        let volume = info.device.clone().map(|device| self.volume(Some(device), None).0);
        self.upgrading(op, async { upgrade::arrive(op, &*self.manager, upgrades, volume.as_ref()).await }).await
    }

    /// The heartbeat says nothing until the upgraded server answers, and FAILED when it does not: the task manager waits for either.
    async fn upgrading(&self, op: &Op, work: impl Future<Output = Result<()>>) -> Result<Value> {
        self.status.apply(&Event::UpgradeBegins)?;
        let _quiet = self.status.quiet();
        match work.await {
            Ok(()) => done(self.status.apply(&Event::UpgradeEnds)),
            // Cut short by the agent's own end: the journal has it, and the next start begins it again.
            Err(error) if op.cancel.is_cancelled() => Err(error),
            Err(error) => {
                let reason = format!(
                    "the upgrade failed: {error}. When that is repaired, upgrade again, or call 'restart' to go on with the server as it is"
                );
                self.status.apply(&Event::UpgradeFails { reason: reason.clone() })?;
                Err(Error::guest(reason))
            }
        }
    }

    /// The guest is new but for its volume; for its controller it is being built (trove/guestagent/datastore/mysql_common/manager.py: `rebuild`).
    pub(super) async fn rebuild(&self, op: &Op, args: &Rebuild) -> Result<Value> {
        let upgrades = self.facet("rebuild", self.manager.upgrades())?;
        self.limit_attempts("rebuild", REBUILD_AGAIN)?;
        let (volume, _) = self.volume(None, None);
        let (contents, overrides) = (args.config_contents.as_deref(), args.config_overrides.as_ref());
        match upgrade::rebuild(op, &*self.manager, upgrades, &volume, contents, overrides).await {
            Ok(()) => done(self.status.apply(&Event::PreparationEnds { in_cluster: false })),
            Err(error) if op.cancel.is_cancelled() => Err(error),
            Err(error) => {
                let error = Error::guest(format!("the rebuild failed: {error}. {REBUILD_AGAIN}"));
                self.preparation_failed(&error);
                Err(error)
            }
        }
    }
}
