//! Backups made while the server serves, and taken back. By the driver: `mongodump` is in no package registry.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::backup::{self, BackupEnv, Finished};
use trove_guestagent::managers::drill::{Drill, Report};
use trove_guestagent::managers::prepare::{self, PrepareEnv};
use trove_guestagent::model::{BackupMetadata, BackupRequest, PrepareRequest, Release, RestoreRequest};
use trove_guestagent::op::Op;
use trove_guestagent::strategies::backup::mongodb::archive::{ArchiveReader, Event, Namespace};
use trove_guestagent::strategies::backup::{BackupJob, BackupRunner, BackupStream};
use trove_guestagent::strategies::storage::{Storage, StorageRequest, storage_for};
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::mongodb::Session;

use crate::support::{Guest, NoPackages, logged, run};

const ID: &str = "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f10";
/// Made by mongodump 100.x of a server 6.0.5: `shop` with an index, a view, a time series and a user.
const MONGODUMP: &[u8] = include_bytes!("mongodump.archive");

async fn storage(guest: &Guest) -> Arc<dyn Storage> {
    let request = StorageRequest { swift_url: None, storage_driver: None, release: Some(Release::Train) };
    storage_for(&guest.op, &guest.settings, &request).await.unwrap()
}

pub(crate) async fn back_up(guest: &Guest, with: Option<&dyn BackupRunner>) -> trove_guestagent::Result<Finished> {
    let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": ID})).unwrap();
    let backups = guest.manager.backups().unwrap();
    let own = backup::runner(&guest.op, backups, &request).await?;
    let runner = with.unwrap_or(&*own);
    assert_eq!(backup::type_word(Release::Train, runner.name(), false), "MongoDump");
    let (settings, storage) = (guest.settings.clone(), storage(guest).await);
    let env = BackupEnv { settings, storage, release: Release::Train, mount_point: guest.manager.mount_point() };
    env.create(&guest.op, backups, runner, &request).await
}

/// `prepare` from a backup, as the dispatcher runs it.
async fn restore(target: &Guest, finished: &Finished) -> trove_guestagent::Result<bool> {
    let request: PrepareRequest = serde_json::from_value(serde_json::json!({
        "config_contents": target.base(""),
        "backup_info": {"id": ID, "location": finished.location, "checksum": finished.checksum, "type": "MongoDump"},
    }))
    .unwrap();
    let env = PrepareEnv { settings: target.settings.clone(), commands: Arc::new(SystemCommands), packages: Arc::new(NoPackages) };
    prepare::run(&target.op, &target.manager, &env, &request).await.map(|outcome| outcome.root_enabled)
}

async fn hold(guest: &Guest, finished: &Finished) -> trove_guestagent::Result<Report> {
    let room = guest.dir.join("volume");
    let drill =
        Drill { settings: &guest.settings.backup, storage: storage(guest).await, state_dir: &guest.settings.state_dir, room: &room };
    let request = RestoreRequest::of(finished.location.clone(), Some(finished.checksum.clone()), Some(finished.runner.clone()));
    let report = drill.hold(&guest.op, guest.manager.backups().unwrap(), &request).await;
    assert!(!room.join(".trove-drill").exists(), "a drill leaves nothing");
    report
}

/// Stores these bytes as the archive of a backup.
#[derive(Debug)]
struct Given(Vec<u8>);

#[async_trait]
impl BackupRunner for Given {
    fn name(&self) -> &'static str {
        "MongoDump"
    }
    fn extension(&self) -> &'static str {
        ""
    }
    async fn start(&self, _op: &Op, _job: &BackupJob) -> trove_guestagent::Result<BackupStream> {
        let reader = Box::pin(std::io::Cursor::new(self.0.clone()));
        Ok(BackupStream { reader, finish: Box::pin(async { Ok(BackupMetadata::new()) }) })
    }
}

