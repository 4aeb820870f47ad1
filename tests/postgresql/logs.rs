//! The server's logs: switched for good, put back when refused, published to a folder.

use serde_json::json;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::logs::{self, LogDetails, LogEnv, LogKind, LogState};
use trove_guestagent::model::{Release, ServiceStatus};
use trove_guestagent::system::postgresql::SqlText;

use crate::support::{Guest, run};

async fn action(guest: &Guest, log: &str, what: &str) -> LogDetails {
    let env = LogEnv { settings: guest.settings.clone(), release: Release::Train, exposed: guest.manager.descriptor().exposed_logs };
    let arguments = json!({"log_name": log, what: true});
    logs::action(&guest.op, &env, guest.manager.logs().unwrap(), &serde_json::from_value(arguments).unwrap()).await.unwrap()
}

async fn state(guest: &Guest) -> LogState {
    let all = guest.manager.logs().unwrap().definitions(&guest.op).await.unwrap();
    match all.iter().find(|log| log.name == "general").unwrap().kind {
        LogKind::User(state) => state,
        LogKind::System => panic!("it is a log of the system"),
    }
}

fn published(guest: &Guest, details: &LogDetails) -> String {
    let folder = guest.dir.join("stored").join(&details.container);
    let prefix = details.prefix.replace('/', "%2F");
    let mut files: Vec<_> = folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    files.retain(|path| path.file_name().unwrap().starts_with(&prefix));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

async fn say(guest: &Guest, mark: &str) {
    guest.rows(&SqlText::new("SELECT ").literal(mark)).await;
}

async fn restart(guest: &Guest) {
    guest.manager.stop(&guest.op).await.unwrap();
    guest.manager.start(&guest.op).await.unwrap();
    guest.until(ServiceStatus::Running).await;
}

#[test]
fn the_general_log_is_switched_and_published_and_survives_restarts() {
    run(async {
        let guest = Guest::changed("logs", |settings| {
            settings.backup.storage_strategy = "local".to_owned();
            settings.storage.local_dir = Some(settings.state_dir.with_file_name("stored"));
            settings.guest_log.exposed = Some(vec!["all".to_owned()]);
        });
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        assert_eq!(action(&guest, "general", "unknown").await.status, "Disabled");
        // The collector begins with the server.
        assert_eq!(action(&guest, "general", "enable").await.status, "Restart Required");
        assert_eq!(guest.manager.status().probe(&guest.op).await, ServiceStatus::RestartRequired);
        restart(&guest).await;
        assert_eq!(state(&guest).await, LogState::On);
        say(&guest, "first-mark").await;
        let details = action(&guest, "general", "publish").await;
        assert!(published(&guest, &details).contains("first-mark"), "{details:?}");
        let details = action(&guest, "error", "publish").await;
        assert!(published(&guest, &details).contains("ready to accept connections"), "{details:?}");
        let file = guest.dir.join("mnt/data/log/postgresql-general.log");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);

        // With another base configuration, and for an agent that was started again.
        guest.manager.start_with_configuration(&guest.op, &guest.base("")).await.unwrap();
        let guest = guest.agent_again();
        assert_eq!(state(&guest).await, LogState::On);
        say(&guest, "second-mark").await;
        let text = published(&guest, &action(&guest, "general", "publish").await);
        assert!(text.contains("first-mark") && text.contains("second-mark"));

        std::fs::rename(&file, file.with_extension("old")).unwrap();
        guest.rows(&SqlText::new("SELECT pg_rotate_logfile()")).await;
        let rotated = async {
            let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
            while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("third-mark")) {
                look.tick().await;
                say(&guest, "third-mark").await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), rotated).await.unwrap();
        let text = published(&guest, &action(&guest, "general", "publish").await);
        assert!(!text.contains("first-mark") && text.contains("third-mark"));

        // Statements are not written any more, at once; the collector ends with the server.
        assert_eq!(action(&guest, "general", "disable").await.status, "Disabled");
        say(&guest, "fourth-mark").await;
        assert!(!std::fs::read_to_string(&file).unwrap().contains("fourth-mark"));
        guest.manager.stop(&guest.op).await.unwrap();
        assert_eq!(action(&guest, "general", "enable").await.status, "Restart Required");
        guest.manager.start(&guest.op).await.unwrap();
        assert_eq!(state(&guest).await, LogState::On);
        guest.remove().await;
    });
}
