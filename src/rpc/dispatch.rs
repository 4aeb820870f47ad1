//! From a typed request to a facet of the datastore, and back to JSON: the one exhaustive match.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{UpdateAttributes, VolumeArgs};
use super::conductor::Conductor;
use super::method::Resume;
use super::request::{self, Request, Support};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::journal::{Letter, Stage};
use crate::managers::logs::{self, LogEnv};
use crate::managers::modules;
use crate::managers::prepare::{self, PrepareEnv};
use crate::managers::replication;
use crate::managers::{ConfigGroups, DatabaseAdmin, DatastoreManager, RootAccess, UserAdmin};
use crate::model::{Page, PrepareRequest, ServiceStatus};
use crate::monitor::{Operations, Told};
use crate::op::Op;
use crate::release::ReleaseTracker;
use crate::status::{Event, PREPARE_ATTEMPTS, Phase, StatusTracker};
use crate::system::facts;
use crate::volume::{self, Volume};

/// How long, and how often, the database is asked whether it is up.
const DATABASE_WAIT: Duration = Duration::from_secs(60);
const DATABASE_POLL: Duration = Duration::from_millis(500);

/// What to do with an instance whose preparation failed.
const DELETE_INSTANCE: &str = "delete the instance and create it again";

/// What a request came to.
#[derive(Debug)]
pub struct Answer {
    /// For its caller.
    pub outcome: Result<Value>,
    /// For the conductor.
    pub casts: Vec<Letter>,
}

/// Answers requests.
#[derive(Debug)]
pub struct Dispatcher {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// The datastore.
    pub manager: Arc<dyn DatastoreManager>,
    /// The instance's phase.
    pub status: Arc<StatusTracker>,
    /// Casts.
    pub conductor: Arc<Conductor>,
    /// The controller's release.
    pub release: Arc<ReleaseTracker>,
    /// What `prepare` needs besides the manager.
    pub prepare: PrepareEnv,
    /// Where operations under way are shown.
    pub operations: Arc<Operations>,
    /// What the controller was told last.
    pub told: Arc<Told>,
}

impl Dispatcher {
    /// Whether the method exists on this guest at all.
    ///
    /// # Errors
    /// [`Error::NoSuchMethod`]; [`Error::NotSupported`] for one that no datastore of this build has.
    pub fn admits(&self, method: &str) -> Result<()> {
        let off = method == "oslo_rpc_server_ping" && !self.settings.rpc_ping_enabled;
        match request::support(&*self.manager, method) {
            Support::Answered if !off => Ok(()),
            // It is decoded and goes its way: the conductor may have to be told.
            Support::NotSupported if request::properties_of(method).is_some() => Ok(()),
            Support::NotSupported => Err(self.not_supported(method)),
            Support::Answered | Support::Absent => Err(Error::no_such_method(method)),
        }
    }

    /// Runs a request. Where the Python agent notifies the conductor of an operation's end, so does this.
    pub async fn dispatch(&self, op: &Op, request: Request) -> Answer {
        let notifies = request.properties().notifies_its_end;
        let is_prepare = matches!(request, Request::Prepare(_));
        let shown = self.operations.begin(request.method(), op);
        let mut casts = Vec::new();
        let outcome = if self.manager.has(request.properties().facet) {
            self.run(op, request, &mut casts).await
        } else {
            Err(self.not_supported(request.method()))
        };
        shown.end(outcome.is_ok());
        // What the agent's own end cut short has not ended: its next life finishes it or reports it.
        if notifies && !(outcome.is_err() && op.cancel.is_cancelled() && casts.is_empty()) {
            self.notify(op, is_prepare, &outcome, &mut casts);
        }
        Answer { outcome, casts }
    }