/// Collections of every kind, indexes of every kind, users and roles.
async fn fill(guest: &Guest) {
    let ask = |command: Document| guest.ask("shop", command);
    let documents: Vec<Document> =
        (0..3000).map(|number| doc! {"_id": number, "sku": format!("s{number}"), "tags": ["a", "b"], "n": {"m": 1_i64 << 40}}).collect();
    ask(doc! {"create": "items", "validator": {"sku": {"$type": "string"}}, "collation": {"locale": "de"}}).await;
    ask(doc! {"insert": "items", "documents": documents}).await;
    ask(doc! {"createIndexes": "items", "indexes": [
        {"key": {"sku": 1}, "name": "sku", "unique": true},
        {"key": {"z": 1, "a": -1, "m": 1}, "name": "in this order"},
        {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 1},
        {"key": {"part": 1}, "name": "partial", "partialFilterExpression": {"part": {"$gt": 5}}},
        {"key": {"text": "text"}, "name": "words", "collation": {"locale": "simple"}},
        {"key": {"$**": 1}, "name": "all"},
    ]})
    .await;
    // It would be gone within a minute if the server that loads it looked.
    ask(doc! {"create": "log", "capped": true, "size": 65536, "max": 10}).await;
    ask(doc! {"insert": "log", "documents": (0..20).map(|n| doc! {"_id": n}).collect::<Vec<_>>()}).await;
    ask(doc! {"create": "cheap", "viewOn": "items", "pipeline": [{"$match": {"_id": {"$lt": 10}}}]}).await;
    ask(doc! {"create": "weather", "timeseries": {"timeField": "at", "metaField": "place", "granularity": "minutes"}}).await;
    let at = |minute: i64| mongodb::bson::DateTime::from_millis(1_700_000_000_000 + minute * 60_000);
    let measured: Vec<Document> = (0..500).map(|minute| doc! {"at": at(minute), "place": minute % 3, "t": 20.5}).collect();
    ask(doc! {"insert": "weather", "documents": measured}).await;
    ask(doc! {"create": "empty"}).await;
    ask(doc! {"insert": "it's.a \u{1f600} name", "documents": [{"_id": {"a": 1}}]}).await;
    ask(
        doc! {"createRole": "clerk", "privileges": [{"resource": {"db": "shop", "collection": "items"}, "actions": ["find"]}], "roles": []},
    )
    .await;
    ask(doc! {"createUser": "ann", "pwd": "planted-ann", "roles": ["clerk"]}).await;
    guest.ask("other", doc! {"insert": "c", "documents": [{"_id": 1}]}).await;
}

/// What collections there are, with options, indexes and a checksum of their documents.
async fn picture(session: &Session, op: &Op, database: &str) -> Vec<Document> {
    let hashes = session.run(op, "test", database, doc! {"dbHash": 1}).await.unwrap();
    let mut found = session.documents(op, "test", database, doc! {"listCollections": 1}).await.unwrap();
    found.sort_by_key(|collection| collection.get_str("name").unwrap().to_owned());
    for collection in &mut found {
        let name = collection.get_str("name").unwrap().to_owned();
        collection.get_document_mut("info").unwrap().remove("uuid");
        let hash = hashes.get_document("collections").unwrap().get(&name).cloned();
        collection.insert("hash", hash);
        if !collection.get_str("type").is_ok_and(|kind| kind == "view") {
            let mut indexes = session.documents(op, "test", database, doc! {"listIndexes": &name}).await.unwrap();
            indexes.sort_by_key(|index| index.get_str("name").unwrap().to_owned());
            collection.insert("indexes", indexes);
        }
    }
    found
}

#[test]
fn collections_indexes_views_time_series_and_users_come_back_through_the_driver() {
    run(async {
        let source = Guest::prepared("source").await;
        fill(&source).await;
        let finished = back_up(&source, None).await.unwrap();
        let wanted = picture(&source.agent().await, &source.op, "shop").await;
        let report = hold(&source, &finished).await.unwrap().found;
        assert_eq!((report.databases, report.problems), (2, Vec::<String>::new()));
        let target = source.beside("target");
        restore(&target, &finished).await.unwrap();
        let found = picture(&target.agent().await, &target.op, "shop").await;
        assert_eq!(found, wanted);
        assert!(!target.dir.join("state/restoring").exists() && !target.dir.join("volume/.trove-private").exists());
        // The user logs in with the old password, and may what she might.
        let ann = target.user(Some(("shop", "ann", "planted-ann"))).await.unwrap();
        let cheap = ann.documents(&target.op, "test", "shop", doc! {"find": "items", "filter": {"_id": {"$lt": 3}}}).await.unwrap();
        assert_eq!(cheap.len(), 3);
        assert!(ann.documents(&target.op, "test", "shop", doc! {"find": "log"}).await.is_err());
        let measured =
            target.agent().await.documents(&target.op, "test", "shop", doc! {"find": "weather", "batchSize": 1000}).await.unwrap();
        assert_eq!(measured.len(), 500);
        let log = logged();
        for guest in [&source, &target] {
            let text = std::fs::read_to_string(guest.dir.join("state/os_mongo_admin_creds.json")).unwrap();
            let login: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(!log.contains(login["password"].as_str().unwrap()));
        }
        target.remove().await;
        source.remove().await;
    });
}

