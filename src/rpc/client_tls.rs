//! `ssl_show`, `ssl_action`, `ssl_rollback`; and what becomes of a change that the agent's end cut short.

use serde_json::Value;

use super::args::SslAction;
use super::dispatch::Dispatcher;
use crate::error::Result;
use crate::managers::tls::flow::{self, Action};
use crate::op::Op;

impl Dispatcher {
    pub(super) async fn ssl_show(&self, op: &Op) -> Result<Value> {
        flow::show(op, self.facet("ssl_show", self.manager.tls())?).await
    }

    pub(super) async fn ssl_action(&self, op: &Op, args: &SslAction) -> Result<Value> {
        let tls = self.facet("ssl_action", self.manager.tls())?;
        let (mode, container) = (args.mode.as_deref(), args.container.as_ref());
        let action = Action { mode, container, enable: args.enable, disable: args.disable };
        self.told_at_once(flow::action(op, tls, &action).await)
    }

    pub(super) async fn ssl_rollback(&self, op: &Op) -> Result<Value> {
        let tls = self.facet("ssl_rollback", self.manager.tls())?;
        self.told_at_once(flow::rollback(op, tls).await)
    }

    /// Nobody waits for the change any more: its controller goes on with what was before.
    pub(super) async fn settle_tls(&self, op: &Op) {
        let Some(tls) = self.manager.tls() else { return };
        self.database_is_up(op).await;
        if let Err(error) = flow::settle(op, tls).await {
            tracing::error!(%error, "failed to go back to the TLS of before a change that was cut short; ssl_action or ssl_rollback sets it again");
        }
    }
}