    /// The agent ended in the middle of this request: what to tell caller and conductor.
    pub async fn interrupted(&self, op: &Op, request: &Request) -> Answer {
        let is_prepare = matches!(request, Request::Prepare(_));
        let error = if is_prepare { preparation_interrupted() } else { Error::interrupted(request.method()) };
        let mut casts = Vec::new();
        if let Request::CreateBackup(args) = request {
            casts.extend(self.finished_backup(op, &args.backup_info));
        }
        let on_disk = if casts.is_empty() { self.end_on_disk(is_preparation(request)) } else { Some(Ok(Value::Null)) };
        let outcome = on_disk.unwrap_or_else(|| {
            self.note_interruption(is_preparation(request), &error);
            Err(error)
        });
        if is_prepare && outcome.is_ok() {
            self.tell_of_root(op, &mut casts).await;
        }
        if let Err(error) = &outcome {
            match request {
                Request::CreateBackup(args) => self.abandon_backup(op, &args.backup_info, error, &mut casts).await,
                Request::SslAction(_) | Request::SslRollback(_) => self.settle_tls(op).await,
                Request::GetReplicationSnapshot(args) => self.abandon_snapshot(op, args, error, &mut casts).await,
                _ => {}
            }
        }
        if request.properties().notifies_its_end {
            self.notify(op, is_prepare, &outcome, &mut casts);
        }
        Answer { outcome, casts }
    }

    /// Whether a request that the agent's end cut short is run again. `in_time`: nobody waits for its answer, or somebody still does.
    pub(super) fn resumes(&self, request: &Request, stage: Stage, in_time: bool) -> bool {
        // Its own end is on disk: the phase was that of a preparation under way before the journal said that it had begun (`note_begin`).
        let has_ended = is_preparation(request) && !matches!(self.status.phase(), Phase::Preparing { .. });
        match request.properties().after_interruption {
            _ if stage == Stage::Accepted => true,
            Resume::Repeat => !has_ended,
            Resume::RepeatInTime => in_time,
            Resume::Report | Resume::Undo => false,
        }
    }

    /// What is on disk before the journal says that a request has begun: an end that is found afterwards is its own, whatever the instance was before.
    ///
    /// # Errors
    /// The disk refused; the request must not begin.
    pub(super) fn note_begin(&self, request: &Request) -> Result<()> {
        if is_preparation(request) && self.manager.has(request.properties().facet) {
            self.status.apply(&Event::PreparationBegins)?;
        }
        Ok(())
    }

    /// The journal did not take what [`Self::note_begin`] was for.
    pub(super) fn not_begun(&self, request: &Request, error: &Error) {
        if is_preparation(request) && matches!(self.status.phase(), Phase::Preparing { .. }) {
            self.preparation_failed(error);
        }
    }

    /// After recovery: an instance that is still being prepared although nobody does would stay in BUILD for ever.
    pub fn abandon_preparation(&self) {
        if matches!(self.status.phase(), Phase::Preparing { .. }) {
            let error = preparation_interrupted();
            tracing::error!(%error, "the journal has no preparation any more");
            self.preparation_failed(&error);
        }
    }

    /// Waits until the database answers, for operations that are taken up again right after the guest's boot. Not for long: the operation itself
    /// says better what is wrong.
    pub async fn database_is_up(&self, op: &Op) {
        let deadline = tokio::time::Instant::now() + DATABASE_WAIT;
        let mut ticks = tokio::time::interval(DATABASE_POLL);
        while self.status.phase() == Phase::Active && tokio::time::Instant::now() < deadline && !op.cancel.is_cancelled() {
            ticks.tick().await;
            if matches!(self.manager.status().probe(op).await, ServiceStatus::Running | ServiceStatus::RestartRequired) {
                return;
            }
        }
    }

    /// A prepared database that should run and that nobody else starts (`service_control = process`) is started.
    pub async fn begin(&self, op: &Op) {
        if matches!(self.status.phase(), Phase::Active | Phase::ClusterReady) {
            if let Err(error) = self.finish_restart(op).await {
                tracing::error!(%error, "failed to finish a restart of the database that the agent's end cut short; restart the instance");
            }
            self.manager.service().agent_starts(op).await;
        }
        // A preparation that was cut short comes next on this lane: BUILDING would be out of date.
        if !matches!(self.status.phase(), Phase::Preparing { .. }) {
            self.status.report_now();
        }
    }

    async fn finish_restart(&self, op: &Op) -> Result<()> {
        let _quiet = self.status.quiet();
        self.manager.finish_restart(op).await
    }