/// Writes until it is told to stop: pairs in transactions, documents that move in a scan, values of a unique index that change hands.
async fn write_pairs(guest: &Guest, done: tokio_util::sync::CancellationToken) -> i64 {
    let session = guest.agent().await;
    let database = session.driver().database("shop");
    let collection = |name: &str| database.collection::<Document>(name);
    let (left, right, moving, unique) = (collection("left"), collection("right"), collection("moving"), collection("unique"));
    let mut pairs = session.driver().start_session().await.unwrap();
    let mut number = 0_i64;
    while !done.is_cancelled() {
        number += 1;
        pairs.start_transaction().await.unwrap();
        left.insert_one(doc! {"_id": number}).session(&mut pairs).await.unwrap();
        right.insert_one(doc! {"_id": number}).session(&mut pairs).await.unwrap();
        pairs.commit_transaction().await.unwrap();
        moving.delete_one(doc! {"_id": 1}).await.unwrap();
        moving.insert_one(doc! {"_id": 1, "number": number}).await.unwrap();
        let (from, to) = (number % 2, (number + 1) % 2);
        unique.update_one(doc! {"_id": from}, doc! {"$unset": {"token": 1}}).await.unwrap();
        unique.update_one(doc! {"_id": to}, doc! {"$set": {"token": "only", "number": number}}).await.unwrap();
        if number == 20 {
            database.run_command(doc! {"createIndexes": "left", "indexes": [{"key": {"late": 1}, "name": "late"}]}).await.unwrap();
            database.run_command(doc! {"createUser": "late", "pwd": "planted-late", "roles": ["readWrite"]}).await.unwrap();
        }
    }
    number
}

#[test]
fn a_backup_of_a_replica_set_under_load_is_of_one_moment() {
    run(async {
        let source = Guest::new("load");
        source.prepare_set("rs0").await;
        source
            .ask(
                "shop",
                doc! {"insert": "filler", "documents": (0..20_000).map(|n| doc! {"_id": n, "x": "y".repeat(200)}).collect::<Vec<_>>()},
            )
            .await;
        source.ask("shop", doc! {"insert": "unique", "documents": [{"_id": 0}, {"_id": 1}]}).await;
        let sparse = doc! {"key": {"token": 1}, "name": "token", "unique": true, "partialFilterExpression": {"token": {"$exists": true}}};
        source.ask("shop", doc! {"createIndexes": "unique", "indexes": [sparse]}).await;
        for name in ["left", "right", "moving"] {
            source.ask("shop", doc! {"create": name}).await;
        }
        let (done, source) = (tokio_util::sync::CancellationToken::new(), Arc::new(source));
        let (ended, writing) = (done.clone(), Arc::clone(&source));
        let writer = tokio::spawn(async move { write_pairs(&writing, ended).await });
        let begun = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while source.ask("shop", doc! {"count": "left"}).await.get_i32("n").unwrap() < 30 {
                look.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap();
        let before = i64::from(source.ask("shop", doc! {"count": "left"}).await.get_i32("n").unwrap());
        let finished = back_up(&source, None).await.unwrap();
        let after = i64::from(source.ask("shop", doc! {"count": "left"}).await.get_i32("n").unwrap());
        done.cancel();
        writer.await.unwrap();
        assert!(finished.metadata.contains_key("oplog_end"));
        let target = source.beside("moment");
        restore(&target, &finished).await.unwrap();
        let agent = target.agent().await;
        let ids = async |name: &str| -> Vec<i64> {
            let found =
                agent.documents(&target.op, "test", "shop", doc! {"find": name, "sort": {"_id": 1}, "batchSize": 100_000}).await.unwrap();
            found.iter().map(|document| document.get_i64("_id").unwrap()).collect()
        };
        let (left, right) = (ids("left").await, ids("right").await);
        let count = i64::try_from(left.len()).unwrap();
        // All up to one moment between begin and end of the backup, and nothing after it.
        assert_eq!(left, (1..=count).collect::<Vec<_>>());
        assert_eq!(left, right);
        assert!((before..=after + 1).contains(&count), "{before} {count} {after}");
        let moving = agent.documents(&target.op, "test", "shop", doc! {"find": "moving"}).await.unwrap();
        assert!(
            moving.len() <= 1 && moving.iter().all(|one| (count - 1..=count).contains(&one.get_i64("number").unwrap())),
            "{moving:?} {count}"
        );
        let indexes = agent.documents(&target.op, "test", "shop", doc! {"listIndexes": "unique"}).await.unwrap();
        assert_eq!(indexes.len(), 2);
        target.user(Some(("shop", "late", "planted-late"))).await.unwrap();
        target.remove().await;
        Arc::into_inner(source).unwrap().remove().await;
    });
}

/// The files of `mongodump --out`, with what the real one wrote into its archive, in a tar as Train's agent made it (mongo_impl.py).
fn tar_of_the_python_agent(guest: &Guest) -> Vec<u8> {
    // Longer than names in a header of tar may be.
    let root = guest.dir.join("x".repeat(120)).join("dump");
    let file = |namespace: &Namespace, ending: &str| {
        let escaped = namespace.collection.replace(' ', "+");
        root.join(&namespace.database).join(format!("{escaped}.{ending}"))
    };
    let mut reader = ArchiveReader::default();
    reader.push(MONGODUMP);
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            Event::Prelude(prelude) => {
                for found in &prelude.collections {
                    std::fs::create_dir_all(root.join(&found.namespace.database)).unwrap();
                    std::fs::write(file(&found.namespace, "metadata.json"), &found.metadata).unwrap();
                }
            }
            Event::Document(namespace, document) => {
                let path = file(&namespace, "bson");
                let mut output = std::fs::File::options().append(true).create(true).open(path).unwrap();
                std::io::Write::write_all(&mut output, &document).unwrap();
            }
            Event::End(_) => {}
        }
    }
    let tar = std::process::Command::new("tar").args(["cPf", "-", root.as_str()]).output().unwrap();
    assert!(tar.status.success());
    tar.stdout
}

