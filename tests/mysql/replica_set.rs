//! Members of replication sets: guests on ports of their own.

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use trove_guestagent::config::Settings;
use trove_guestagent::error::Result;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatastoreManager, replication};
use trove_guestagent::model::{Overrides, Release, ReplicaInfo};
use trove_guestagent::op::Op;
use trove_guestagent::strategies::replication::ReplicationStrategy;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};

use crate::ports::free_port;
use crate::support::{BASE, Guest, Root, request};

/// What a controller renders for a replica and a source.
pub(crate) const REPLICA: &str = "[mysqld]\nlog_bin = /var/lib/mysql/data/mysql-bin.log\nbinlog_format = MIXED\nrelay_log = /var/lib/mysql/data/mysql-relay-bin.log\n\
    relay_log_info_repository = TABLE\nrelay_log_recovery = 1\nrelay_log_purge = 1\nlog_slave_updates = ON\nenforce_gtid_consistency = ON\n\
    gtid_mode = ON\nread_only = true\n";
pub(crate) const SOURCE: &str = "[mysqld]\nlog_bin = /var/lib/mysql/data/mysql-bin.log\nbinlog_format = MIXED\nenforce_gtid_consistency = ON\ngtid_mode = ON\n\
    log_slave_updates = ON\n";

pub(crate) fn text(config: &str) -> Overrides {
    Overrides::Text(config.into())
}

/// How the members of a set know where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Gtid,
    Binlog,
}

/// A prepared guest of each flavor, stopped: members begin as copies of it, which takes less time than a new database.
async fn template(root: Root) -> &'static Guest {
    static TEMPLATES: [OnceCell<Guest>; Root::COUNT] = [const { OnceCell::const_new() }; Root::COUNT];
    let make = || async {
        let guest = Guest::new(root, "template", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        guest
    };
    TEMPLATES[root.index()].get_or_init(make).await
}

/// A member of a replication set.
pub(crate) struct Member {
    pub(crate) guest: Guest,
    pub(crate) id: u16,
}

impl Member {
    pub(crate) async fn new(root: Root, by: By, id: u16) -> Member {
        Member::with(root, by, id, |_| ()).await
    }

    pub(crate) async fn with(root: Root, by: By, id: u16, change: impl FnOnce(&mut Settings)) -> Member {
        let guest = Guest::new(root, &format!("member{id}"), |settings| {
            settings.guest_id = format!("guest-{id}");
            if by == By::Binlog {
                settings.datastore.replication_strategy = Some("MysqlBinlogReplication".into());
            }
            change(settings);
        });
        let from = &template(root).await.dir;
        let copy = CommandSpec::new("cp").args(["-a", from.join("volume").as_str(), guest.dir.as_str()]);
        SystemCommands.run(&guest.op, copy).await.unwrap();
        // Every server has an identity of its own.
        std::fs::remove_file(guest.dir.join("volume/data/auto.cnf")).ok();
        std::fs::create_dir_all(guest.dir.join("state")).unwrap();
        let login = std::fs::read_to_string(from.join("state/os_admin.cnf")).unwrap();
        std::fs::write(guest.dir.join("state/os_admin.cnf"), login.replace(from.as_str(), guest.dir.as_str())).unwrap();
        let base = BASE
            .replace("skip-networking\n", "bind-address = 127.0.0.1\n")
            .replace("[mysqld]\nport = 3306", &format!("[mysqld]\nport = {}", free_port()))
            .replace("server_id = 1234", &format!("server_id = {id}"))
            .replace("innodb_buffer_pool_size = 300M", "innodb_buffer_pool_size = 32M");
        guest.manager.prepare_server(&guest.op, &request(&base)).await.unwrap();
        Member { guest, id }
    }

    pub(crate) fn replication(&self) -> &dyn ReplicationStrategy {
        self.guest.manager.replication().unwrap()
    }

    pub(crate) fn op(&self) -> &Op {
        &self.guest.op
    }

    /// `get_replica_context`, as a replica on this machine gets it.
    pub(crate) async fn context(&self) -> Value {
        let mut context = Value::Object(replication::context(self.op(), &self.guest.manager, Release::Gazpacho).await.unwrap());
        context["master"]["host"] = json!("127.0.0.1");
        context
    }

    pub(crate) async fn attach_with(&self, info: Value) -> Result<()> {
        let info: ReplicaInfo = serde_json::from_value(info).unwrap();
        replication::attach(self.op(), &self.guest.manager, &info, Some(&text(REPLICA))).await
    }

    pub(crate) async fn follow(&self, source: &Member) -> Result<()> {
        self.attach_with(source.context().await).await
    }

    /// Seeds this instance with the source's data of now, as a restored dump leaves them, and attaches it.
    pub(crate) async fn seed(&self, source: &Member, by: By) {
        let snapshot = self.snapshot(source, by).await;
        self.copy_data(source).await;
        self.attach_with(snapshot).await.unwrap();
    }