    fn notify(&self, op: &Op, is_prepare: bool, outcome: &Result<Value>, casts: &mut Vec<Letter>) {
        let mut payload = Map::new();
        if is_prepare {
            payload.insert("instance_id".into(), json!(self.settings.guest_id));
        }
        match self.conductor.notification(&op.context, payload, outcome) {
            Ok(letter) => casts.extend(letter),
            Err(error) => tracing::warn!(%error, "failed to notify the conductor of the operation's end"),
        }
    }

    /// A change that may wait for a restart is told at once.
    fn reported(&self, outcome: Result<()>) -> Result<Value> {
        self.told_at_once(done(outcome))
    }

    pub(super) fn told_at_once(&self, outcome: Result<Value>) -> Result<Value> {
        self.status.report_now();
        outcome
    }

    /// A preparation whose end was on disk, and only nobody was told any more.
    fn end_on_disk(&self, is_preparation: bool) -> Option<Result<Value>> {
        match self.status.phase() {
            Phase::Active | Phase::ClusterReady if is_preparation => Some(Ok(Value::Null)),
            Phase::Failed { reason, .. } if is_preparation => Some(Err(Error::guest(reason))),
            _ => None,
        }
    }

    fn note_interruption(&self, is_preparation: bool, error: &Error) {
        tracing::error!(%error, "an operation was cut short by the agent's end");
        if is_preparation {
            self.preparation_failed(error);
        }
    }

    /// After a preparation whose end was on disk: the agent that made it could not say this any more.
    async fn tell_of_root(&self, op: &Op, casts: &mut Vec<Letter>) {
        self.database_is_up(op).await;
        let Some(root) = self.manager.root() else { return };
        match root.is_enabled(op).await {
            Ok(enabled) => self.report_root(op, enabled, casts),
            Err(error) => tracing::warn!(%error, "failed to look whether root is enabled"),
        }
    }

    fn report_root(&self, op: &Op, enabled: bool, casts: &mut Vec<Letter>) {
        if !enabled {
            return;
        }
        match self.conductor.root_report(&op.context) {
            Ok(letter) => casts.push(letter),
            Err(error) => tracing::warn!(%error, "failed to report that root is enabled"),
        }
    }

    pub(super) fn preparation_failed(&self, error: &Error) {
        if let Err(error) = self.status.apply(&Event::PreparationFails { reason: error.to_string() }) {
            tracing::error!(%error, "failed to note that the instance has failed");
        }
    }

