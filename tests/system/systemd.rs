//! Service control `systemd`: this test binary runs itself inside a booted guest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use trove_guestagent::system::command::{CommandSpec, SystemCommands};
use trove_guestagent::system::service::{ServiceControl, Systemd, UnitNames, UnitState};

use super::guest::{Guest, PROGRAM};
use super::service_contract::{Setting, UNKNOWN_OPTION, WAIT, check, running_pid};
use super::support::{Script, op, run};

/// Set where the tests run inside the guest.
const INSIDE: &str = "TROVE_TEST_INSIDE_GUEST";
const PLANTED: &str = "/etc/mysql/conf.d/planted.cnf";
const SLOW: &str = "/run/systemd/system/mariadb.service.d";
const SHOW: &str = "systemctl show --no-pager -p Id,LoadState,ActiveState,SubState,Result,MainPID,ControlGroup,Type,TriggeredBy --";

/// The packaged server of the guest.
struct InGuest;

#[async_trait]
impl Setting for InGuest {
    fn spoil(&self, spoiled: bool) {
        if spoiled {
            std::fs::write(PLANTED, format!("[mysqld]\n{UNKNOWN_OPTION}\n")).unwrap();
        } else {
            std::fs::remove_file(PLANTED).unwrap();
        }
    }

    /// systemd wakes a stopped process up when it stops it; so the stop itself is slow.
    async fn stall(&self, _pid: i32, stalled: bool) {
        if stalled {
            std::fs::create_dir_all(SLOW).unwrap();
            std::fs::write(format!("{SLOW}/slow.conf"), "[Service]\nExecStop=/bin/sleep 8\n").unwrap();
        } else {
            std::fs::remove_dir_all(SLOW).unwrap();
        }
        run(&["systemctl", "daemon-reload"]).await;
    }
}

fn systemd(names: &'static [&'static str]) -> Systemd {
    Systemd::new(None, UnitNames::Fixed(names), Arc::new(SystemCommands))
}

#[tokio::test]
async fn the_contract_in_a_guest() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    let program = Utf8PathBuf::from_path_buf(std::env::current_exe().unwrap()).unwrap();
    let guest = Guest::boot(&program).await;
    let myself = CommandSpec::new(PROGRAM)
        .args(["--exact", "system::systemd::the_contract_in_a_guest", "--nocapture"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .timeout(Duration::from_secs(300))
        .accept(&[101]);
    let ran = guest.inside(myself).await.unwrap();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    guest.power_off().await;
}

async fn inside() {
    // Debian's name for it is an alias.
    let service = systemd(&["no-such-database", "mysql", "mysqld", "mariadb"]);
    service.stop(&op(), WAIT).await.unwrap();
    check(&service, &InGuest).await;
    disable_a_unit_with_aliases(&service).await;
    miss_a_unit().await;
    end_at_once_after_a_simple_start().await;
}

/// Disabled, the aliases are gone, and the unit is still found.
async fn disable_a_unit_with_aliases(service: &Systemd) {
    let op = op();
    let wanted = Utf8Path::new("/etc/systemd/system/multi-user.target.wants/mariadb.service");
    service.set_enabled(&op, false).await.unwrap();
    assert!(!wanted.exists());
    assert!(!Utf8Path::new("/etc/systemd/system/mysql.service").exists());
    service.start(&op, WAIT).await.unwrap();
    running_pid(service).await;
    service.set_enabled(&op, true).await.unwrap();
    assert!(wanted.exists());
    service.stop(&op, WAIT).await.unwrap();
}

async fn miss_a_unit() {
    let op = op();
    let missing = systemd(&["no-such-database"]);
    assert_eq!(missing.state(&op).await.unwrap(), UnitState::Missing);
    missing.stop(&op, WAIT).await.unwrap();
    let error = missing.start(&op, WAIT).await.unwrap_err();
    assert!(error.to_string().contains("there is no no-such-database.service on this guest"), "{error}");
    missing.set_enabled(&op, true).await.unwrap_err();
}

/// A unit systemd thinks started, and that ends at once.
async fn end_at_once_after_a_simple_start() {
    let op = op();
    let unit = "[Service]\nType=simple\nExecStart=/bin/ls /planted/no-such-file\nRestart=on-failure\nRestartSec=1h\n";
    std::fs::write("/etc/systemd/system/ends.service", unit).unwrap();
    run(&["systemctl", "daemon-reload"]).await;
    let ends = systemd(&["ends"]);
    let error = ends.start(&op, WAIT).await.unwrap_err();
    assert!(error.to_string().contains("/planted/no-such-file"), "{error}");
    assert_eq!(ends.state(&op).await.unwrap(), UnitState::Failed);
    ends.stop(&op, WAIT).await.unwrap();
}

#[tokio::test]
async fn argument_vectors() {
    let stopped = "Id=mysql.service\nLoadState=not-found\nActiveState=inactive\n\nId=mariadb.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nType=notify\n";
    let script = Script::new(&[(0, stopped), (1, ""), (0, ""), (0, stopped), (0, "")]);
    let service = Systemd::new(None, UnitNames::Fixed(&["mysql", "mariadb.service"]), script.clone());
    service.start(&op(), WAIT).await.unwrap();
    service.set_enabled(&op(), false).await.unwrap();
    let show = format!("{SHOW} mysql.service mariadb.service");
    let expected = [
        show.as_str(),
        "systemctl reset-failed -- mariadb.service",
        "systemctl start -- mariadb.service",
        show.as_str(),
        "systemctl disable -- mariadb.service",
    ];
    assert_eq!(script.lines(), expected);
}
