//! A stand-in of a query router. There is no `mongos` for this machine: what one keeps on its config servers (accounts, logins) is answered by the real primary of
//! those, what it knows itself (shards, that it is a router) from a script, in the words of the manual ("addShard", "listShards", "hello").

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use camino::Utf8Path;
use mongodb::bson::{Bson, Document, doc};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

const HEADER: usize = 16;
const OP_MSG: i32 = 2013;
/// A program that says what it is, reads any configuration, and runs.
const PROGRAM: &str =
    "#!/bin/sh\ncase \"$1\" in\n--version) echo 'mongos version v6.0.5' ;;\n--outputConfig) exit 0 ;;\n*) exec sleep 100000 ;;\nesac\n";

/// Puts the program in its place.
pub(crate) fn install(path: &Utf8Path) {
    std::fs::write(path, PROGRAM).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Answers at a socket. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Router {
    task: JoinHandle<()>,
    asked: Arc<Mutex<Vec<Document>>>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Router {
    /// In front of the primary of the config servers.
    pub(crate) fn listen(socket: &Utf8Path, config_port: u16) -> Router {
        let listener = UnixListener::bind(socket).unwrap();
        let asked: Arc<Mutex<Vec<Document>>> = Arc::default();
        let (log, shards) = (Arc::clone(&asked), Arc::<Mutex<Vec<String>>>::default());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (log, shards) = (Arc::clone(&log), Arc::clone(&shards));
                // A client that goes ends its conversation.
                tokio::spawn(async move { converse(client, config_port, &log, &shards).await.ok() });
            }
        });
        Router { task, asked }
    }

    /// What it was asked by this name, in order.
    pub(crate) fn asked(&self, name: &str) -> Vec<Document> {
        let is_it = |command: &&Document| command.keys().next().is_some_and(|first| first == name);
        self.asked.lock().unwrap().iter().filter(is_it).cloned().collect()
    }
}

async fn message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    stream.read_exact(&mut bytes).await?;
    let length = usize::try_from(i32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap();
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[HEADER..]).await?;
    Ok(bytes)
}

/// The document of a message without a sequence.
fn document(message: &[u8]) -> Option<Document> {
    let opcode = i32::from_le_bytes(message[12..16].try_into().unwrap());
    (opcode == OP_MSG && message[20] == 0).then(|| Document::from_reader(&message[21..]).unwrap())
}

fn reply(request: &[u8], answer: &Document) -> Vec<u8> {
    let body = answer.to_vec().unwrap();
    let mut bytes = i32::try_from(HEADER + 5 + body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(1_i32.to_le_bytes());
    bytes.extend(&request[4..8]);
    bytes.extend(OP_MSG.to_le_bytes());
    bytes.extend([0; 5]);
    bytes.extend(body);
    bytes
}

/// A router is in no replica set, and says that it is one.
fn as_router(mut greeting: Document) -> Document {
    for of_set in ["setName", "setVersion", "hosts", "primary", "me", "secondary", "electionId", "lastWrite", "topologyVersion"] {
        greeting.remove(of_set);
    }
    greeting.insert("msg", "isdbgrid");
    greeting
}

fn scripted(command: &Document, shards: &Mutex<Vec<String>>) -> Option<Document> {
    if let Ok(shard) = command.get_str("addShard") {
        let name = shard.split('/').next().unwrap().to_owned();
        if name == "nobody" {
            let message = format!("Could not find host matching read preference {{ mode: \"primary\" }} for set {name}");
            return Some(doc! { "ok": 0.0, "errmsg": message, "code": 133, "codeName": "FailedToSatisfyReadPreference" });
        }
        let mut shards = shards.lock().unwrap();
        if !shards.iter().any(|other| other == shard) {
            shards.push(shard.to_owned());
        }
        return Some(doc! { "shardAdded": name, "ok": 1.0 });
    }
    command.contains_key("listShards").then(|| {
        let of = |shard: &String| Bson::from(doc! { "_id": shard.split('/').next().unwrap(), "host": shard, "state": 1 });
        doc! { "shards": shards.lock().unwrap().iter().map(of).collect::<Vec<_>>(), "ok": 1.0 }
    })
}

async fn converse(mut client: UnixStream, config_port: u16, log: &Mutex<Vec<Document>>, shards: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", config_port)).await?;
    loop {
        let request = message(&mut client).await?;
        let command = document(&request);
        if let Some(command) = &command {
            log.lock().unwrap().push(command.clone());
            if let Some(answer) = scripted(command, shards) {
                client.write_all(&reply(&request, &answer)).await?;
                continue;
            }
        }
        server.write_all(&request).await?;
        let answer = message(&mut server).await?;
        let greets = command
            .is_some_and(|command| command.contains_key("hello") || command.contains_key("isMaster") || command.contains_key("ismaster"));
        match document(&answer).filter(|_| greets) {
            Some(greeting) => client.write_all(&reply(&request, &as_router(greeting))).await?,
            None => client.write_all(&answer).await?,
        }
    }
}
