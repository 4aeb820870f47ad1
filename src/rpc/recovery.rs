//! What the agent's last life left open is taken up before anything new.

use tracing::Instrument;

use super::dispatch::Answer;
use super::envelope;
use super::method::Lane;
use super::reply::ReplyTo;
use super::request::Request;
use super::server::{Opened, RpcServer};
use super::work::{Accepted, KeepAlive};
use crate::error::Error;
use crate::journal::{Found, Left};
use crate::telemetry;

impl RpcServer {
    /// Tells what was not told, runs what was not begun, and of what was begun runs again what does no harm and reports the rest. Everything
    /// is on its lane when this returns, and so comes before new messages.
    pub fn recover(&self, left: Left) {
        let untold: Vec<_> = left.untold.into_iter().filter_map(|(letters, ticket)| self.desk.outbox.post(letters, Some(ticket))).collect();
        let stop = self.desk.stop.clone();
        // The end of an earlier backup may be among them, and must be told before the next one begins.
        self.lanes.submit(Lane::Backup, async move {
            stop.run_until_cancelled(futures_util::future::join_all(untold)).await;
        });
        let mut prepares = false;
        for found in left.open {
            tracing::warn!(method = found.entry.method, stage = ?found.stage, "an accepted operation was left open when the agent ended");
            prepares |= matches!(found.entry.method.as_str(), "prepare" | "rebuild");
            if let Some(id) = &found.entry.unique_id {
                self.remember(id);
            }
            self.take_up(found);
        }
        if !prepares {
            self.desk.dispatcher.abandon_preparation();
        }
    }

    fn take_up(&self, Found { entry, stage, ticket }: Found) {
        let opened = envelope::open(entry.body.as_bytes()).map_err(|error| Box::new((error, None)));
        let opened = opened.and_then(|incoming| self.decrypted(incoming).map_err(|refusal| Box::new((refusal.0, Some(refusal.1)))));
        let (incoming, read) = match opened {
            Ok(Opened { incoming, args, context, key }) => {
                let request = Request::decode(&incoming.method, args);
                (Some((incoming, key)), request.map(|request| (request, context)))
            }
            Err(refusal) => (refusal.1.map(|incoming| (incoming, None)), Err(refusal.0)),
        };
        let reply_to = incoming.as_ref().and_then(|(incoming, key)| ReplyTo::of(incoming, key.clone()));
        let timeout = incoming.as_ref().and_then(|(incoming, _)| incoming.call_monitor_timeout);
        match read {
            Ok((request, context)) => {
                let in_time = reply_to.is_none() || entry.expires_after.is_some();
                let again = self.desk.dispatcher.resumes(&request, stage, in_time);
                let span = telemetry::of_request(request.method(), &context);
                let accepted = Accepted {
                    request,
                    context,
                    keep_alive: span.in_scope(|| KeepAlive::start(&self.desk.outbox, reply_to.as_ref(), timeout)),
                    reply_to,
                    ticket: Some(ticket),
                    deadline: entry.expires_after.map(|seconds| entry.received + seconds),
                    recovered: Some(stage),
                    span: span.clone(),
                };
                if again {
                    self.submit(accepted);
                } else {
                    self.lanes.submit(accepted.request.properties().lane, self.desk.clone().report(accepted).instrument(span));
                }
            }
            Err(error) => {
                tracing::error!(%error, method = entry.method, "an operation left open cannot be read any more; was instance_rpc_encr_key changed?");
                if entry.method == "prepare" {
                    self.desk.dispatcher.abandon_preparation();
                }
                let advice = "it cannot be read any more; look at the instance and repeat the call".to_owned();
                let answer = Answer { outcome: Err(Error::Interrupted { method: entry.method, advice }), casts: Vec::new() };
                let desk = self.desk.clone();
                self.lanes.submit(Lane::Read, async move {
                    desk.tell(answer, reply_to.as_ref(), KeepAlive::default(), Some(ticket)).await;
                });
            }
        }
    }
}