    #[expect(clippy::cognitive_complexity, clippy::too_many_lines, reason = "one line a method: the table is the point")]
    async fn run(&self, op: &Op, request: Request, casts: &mut Vec<Letter>) -> Result<Value> {
        use Request::*;
        let method = request.method();
        let users = || self.facet(method, self.manager.users());
        let databases = || self.facet(method, self.manager.databases());
        let root = || self.facet(method, self.manager.root());
        let config = || self.facet(method, self.manager.config());
        let replication = || self.facet(method, self.manager.replication());
        let cluster = || self.facet(method, self.manager.redis_cluster());
        let mongodb = || self.facet(method, self.manager.mongodb_cluster());
        let guest_logs = || self.facet(method, self.manager.logs());
        match request {
            RpcPing(_) => Ok(json!(true)),
            OsloRpcServerPing(_) => Ok(json!("pong")),
            Prepare(request) => self.prepare(op, &request, casts).await,
            Restart(_) => self.restart(op).await,
            StopDb(args) => self.stop(op, args.do_not_start_on_reboot).await,
            StartDbWithConfChanges(args) => self.start_with_configuration(op, &args.config_contents).await,
            ResetConfiguration(args) => done(self.manager.reset_configuration(op, &args.configuration.config_contents).await),
            PreUpgrade(_) => self.pre_upgrade(op).await,
            Upgrade(args) => self.upgrade(op, args.upgrade_info.as_ref()).await,
            PostUpgrade(args) => self.post_upgrade(op, &args.upgrade_info).await,
            Rebuild(args) => self.rebuild(op, &args).await,
            GetFilesystemStats(_) => self.filesystem_stats(),
            MountVolume(args) => done(self.mount_volume(op, args).await),
            UnmountVolume(args) => done(self.unmount_volume(op, args).await),
            ResizeFs(args) => done(self.resize_volume(op, args).await),
            GetHwinfo(_) => to_value(facts::hwinfo()?),
            GetDiagnostics(_) => to_value(facts::diagnostics()?),
            UpdateOverrides(args) => self.reported(ConfigGroups::update(config()?, op, &args.overrides, args.remove).await),
            ApplyOverrides(args) => self.reported(config()?.apply(op, &args.overrides).await),
            CreateDatabase(args) => done(DatabaseAdmin::create(databases()?, op, &args.databases).await),
            ListDatabases(args) => page(databases()?.list(op, &args.into()).await?),
            DeleteDatabase(args) => done(databases()?.delete(op, &args.database).await),
            CreateUser(args) => done(UserAdmin::create(users()?, op, &args.users).await),
            ListUsers(args) => page(users()?.list(op, &args.into()).await?),
            GetUser(args) => to_value(users()?.get(op, &args.username, args.hostname.as_deref()).await?),
            DeleteUser(args) => done(users()?.delete(op, &args.user).await),
            ChangePasswords(args) => done(users()?.change_passwords(op, &args.users).await),
            UpdateAttributes(args) => done(self.update_attributes(op, &args).await),
            ListAccess(args) => to_value(users()?.list_access(op, &args.username, args.hostname.as_deref()).await?),
            GrantAccess(args) => done(users()?.grant_access(op, &args.username, args.hostname.as_deref(), &args.databases).await),
            RevokeAccess(args) => done(users()?.revoke_access(op, &args.username, args.hostname.as_deref(), &args.database).await),
            EnableRoot(_) => to_value(RootAccess::enable(root()?, op, None).await?),
            EnableRootWithPassword(args) => to_value(root()?.enable(op, args.root_password).await?),
            DisableRoot(_) => done(root()?.disable(op).await),
            IsRootEnabled(_) => to_value(root()?.is_enabled(op).await?),
            GetRootPassword(_) => to_value(root()?.password(op).await?.map(|password| password.expose_secret().to_owned())),
            CreateBackup(args) => done(self.create_backup(op, &args.backup_info, casts).await.map(drop)),
            PreCreateBackup(_) => self.hold_for_snapshot(op).await,
            PostCreateBackup(_) => self.release_snapshot().await,
            GuestLogList(_) => to_value(logs::list(op, &self.log_env(), guest_logs()?).await?),
            GuestLogAction(args) => to_value(logs::action(op, &self.log_env(), guest_logs()?, &args).await?),
            ModuleList(args) => to_value(modules::list(op, &self.prepare.modules(), args.include_contents)?),
            ModuleApply(args) => to_value(modules::apply(op, &self.prepare.modules(), &args.modules).await?),
            ModuleRemove(args) => done(modules::remove(op, &self.prepare.modules(), &args.module.module).await),
            ClusterComplete(_) => done(self.status.apply(&Event::ClusterCompletes)),
            SslShow(_) => self.ssl_show(op).await,
            SslAction(args) => self.ssl_action(op, &args).await,
            SslRollback(_) => self.ssl_rollback(op).await,
            BackupRequiredForReplication(_) => to_value(replication()?.needs_backup()),
            GetReplicationSnapshot(args) => self.replication_snapshot(op, &args).await,
            AttachReplica(args) => done(replication::attach(op, &*self.manager, &args.replica_info, args.slave_config.as_ref()).await),
            AttachReplicationSlave(args) => done(replication::attach(op, &*self.manager, &args.snapshot, args.slave_config.as_ref()).await),
            DetachReplica(args) => replication()?.detach(op, args.for_failover).await,
            GetReplicaContext(_) => to_value(replication::context(op, &*self.manager, self.release.current()).await?),
            MakeReadOnly(args) => done(replication()?.set_read_only(op, args.read_only).await),
            EnableAsMaster(args) => done(replication()?.enable_as_source(op, args.replica_source_config.as_ref()).await),
            GetLastTxn(_) => to_value(replication()?.last_transaction(op).await?),
            GetLatestTxnId(_) => Ok(replication()?.transaction_on_wire(replication()?.latest_transaction(op).await?)),
            GetTxnCount(_) => to_value(replication()?.transaction_count(op).await?.ok_or_else(|| self.not_supported(method))?),
            WaitForTxn(args) => done(replication()?.wait_for_transaction(op, args.txn.as_deref().unwrap_or_default()).await),
            CleanupSourceOnReplicaDetach(args) => done(replication()?.forget_replica(op, &args.replica_info).await),
            DemoteReplicationMaster(_) => done(replication()?.demote(op).await),
            GetNodeIp(_) => to_value(cluster()?.node_address(op).await?),
            GetNodeIdForRemoval(_) => to_value(cluster()?.id_for_removal(op).await?),
            RemoveNodes(args) => done(cluster()?.remove_nodes(op, &args.node_ids).await),
            ClusterMeet(args) => done(cluster()?.meet(op, &args.ip, args.port.as_deref().unwrap_or_default()).await),
            ClusterAddslots(args) => done(cluster()?.add_slots(op, args.first_slot, args.last_slot).await),
            AddMembers(args) => done(mongodb()?.add_members(op, &args.members).await),
            AddConfigServers(args) => done(mongodb()?.add_config_servers(op, &args.config_servers).await),
            AddShard(args) => done(mongodb()?.add_shard(op, &args.replica_set_name, &args.replica_set_member).await),
            IsShardActive(args) => to_value(mongodb()?.is_shard_active(op, &args.replica_set_name).await?),
            PrepPrimary(_) => done(mongodb()?.prepare_primary(op).await),
            CreateAdminUser(args) => done(mongodb()?.create_admin(op, &args.password).await),
            StoreAdminPassword(args) => done(mongodb()?.store_admin_password(&args.password)),
            GetAdminPassword(_) => to_value(mongodb()?.admin_password()?.expose_secret()),
            GetKey(_) => to_value(mongodb()?.key()?.expose_secret()),
            GetReplicaSetName(_) => to_value(mongodb()?.replica_set_name(op).await?),
        }
    }

