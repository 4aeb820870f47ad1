//! [`Cluster`]: what the task manager asks a server of a cluster for ([`MongoDbCluster`]). Every call can be made again: what is done is found done.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use secrecy::SecretString;
use tokio::time::Instant;

use super::super::admin::{self, ADMIN};
use super::super::configuration::Configuration;
use super::changes::FAILOVER;
use super::hosts::with_port;
use super::peers::{Peers, key};
use super::replica_set::{NOT_YET_INITIALIZED, is_failover};
use super::role::{CLUSTERING, CONFIG_SET, Role, check_set_name, with_config_servers};
use super::set::{Set, patiently};
use crate::error::{Error, Result, ResultExt};
use crate::managers::MongoDbCluster;
use crate::managers::configuration::Group;
use crate::managers::lifecycle::Lifecycle;
use crate::model::MemberRole;
use crate::op::Op;
use crate::system::address;
use crate::system::mongodb::{Client, OS_ADMIN, credentials};
use crate::system::password::random_password;
use crate::system::service::ServiceControl;

/// One server of a cluster.
#[derive(Debug)]
pub(in crate::managers::mongodb) struct Cluster {
    pub(in crate::managers::mongodb) configuration: Arc<Configuration>,
    pub(in crate::managers::mongodb) client: Client,
    pub(in crate::managers::mongodb) lifecycle: Arc<Lifecycle>,
    pub(in crate::managers::mongodb) service: Arc<dyn ServiceControl>,
    pub(in crate::managers::mongodb) password_length: usize,
}

impl Cluster {
    fn peers(&self) -> Peers {
        Peers { configuration: Arc::clone(&self.configuration) }
    }

    fn role(&self) -> Result<Role> {
        let role = Role::of(&self.configuration.read()?);
        role.ok_or_else(|| Error::bad_request("this guest is in no cluster: it was not prepared with a role in one"))
    }

    /// The set that this guest's own server is a member of.
    fn set_name(&self) -> Result<String> {
        let name = self.role()?.set_name().map(str::to_owned);
        name.ok_or_else(|| Error::bad_request("this guest is a query router, which is no member of a replica set"))
    }

    fn require_router(&self) -> Result<()> {
        match self.role()? {
            Role::QueryRouter => Ok(()),
            _ => Err(Error::bad_request("this guest is no query router: it was prepared with another role")),
        }
    }

    fn own_set<'a>(&self, op: &'a Op, name: &'a str) -> Set<'a> {
        Set::of_own(op, self.peers(), name)
    }

    fn own_host(&self) -> Result<String> {
        with_port(&address::own()?, self.configuration.port()?)
    }

