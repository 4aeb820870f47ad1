//! A wire between agent and broker that loses what a test wants lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Part of the name of the agent's consuming connection, which it says in its second message.
const LISTENER: &[u8] = b":listen";

/// Passes connections on to a broker.
pub(crate) struct Proxy {
    port: u16,
    wires: Arc<Mutex<Vec<Wire>>>,
    accepting: JoinHandle<()>,
}

/// One connection.
struct Wire {
    consumes: Arc<AtomicBool>,
    /// What the agent says is lost.
    deaf: Arc<AtomicBool>,
    /// What the broker says is lost.
    dumb: Arc<AtomicBool>,
    pumps: [JoinHandle<()>; 2],
}

impl Proxy {
    /// To the broker of this `amqp://` URL.
    pub(crate) async fn start(broker: &str) -> Proxy {
        let place = broker.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wires: Arc<Mutex<Vec<Wire>>> = Arc::default();
        let made = wires.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let Ok(broker) = TcpStream::connect(&place).await else { continue };
                made.lock().unwrap().push(Wire::between(agent, broker));
            }
        });
        Proxy { port, wires, accepting }
    }

    /// `broker`'s URL through here.
    pub(crate) fn url(&self, broker: &str) -> String {
        let (credentials, rest) = broker.rsplit_once('@').unwrap();
        format!("{credentials}@127.0.0.1:{}/{}", self.port, rest.split_once('/').unwrap().1)
    }

    /// From now on what the agent's consuming connection says is lost: its acknowledgements. New connections are whole.
    pub(crate) fn lose_acknowledgements(&self) {
        for wire in self.wires.lock().unwrap().iter().filter(|wire| wire.consumes.load(Ordering::SeqCst)) {
            wire.deaf.store(true, Ordering::SeqCst);
        }
    }

    /// From now on nothing gets through on the connections there are, and nobody is told. New connections are whole.
    pub(crate) fn lose_everything(&self) {
        for wire in self.wires.lock().unwrap().iter() {
            wire.deaf.store(true, Ordering::SeqCst);
            wire.dumb.store(true, Ordering::SeqCst);
        }
    }

    /// From now on the kernel loses every packet between agent and proxy, those of new connections too, until the result is dropped.
    pub(crate) fn lose_packets(&self) -> LostPackets {
        let lost = LostPackets { port: self.port };
        lost.rules("-A");
        lost
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.wires.lock().unwrap().drain(..).for_each(Wire::cut);
    }
}

/// Rules of the firewall.
pub(crate) struct LostPackets {
    port: u16,
}

impl LostPackets {
    fn rules(&self, action: &str) {
        for side in ["--dport", "--sport"] {
            let port = self.port.to_string();
            let argv = ["-w", action, "INPUT", "-i", "lo", "-p", "tcp", side, &port, "-j", "DROP"];
            assert!(std::process::Command::new("iptables").args(argv).status().unwrap().success(), "iptables {argv:?}");
        }
    }
}

impl Drop for LostPackets {
    fn drop(&mut self) {
        self.rules("-D");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Wire {
    fn between(agent: TcpStream, broker: TcpStream) -> Wire {
        let (consumes, deaf, dumb) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (from_agent, to_agent) = agent.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let up = tokio::spawn(pump(from_agent, to_broker, deaf.clone(), consumes.clone()));
        let down = tokio::spawn(pump(from_broker, to_agent, dumb.clone(), Arc::default()));
        Wire { consumes, deaf, dumb, pumps: [up, down] }
    }

    fn cut(self) {
        self.pumps.iter().for_each(JoinHandle::abort);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Arc<AtomicBool>, consumes: Arc<AtomicBool>) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = buffer.get(..length).unwrap();
        if part.windows(LISTENER.len()).any(|window| window == LISTENER) {
            consumes.store(true, Ordering::SeqCst);
        }
        if !lost.load(Ordering::SeqCst) && to.write_all(part).await.is_err() {
            return;
        }
    }
    if lost.load(Ordering::SeqCst) {
        // Not even the end of the connection gets through.
        std::future::pending::<()>().await;
    }
}