    async fn update_attributes(&self, op: &Op, args: &UpdateAttributes) -> Result<()> {
        let users = self.facet("update_attributes", self.manager.users())?;
        users.update_attributes(op, &args.username, args.hostname.as_deref(), &args.user_attrs).await
    }

    pub(super) fn not_supported(&self, operation: &str) -> Error {
        Error::not_supported(operation, &self.settings.datastore_manager)
    }

    pub(super) fn facet<T>(&self, operation: &str, facet: Option<T>) -> Result<T> {
        facet.ok_or_else(|| self.not_supported(operation))
    }

    fn log_env(&self) -> LogEnv {
        let exposed = self.manager.descriptor().exposed_logs;
        LogEnv { settings: Arc::clone(&self.settings), release: self.release.current(), exposed }
    }

    /// `prepare` with its consequences for the instance's phase: a failed step fails the instance, whichever it was.
    async fn prepare(&self, op: &Op, request: &PrepareRequest, casts: &mut Vec<Letter>) -> Result<Value> {
        self.limit_attempts("prepare", DELETE_INSTANCE)?;
        match prepare::run(op, &*self.manager, &self.prepare, request).await {
            Ok(outcome) => {
                self.status.apply(&Event::PreparationEnds { in_cluster: request.cluster_config.is_some() })?;
                self.report_root(op, outcome.root_enabled, casts);
                Ok(Value::Null)
            }
            // Cut short by the agent's own end: the journal has it, and the next start begins it again.
            Err(error) if op.cancel.is_cancelled() => Err(error),
            Err(error) => {
                self.preparation_failed(&error);
                Err(error)
            }
        }
    }

