//! What is looked at when somebody asks: the agent's state as gauges.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use super::Monitor;
use crate::journal::Journal;
use crate::system::facts;

/// The agent, as a collector.
#[derive(Debug)]
pub(super) struct Gauges(pub(super) Arc<Monitor>);

type Labels = Vec<(&'static str, String)>;

/// One after the other, each with its description.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn write(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn number(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.write(name, help, &ConstGauge::new(value))
    }

    fn labelled(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) -> fmt::Result {
        let family = Family::<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.write(name, help, &family)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
fn double(count: u64) -> f64 {
    count as f64
}

fn count(count: usize) -> f64 {
    double(u64::try_from(count).unwrap_or(u64::MAX))
}

impl Collector for Gauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        let now = self.0.snapshot();
        let build = [("version", now.version.clone()), ("datastore", now.datastore_manager.clone()), ("guest_id", now.guest_id.clone())];
        to.write("build", "What this agent is", &Info::new(build.to_vec()))?;
        to.number("start_time_seconds", "When the agent was started", now.started)?;
        to.labelled("phase", "How far the guest is as an instance", [(vec![("phase", now.phase.name().replace(' ', "_"))], 1.0)])?;
        to.number("operations", "Operations under way", count(now.operations.len()))?;
        let progress = now.operations.iter().filter_map(|operation| {
            let progress = operation.progress.as_ref()?;
            Some((vec![("method", operation.method.clone())], double(progress.content)))
        });
        to.labelled("operation_progress_bytes", "Bytes of content an operation under way has moved", progress)?;
        if let Some(heartbeat) = now.last_heartbeat {
            to.labelled("status", "What the last heartbeat said", [(vec![("status", heartbeat.status)], 1.0)])?;
            to.number("last_heartbeat_seconds", "When the broker confirmed the last heartbeat", heartbeat.at)?;
        }
        let backups = self.0.last_backups().map(|(state, ended)| (vec![("state", state)], ended));
        to.labelled("last_backup_seconds", "When the last backup ended, by state", backups)?;
        if let Ok(look) = Journal::look(self.0.state_dir()) {
            let stages = [("accepted", look.accepted), ("started", look.started), ("ended", look.ended), ("damaged", look.damaged.len())];
            let stages = stages.map(|(stage, entries)| (vec![("stage", stage.to_owned())], count(entries)));
            to.labelled("journal_entries", "Operations in the journal that are not over for everybody", stages)?;
        }
        if let Ok(process) = facts::diagnostics() {
            to.number("resident_memory_bytes", "Resident memory of the agent", double(process.vm_rss * 1024))?;
        }
        Ok(())
    }
}
