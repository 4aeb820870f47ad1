//! The logs of real servers: switched at once and for good, put back when refused, published to a folder.

use serde_json::json;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::logs::{self, LogDetails, LogEnv, LogKind, LogState};
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::Release;

use crate::support::{BASE, Guest, request, with_both};

async fn action(guest: &Guest, log: &str, what: &str) -> LogDetails {
    let env = LogEnv { settings: guest.settings.clone(), release: Release::Train, exposed: guest.manager.descriptor().exposed_logs };
    let arguments = json!({"log_name": log, what: true});
    logs::action(&guest.op, &env, guest.manager.logs().unwrap(), &serde_json::from_value(arguments).unwrap()).await.unwrap()
}

async fn state(guest: &Guest, name: &str) -> LogState {
    let all = guest.manager.logs().unwrap().definitions(&guest.op).await.unwrap();
    match all.iter().find(|log| log.name == name).unwrap().kind {
        LogKind::User(state) => state,
        LogKind::System => panic!("{name} is a log of the system"),
    }
}

/// What is published of a log.
fn published(guest: &Guest, details: &LogDetails) -> String {
    let folder = guest.dir.join("stored").join(&details.container);
    let prefix = details.prefix.replace('/', "%2F");
    let mut files: Vec<_> = folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    files.retain(|path| path.file_name().unwrap().starts_with(&prefix));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn logs_are_switched_and_published_and_survive_restarts() {
    with_both(|root| async move {
        let guest = Guest::new(root, "logs", |settings| {
            settings.backup.storage_strategy = "local".to_owned();
            settings.guest_log.long_query_time = Some(0);
            settings.guest_log.exposed = Some(vec!["all".to_owned()]);
        });
        let mut settings = (*guest.settings).clone();
        settings.storage.local_dir = Some(guest.dir.join("stored"));
        let guest = Guest { settings: settings.into(), ..guest };
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        assert_eq!(action(&guest, "general", "unknown").await.status, "Disabled");
        assert_eq!(state(&guest, "general").await, LogState::Off);

        // At once.
        let details = action(&guest, "general", "enable").await;
        assert!(["Ready", "Enabled"].contains(&details.status), "{details:?}");
        guest.sql(SqlText::new("SELECT 'first-mark'")).await;
        let details = action(&guest, "general", "publish").await;
        assert!(published(&guest, &details).contains("first-mark"));
        action(&guest, "slow_query", "enable").await;
        guest.sql(SqlText::new("SELECT 'slow-mark'")).await;
        let details = action(&guest, "slow_query", "publish").await;
        assert!(published(&guest, &details).contains("slow-mark"));
        let details = action(&guest, "error", "publish").await;
        assert!(published(&guest, &details).contains("ready for connections"), "{details:?}");

        // For good, with another base configuration, and for an agent that was started again.
        guest.manager.stop(&guest.op).await.unwrap();
        guest.manager.start_with_configuration(&guest.op, BASE).await.unwrap();
        let again = guest.agent_again();
        assert_eq!(state(&again, "general").await, LogState::On);
        guest.sql(SqlText::new("SELECT 'second-mark'")).await;
        let details = action(&again, "general", "publish").await;
        let text = published(&guest, &details);
        assert!(text.contains("first-mark") && text.contains("second-mark"));

        // The server's own rotation.
        let file = guest.dir.join(format!("volume/data/{}-general.log", guest.settings.datastore_manager));
        std::fs::rename(&file, file.with_extension("old")).unwrap();
        guest.sql(SqlText::new("FLUSH LOGS")).await;
        guest.sql(SqlText::new("SELECT 'third-mark'")).await;
        assert_eq!(action(&guest, "general", "unknown").await.status, "Rotated");
        let details = action(&guest, "general", "publish").await;
        let text = published(&guest, &details);
        assert!(!text.contains("first-mark") && text.contains("third-mark"));

        assert_eq!(action(&guest, "general", "disable").await.status, "Disabled");
        guest.manager.stop(&guest.op).await.unwrap();
        // Without a server.
        assert_eq!(action(&guest, "general", "enable").await.status, "Restart Required");
        guest.manager.start(&guest.op).await.unwrap();
        assert_eq!(state(&guest, "general").await, LogState::On);
        guest.remove().await;
    });
}

#[test]
fn a_refused_switch_changes_nothing() {
    with_both(|root| async move {
        let guest = Guest::new(root, "refused-log", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        // The file is in the server's way.
        let file = guest.dir.join(format!("volume/data/{}-general.log", guest.settings.datastore_manager));
        std::fs::create_dir(&file).unwrap();
        assert!(guest.manager.logs().unwrap().switch(&guest.op, "general", true).await.is_err());
        let files: Vec<_> =
            guest.dir.join("etc/conf.d").read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        assert!(files.iter().all(|name| !name.contains("general_log")), "{files:?}");
        assert_eq!(state(&guest, "general").await, LogState::Off);
        std::fs::remove_dir(&file).unwrap();
        guest.manager.logs().unwrap().switch(&guest.op, "general", true).await.unwrap();
        guest.remove().await;
    });
}