    /// The part of this guest's server in its replica set; `None` in none, and for a query router.
    ///
    /// # Errors
    /// The server does not say.
    pub(in crate::managers::mongodb) async fn member_role(&self, op: &Op) -> Result<Option<MemberRole>> {
        let Some(name) = self.configuration.role()?.and_then(|role| role.set_name().map(str::to_owned)) else { return Ok(None) };
        match self.own_set(op, &name).state().await {
            Ok(state) => Ok(state.own_role()),
            Err(error) if error.database_code() == Some(NOT_YET_INITIALIZED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask_router(&self, op: &Op, action: &str, command: Document) -> Result<Document> {
        self.require_router()?;
        // Its config servers may have no primary for a moment.
        let asking = || async { self.client.session(op).await?.run(op, action, ADMIN, command.clone()).await };
        patiently(op, Instant::now() + op.patience(FAILOVER), is_failover, asking).await
    }
}

#[async_trait]
impl MongoDbCluster for Cluster {
    async fn add_members(&self, op: &Op, members: &[String]) -> Result<()> {
        let (name, port) = (self.set_name()?, self.configuration.port()?);
        let own = self.own_host()?;
        // They are guests of the same template.
        let others = members.iter().map(|member| with_port(member, port));
        let hosts: Vec<String> = std::iter::once(Ok(own)).chain(others).collect::<Result<_>>()?;
        self.own_set(op, &name).assemble(&hosts).await
    }

    async fn add_config_servers(&self, op: &Op, config_servers: &[String]) -> Result<()> {
        self.require_router()?;
        let port = self.configuration.layout.config_port;
        let hosts: Vec<String> = config_servers.iter().map(|host| with_port(host, port)).collect::<Result<_>>()?;
        let first = hosts.first().cloned();
        Set { op, peers: self.peers(), first, name: CONFIG_SET, is_config: true }.assemble(&hosts).await?;
        let before = self.configuration.read()?;
        let mut after = before.clone();
        after.set_change(Group::System, CLUSTERING, with_config_servers(&before, &hosts)?);
        self.configuration.check(op, &after).await?;
        self.configuration.write(op, &before, &after).await?;
        self.configuration.keep()?;
        self.service.set_enabled(op, true).await?;
        self.lifecycle.restart(op).await.action("start the query router")
    }

    async fn add_shard(&self, op: &Op, replica_set: &str, member: &str) -> Result<()> {
        check_set_name(replica_set)?;
        let shard = format!("{replica_set}/{}", with_port(member, self.configuration.port()?)?);
        // A shard that is one already is what is wanted: the server says so, too.
        self.ask_router(op, "add a shard to the cluster", doc! { "addShard": shard }).await.map(drop)
    }

    async fn is_shard_active(&self, op: &Op, replica_set: &str) -> Result<bool> {
        let answer = self.ask_router(op, "list the cluster's shards", doc! { "listShards": 1 }).await?;
        let shards = answer.get_array("shards").into_iter().flatten().filter_map(|shard| shard.as_document());
        Ok(shards.filter_map(|shard| shard.get_str("_id").ok()).any(|id| id == replica_set))
    }

    /// Python restarted a server that was no member of any set yet, so that the first user could be made by the localhost exception. This one is in its set
    /// already, and the user is made by the cluster's own.
    async fn prepare_primary(&self, op: &Op) -> Result<()> {
        let (name, own) = (self.set_name()?, self.own_host()?);
        let set = self.own_set(op, &name);
        set.assemble(std::slice::from_ref(&own)).await?;
        if self.configuration.credentials()?.is_some() && self.client.session(op).await.is_ok() {
            return Ok(());
        }
        let password = random_password(self.password_length)?;
        set.administer(&password).await?;
        self.store_admin_password(&password)
    }

    async fn create_admin(&self, op: &Op, password: &SecretString) -> Result<()> {
        self.role()?;
        let making = || async { admin::set(op, &self.peers().own(op).await?, password).await };
        let made = patiently(op, Instant::now() + op.patience(FAILOVER), is_failover, making).await;
        made.action(format!("make the cluster's administrator {OS_ADMIN}"))?;
        self.store_admin_password(password)
    }

    fn store_admin_password(&self, password: &SecretString) -> Result<()> {
        self.role()?;
        credentials::write(&self.configuration.layout.credentials(), password)?;
        self.configuration.keep()
    }

    fn admin_password(&self) -> Result<SecretString> {
        let login = self.configuration.credentials()?;
        login.map(|login| login.password).ok_or_else(|| Error::not_found("The password of the cluster's administrator"))
    }

    fn key(&self) -> Result<SecretString> {
        self.role()?;
        key(&self.configuration.layout)?.ok_or_else(|| Error::not_found("The key of the cluster"))
    }

    async fn replica_set_name(&self, op: &Op) -> Result<String> {
        let name = self.set_name()?;
        match self.own_set(op, &name).state().await {
            Ok(state) => Ok(state.set),
            // Not initiated yet, or down: its configuration says it, too.
            Err(error) => {
                tracing::debug!(%error, "the server does not tell the name of its replica set");
                Ok(name)
            }
        }
    }
}