    /// A preparation, or a rebuild, that ends the agent each time is not begun for ever.
    pub(super) fn limit_attempts(&self, method: &str, advice: &str) -> Result<()> {
        match self.status.phase() {
            Phase::Preparing { attempt } if attempt > PREPARE_ATTEMPTS => {
                let error = Error::guest(format!(
                    "the guest agent ended in the middle of '{method}' {PREPARE_ATTEMPTS} times and does not try again; its log may tell why. {advice}"
                ));
                self.preparation_failed(&error);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    async fn restart(&self, op: &Op) -> Result<Value> {
        let _quiet = self.status.quiet();
        self.manager.stop(op).await?;
        self.bring_volume_back(op).await?;
        self.manager.start(op).await?;
        done(self.status.apply(&Event::DatabaseStarts))
    }

    /// `stop_db`: the task manager then waits for a heartbeat that says SHUTDOWN, so one is sent at once.
    async fn stop(&self, op: &Op, keep_down: bool) -> Result<Value> {
        let _quiet = self.status.quiet();
        if keep_down {
            self.manager.service().set_enabled(op, false).await?;
        }
        self.manager.stop(op).await?;
        done(self.manager.service().keep_stopped(op).await)
    }

    async fn start_with_configuration(&self, op: &Op, config_contents: &str) -> Result<Value> {
        let _quiet = self.status.quiet();
        self.manager.stop(op).await?;
        self.bring_volume_back(op).await?;
        self.manager.start_with_configuration(op, config_contents).await?;
        self.manager.service().set_enabled(op, true).await?;
        done(self.status.apply(&Event::DatabaseStarts))
    }

    /// `get_filesystem_stats` ignores its argument, as Trove does, and looks at the datastore's mount point.
    fn filesystem_stats(&self) -> Result<Value> {
        let mut stats = to_value(volume::filesystem_stats(&self.manager.mount_point())?)?;
        if let Some(stats) = stats.as_object_mut() {
            stats.insert("mgr_extra_info".into(), json!({}));
        }
        Ok(stats)
    }

    /// The volume and its mount point; what the request does not name is as configured.
    pub(super) fn volume(&self, device: Option<Utf8PathBuf>, mount_point: Option<Utf8PathBuf>) -> (Volume, Utf8PathBuf) {
        let device = device.unwrap_or_else(|| self.settings.volume.device_path.clone());
        let volume = Volume::new(device, &self.settings.volume, self.prepare.commands.clone());
        (volume, mount_point.unwrap_or_else(|| self.manager.mount_point()))
    }

    async fn mount_volume(&self, op: &Op, args: VolumeArgs) -> Result<()> {
        let (volume, mount_point) = self.volume(args.device_path, args.mount_point);
        volume.of_mount_point(op, &mount_point).await?.mount(op, &mount_point, false).await
    }

    async fn unmount_volume(&self, op: &Op, args: VolumeArgs) -> Result<()> {
        let (volume, mount_point) = self.volume(args.device_path, args.mount_point);
        volume.release(op, &mount_point).await
    }

    async fn resize_volume(&self, op: &Op, args: VolumeArgs) -> Result<()> {
        let (volume, mount_point) = self.volume(args.device_path, args.mount_point);
        volume.of_mount_point(op, &mount_point).await?.resize(op, args.online).await?;
        if args.online { self.manager.volume_grown(op).await } else { Ok(()) }
    }

    /// Sees to it that the volume is there before the server starts: the task manager asks for a restart also where it has given up between
    /// unmounting and mounting.
    async fn bring_volume_back(&self, op: &Op) -> Result<()> {
        let (volume, mount_point) = self.volume(None, None);
        volume.bring_back(op, &mount_point).await.map(drop)
    }
}

fn is_preparation(request: &Request) -> bool {
    matches!(request, Request::Prepare(_) | Request::Rebuild(_))
}

fn preparation_interrupted() -> Error {
    Error::Interrupted { method: "prepare".to_owned(), advice: DELETE_INSTANCE.to_owned() }
}

pub(super) fn done(outcome: Result<()>) -> Result<Value> {
    outcome.map(|()| Value::Null)
}

/// A page is a list of two: items and the next marker.
fn page<T: Serialize>(page: Page<T>) -> Result<Value> {
    to_value((page.items, page.next_marker))
}

pub(super) fn to_value(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::guest(format!("cannot put the result into JSON: {error}")))
}
