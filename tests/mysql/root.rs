//! The user's own root account.

use secrecy::ExposeSecret;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;

use crate::support::{BASE, Guest, logged, request, with_both};

#[test]
fn root_is_enabled_disabled_and_enabled_again() {
    with_both(|which| async move {
        let guest = Guest::new(which, "root", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let (op, root) = (&guest.op, guest.manager.root().unwrap());
        assert!(!root.is_enabled(op).await.unwrap());
        // Nothing to disable is no error.
        root.disable(op).await.unwrap();
        let enabled = root.enable(op, None).await.unwrap();
        let password = enabled.password.unwrap().expose_secret().to_owned();
        assert_eq!((enabled.name.as_str(), enabled.host.as_deref(), enabled.is_root, password.len()), ("root", Some("%"), true, 36));
        assert!(root.is_enabled(op).await.unwrap());
        let again = root.enable(op, Some("planted-Root1".into())).await.unwrap();
        assert_eq!(again.password.unwrap().expose_secret(), "planted-Root1");
        assert_eq!(grants(&guest).await, 1);
        root.disable(op).await.unwrap();
        assert!(!root.is_enabled(op).await.unwrap());
        root.enable(op, Some("planted-Root2".into())).await.unwrap();
        assert!(root.is_enabled(op).await.unwrap());
        assert!(root.enable(op, Some("planted'Root".into())).await.is_err());
        assert!(!logged().contains("planted-Root") && !logged().contains(&password), "the log shows root's password");
        // A restored database keeps its owner's root, a new one does not.
        let mut restored = request(BASE);
        restored.backup_info = serde_json::from_value(serde_json::json!({"id": "b", "location": "http://s/c/o"})).unwrap();
        guest.manager.prepare_server(op, &restored).await.unwrap();
        assert!(root.is_enabled(op).await.unwrap());
        guest.manager.prepare_server(op, &request(BASE)).await.unwrap();
        assert!(!root.is_enabled(op).await.unwrap());
        guest.remove().await;
    });
}

async fn grants(guest: &Guest) -> usize {
    let grants = guest.column(SqlText::new("SHOW GRANTS FOR root@'%'")).await;
    grants
        .iter()
        .flatten()
        .filter(|text| text.contains("ON *.*") && text.contains("WITH GRANT OPTION") && !text.contains("ADMIN"))
        .count()
        .min(1)
}
