//! Where events become lines.

use std::io::Write;

use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::file::LogFile;
use super::journal::Journal;
use super::record::Record;
use super::request::{Request, SPAN};
use super::{json, text};

/// How a line looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Text,
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Output {
    File(LogFile, Format),
    /// `with_priority`: the journal reads it.
    Stderr {
        format: Format,
        with_priority: bool,
    },
    Journal(Journal),
}

/// Writes every event to every output.
#[derive(Debug)]
pub(super) struct Log {
    outputs: Vec<Output>,
    pid: u32,
    hostname: String,
}

impl Log {
    pub(super) fn new(outputs: Vec<Output>) -> Self {
        let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        Log { outputs, pid: std::process::id(), hostname }
    }

    fn line(&self, format: Format, record: &Record) -> String {
        match format {
            Format::Text => text::line(record, self.pid),
            Format::Json => json::line(record, self.pid, &self.hostname),
        }
    }

    fn write(&self, record: &Record) {
        for output in &self.outputs {
            match output {
                Output::File(file, format) => file.write(&(self.line(*format, record) + "\n")),
                Output::Journal(journal) => journal.write(record),
                Output::Stderr { format, with_priority } => {
                    let priority = if *with_priority { format!("<{}>", record.priority()) } else { String::new() };
                    // Nowhere to go when standard error is closed.
                    std::io::stderr().lock().write_all(format!("{priority}{}\n", self.line(*format, record)).as_bytes()).ok();
                }
            }
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != SPAN {
            return;
        }
        if let Some(span) = context.span(id) {
            let mut request = Request::default();
            attributes.record(&mut request);
            span.extensions_mut().insert(request);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let request =
            context.event_scope(event).and_then(|scope| scope.into_iter().find_map(|span| span.extensions().get::<Request>().cloned()));
        self.write(&Record::of(event, request));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use camino::{Utf8Path, Utf8PathBuf};
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::model::RequestContext;
    use crate::telemetry::of_request;

    struct Logged {
        _guard: tempfile::TempDir,
        directory: Utf8PathBuf,
    }

    impl Logged {
        /// What `say` logs to a file in this format, and to a journal.
        fn of(format: Format, say: impl FnOnce()) -> (Vec<String>, Vec<Vec<u8>>) {
            let guard = tempfile::tempdir().unwrap();
            let directory = Utf8Path::from_path(guard.path()).unwrap().to_owned();
            let this = Logged { _guard: guard, directory };
            let (path, socket) = (this.directory.join("log"), this.directory.join("socket"));
            let listener = UnixDatagram::bind(&socket).unwrap();
            listener.set_nonblocking(true).unwrap();
            let outputs = vec![
                Output::File(LogFile::open(&path, false).unwrap(), format),
                Output::Journal(Journal::connect(socket.as_str()).unwrap()),
            ];
            tracing::subscriber::with_default(tracing_subscriber::registry().with(Log::new(outputs)), say);
            let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
            let mut buffer = vec![0; 1 << 17];
            let datagrams =
                std::iter::from_fn(|| listener.recv(&mut buffer).ok().map(|length| buffer.iter().take(length).copied().collect()))
                    .collect();
            (lines, datagrams)
        }
    }

    fn context(request_id: &str) -> RequestContext {
        let wire =
            json!({"request_id": request_id, "global_request_id": "req-g", "user": "u", "project_id": "p", "auth_token": "planted-t0ken"});
        RequestContext::from_wire(wire.as_object().unwrap().clone())
    }

    #[test]
    fn a_line_is_as_oslo_log_writes_it() {
        let (lines, _) = Logged::of(Format::Text, || {
            tracing::info!(queue = "guestagent.g", count = 2, error = %"no\nroom", "consuming");
            of_request("prepare", &context("req-1")).in_scope(|| tracing::warn!("slow"));
            of_request("drop\n] [x", &RequestContext::default()).in_scope(|| tracing::error!(method = "m", "refused"));
            of_request("m", &context("r] INFO\nforged")).in_scope(|| tracing::error!("odd"));
        });
        let pid = std::process::id();
        let logger = "trove_guestagent.telemetry.layer.tests";
        // 2026-11-26 01:02:03.004
        let rest: Vec<&str> = lines.iter().map(|line| line.get(24..).unwrap()).collect();
        assert_eq!(
            rest,
            [
                format!(r#"{pid} INFO {logger} [-] consuming queue="guestagent.g" count=2 error=no\nroom"#),
                format!(r#"{pid} WARNING {logger} [req-g req-1 u p - - - -] slow method="prepare""#),
                format!(r#"{pid} ERROR {logger} [- - - - - - - -] refused method="m""#),
                format!(r#"{pid} ERROR {logger} [req-g r__INFO_forged u p - - - -] odd method="m""#),
            ]
        );
    }

    #[test]
    fn json_has_the_names_of_oslo_log() {
        let (lines, _) = Logged::of(Format::Json, || {
            of_request("prepare", &context("req-1")).in_scope(|| tracing::warn!(seconds = 1.5, path = %"/x", "two\nlines"));
            tracing::info!("idle");
        });
        let documents: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = &documents[0];
        assert_eq!((&first["levelname"], &first["levelno"], &first["msg"]), (&json!("WARNING"), &json!(30), &json!("two\nlines")));
        assert_eq!(first["extra"], json!({"seconds": 1.5, "path": "/x"}));
        let expected = json!({"request_id": "req-1", "global_request_id": "req-g", "user": "u", "project": "p", "method": "prepare"});
        assert_eq!(first["context"], expected);
        assert_eq!((&documents[1]["context"], &documents[1]["message"]), (&json!({}), &json!("idle")));
        assert!(!lines.concat().contains("planted"), "the token is of nobody's business");
    }

    #[test]
    fn the_journal_gets_fields() {
        let (_, datagrams) = Logged::of(Format::Text, || {
            of_request("prepare", &context("req\n1")).in_scope(|| tracing::error!("down"));
            tracing::debug!("{}", "long ".repeat(100_000));
        });
        let text = String::from_utf8_lossy(&datagrams[0]);
        for field in
            ["MESSAGE=down\n", "PRIORITY=3\n", "LOGGER_LEVEL=ERROR\n", "GLOBAL_REQUEST_ID=req-g\n", "METHOD=prepare\n", "CODE_LINE="]
        {
            assert!(text.contains(field), "{field}: {text}");
        }
        // A value with a line of its own has its length in front, and begins no field.
        let spelled = b"REQUEST_ID\n\x05\0\0\0\0\0\0\0req\n1\n";
        assert!(datagrams[0].windows(spelled.len()).any(|part| part == spelled), "{text}");
        assert!(datagrams.len() == 2 && datagrams[1].len() < 70_000);
    }

    #[test]
    fn what_a_request_spawns_stays_its_own() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (lines, _) = Logged::of(Format::Text, || {
            runtime.block_on(async {
                let span = of_request("prepare", &context("req-1"));
                let task = span.in_scope(|| crate::op::spawn(async { tracing::info!("from a task") }));
                task.await.unwrap();
                let told = tracing::dispatcher::get_default(Clone::clone);
                let work = move || tracing::dispatcher::with_default(&told, || tracing::info!("from a thread"));
                span.in_scope(|| crate::op::spawn_blocking(work)).await.unwrap();
            });
        });
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains(" [req-g req-1 u p - - - -] from a ")), "{lines:?}");
    }
}