#[test]
fn what_the_real_mongodump_wrote_comes_back_through_the_driver_as_an_archive_and_as_the_tar_of_train() {
    run(async {
        let source = Guest::prepared("made").await;
        for bytes in [MONGODUMP.to_vec(), tar_of_the_python_agent(&source)] {
            let finished = back_up(&source, Some(&Given(bytes))).await.unwrap();
            let target = source.beside("taken");
            restore(&target, &finished).await.unwrap();
            let agent = target.agent().await;
            let found = agent.documents(&target.op, "test", "shop", doc! {"find": "items", "sort": {"_id": 1}}).await.unwrap();
            assert_eq!(found.len(), 3);
            assert_eq!(agent.documents(&target.op, "test", "shop", doc! {"find": "cheap"}).await.unwrap().len(), 2);
            assert_eq!(agent.documents(&target.op, "test", "shop", doc! {"find": "weather"}).await.unwrap().len(), 5);
            assert_eq!(agent.documents(&target.op, "test", "shop", doc! {"listIndexes": "items"}).await.unwrap().len(), 2);
            target.user(Some(("shop", "ann", "planted-ann"))).await.unwrap();
            assert!(!target.dir.join("volume/.trove-private").exists());
            target.remove().await;
        }
        source.remove().await;
    });
}

#[test]
fn a_damaged_archive_fails_the_prepare_with_its_reason() {
    run(async {
        let source = Guest::prepared("damaged").await;
        let at = MONGODUMP.windows(6).rposition(|window| window == b"sku-2\0").unwrap();
        let mut flipped = MONGODUMP.to_vec();
        flipped[at] ^= 1;
        let cut = MONGODUMP[..MONGODUMP.len() - 10].to_vec();
        let tar = tar_of_the_python_agent(&source);
        let half = tar[..tar.len() / 2].to_vec();
        let damaged = [
            (flipped, "the checksum of shop.items is not that of its documents"),
            (cut, "ends in the middle"),
            (half, "ends in the middle"),
        ];
        for (bytes, reason) in damaged {
            let finished = back_up(&source, Some(&Given(bytes))).await.unwrap();
            let target = source.beside("half");
            let error = restore(&target, &finished).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            // Nobody takes half of a database for one.
            assert!(target.manager.start(&target.op).await.unwrap_err().to_string().contains("holds half of a restored backup"));
            target.remove().await;
        }
        source.remove().await;
    });
}
