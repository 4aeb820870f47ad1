//! Metrics over HTTP, on a Unix socket and, where an address is given, over TCP.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::gauges::Gauges;
use super::socket::bind;
use super::{Metrics, Monitor};
use crate::config::MetricsSettings;

/// Every name begins so.
const PREFIX: &str = "trove_guestagent";
/// OpenMetrics, which Prometheus has read since 2.5.
const TEXT: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// How long a caller may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// Callers at once.
const CALLERS: usize = 8;

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Shows metrics to whoever asks.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
    callers: Semaphore,
}

impl Exporter {
    /// Of this agent.
    pub fn new(metrics: &Metrics, monitor: Arc<Monitor>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        metrics.register(&mut registry);
        registry.register_collector(Box::new(Gauges(monitor)));
        Exporter { registry, callers: Semaphore::new(CALLERS) }
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Only the sink can fail, and a string does not.
        text::encode(&mut text, &self.registry).ok();
        text
    }

    /// Serves until `cancel`. An agent whose metrics nobody can read still serves the controller: failures are logged.
    pub async fn run(self, settings: MetricsSettings, cancel: CancellationToken) {
        let exporter = Arc::new(self);
        let on_socket = settings.socket.as_deref().and_then(|path| match bind(path) {
            Ok(listener) => Some(exporter.serve(Listener::Unix(listener), &cancel)),
            Err(error) => {
                tracing::warn!(%error, %path, "no metrics: the socket cannot be made; see metrics_socket");
                None
            }
        });
        let on_tcp = async {
            let Some(address) = settings.listen else { return };
            match TcpListener::bind(address).await {
                Ok(listener) => exporter.serve(Listener::Tcp(listener), &cancel).await,
                Err(error) => tracing::warn!(%error, %address, "no metrics over TCP: the address cannot be bound; see metrics_listen"),
            }
        };
        tokio::join!(OptionFuture::from(on_socket), on_tcp);
        if let Some(path) = &settings.socket {
            // The next start replaces what is left.
            std::fs::remove_file(path).ok();
        }
    }

    async fn serve(self: &Arc<Self>, listener: Listener, cancel: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                // Cancel-safe: a connection that is not accepted yet stays in the backlog.
                accepted = listener.accept() => accepted,
                () = cancel.cancelled() => return,
            };
            match accepted {
                Ok(stream) => {
                    let exporter = Arc::clone(self);
                    tokio::spawn(async move { exporter.answer(stream).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to accept a reader of metrics");
                    // Out of descriptors: not in a tight loop.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One request a connection: who asks comes once in a while.
    async fn answer(&self, stream: Box<dyn Stream>) {
        // Too many: this one is let go without an answer.
        let Ok(_caller) = self.callers.try_acquire() else { return };
        let service = service_fn(|request: Request<Incoming>| std::future::ready(Ok::<_, Infallible>(self.respond(&request))));
        let mut http = hyper::server::conn::http1::Builder::new();
        let connection =
            http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(PATIENCE).serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, connection).await {
            tracing::debug!(%error, "a reader of metrics went away");
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        if !is_read || !["/", "/metrics"].contains(&request.uri().path()) {
            let mut response = Response::new(Full::from("metrics are at /metrics\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        let mut response = Response::new(Full::from(self.text()));
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        response
    }
}