    /// A snapshot of the source as it is now, with the note of it that a restored backup leaves here. The source must be idle.
    pub(crate) async fn snapshot(&self, source: &Member, by: By) -> Value {
        let mut context = source.context().await;
        let latest = source.replication().latest_transaction(source.op()).await.unwrap();
        context["dataset"] = json!({"datastore_manager": "x", "dataset_size": 0.01, "volume_size": 1, "snapshot_id": "s"});
        let note = match (by, source.guest.root) {
            (By::Gtid, Root::MySql) => {
                context["dataset"]["log_executed_gtid_set"] = json!(latest);
                return context;
            }
            (By::Gtid, _) => format!("mariadb-bin.000001\t4\t{latest}\n"),
            (By::Binlog, _) => latest.replace(':', "\t"),
        };
        std::fs::write(self.guest.dir.join("volume/data/xtrabackup_binlog_info"), note).unwrap();
        context
    }

    /// The source must be idle.
    async fn copy_data(&self, source: &Member) {
        let rows = source.rows().await;
        self.guest.sql(SqlText::new("CREATE DATABASE IF NOT EXISTS app")).await;
        self.guest.sql(SqlText::new(TABLE)).await;
        for row in rows {
            let (id, word) = row.split_once('|').unwrap();
            self.guest
                .sql(SqlText::new("INSERT INTO app.t VALUES (").number(id.parse::<i64>().unwrap()).raw(", ").literal(word).raw(")"))
                .await;
        }
        self.bring_account(source).await;
    }

    /// Accounts came with the dump, too.
    pub(crate) async fn bring_account(&self, source: &Member) {
        let user =
            source.guest.column(SqlText::new("SELECT User FROM mysql.user WHERE User LIKE 'slave\\_%'")).await.pop().unwrap().unwrap();
        self.guest.sql(SqlText::new("CREATE USER ").literal(&user).raw("@'%' IDENTIFIED BY 'Other-than-it-is-1'")).await;
    }

    pub(crate) async fn write(&self, id: i64) {
        self.guest.sql(SqlText::new("INSERT INTO app.t VALUES (").number(id).raw(", ").literal(&format!("by {}", self.id)).raw(")")).await;
    }

    pub(crate) async fn rows(&self) -> Vec<String> {
        let rows = self.guest.column(SqlText::new("SELECT CONCAT(id, '|', word) FROM app.t ORDER BY id")).await;
        rows.into_iter().flatten().collect()
    }

    /// Waits for everything the source has done.
    pub(crate) async fn catch_up(&self, source: &Member) {
        let latest = source.replication().latest_transaction(source.op()).await.unwrap();
        self.replication().wait_for_transaction(self.op(), &latest).await.unwrap();
        assert_eq!(self.rows().await, source.rows().await);
    }

    pub(crate) async fn follows(&self) -> bool {
        self.replication().last_transaction(self.op()).await.unwrap().0.is_some()
    }

    pub(crate) async fn is_read_only(&self) -> bool {
        self.guest.column(SqlText::new("SELECT IF(@@GLOBAL.read_only, 'yes', 'no')")).await[0].as_deref() == Some("yes")
    }

    pub(crate) fn has_file(&self, change: &str) -> bool {
        self.guest
            .dir
            .join("etc/conf.d")
            .read_dir_utf8()
            .unwrap()
            .any(|entry| entry.unwrap().file_name().ends_with(&format!("-{change}.cnf")))
    }

    pub(crate) async fn replication_users(&self) -> usize {
        self.guest.column(SqlText::new("SELECT User FROM mysql.user WHERE User LIKE 'slave\\_%'")).await.len()
    }

    pub(crate) async fn restart(&self) {
        self.guest.manager.stop(self.op()).await.unwrap();
        self.guest.manager.start(self.op()).await.unwrap();
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS app.t (id BIGINT PRIMARY KEY, word VARCHAR(80) NOT NULL) ENGINE=InnoDB";

/// Makes a source of it, with some rows, ready to be followed.
pub(crate) async fn become_source(member: &Member) {
    member.replication().enable_as_source(member.op(), Some(&text(SOURCE))).await.unwrap();
    member.guest.sql(SqlText::new("CREATE DATABASE app")).await;
    member.guest.sql(SqlText::new(TABLE)).await;
    for id in 1..4 {
        member.write(id).await;
    }
}

/// A source and its replicas.
pub(crate) async fn set(root: Root, by: By, replicas: u16) -> (Member, Vec<Member>) {
    let source = Member::new(root, by, 101).await;
    become_source(&source).await;
    let mut all = Vec::new();
    for number in 0..replicas {
        let replica = Member::new(root, by, 102 + number).await;
        replica.seed(&source, by).await;
        replica.catch_up(&source).await;
        all.push(replica);
    }
    (source, all)
}

pub(crate) async fn remove(members: impl IntoIterator<Item = Member>) {
    for member in members {
        member.guest.remove().await;
    }
}
