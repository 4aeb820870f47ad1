//! A whole guest with its own systemd: `systemd-nspawn` on an overlay.

use std::fs::File;
use std::time::Duration;

use camino::Utf8Path;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use trove_guestagent::system::command::{CommandOutput, CommandRunner, CommandSpec, SystemCommands, spawn_detached};

use super::support::{Overlay, op, wait_until};

const BOOT: Duration = Duration::from_secs(180);

/// Where the guest has the program it was booted with.
pub(crate) const PROGRAM: &str = "/opt/trove-test";

/// A booted guest without a network. Ends with the test.
#[derive(Debug)]
pub(crate) struct Guest {
    _overlay: Overlay,
    machine: Child,
    leader: i32,
}

impl Guest {
    /// Boots; `program` is put into the guest as [`PROGRAM`].
    pub(crate) async fn boot(program: &Utf8Path) -> Self {
        let overlay = Overlay::new().await;
        std::fs::copy(program, overlay.root.join(PROGRAM.trim_start_matches('/'))).unwrap();
        std::fs::remove_file(overlay.root.join("usr/sbin/policy-rc.d")).ok();
        let name = format!("trove-test-{}", std::process::id());
        let root = format!("--directory={}", overlay.root);
        let machine = format!("--machine={name}");
        let options = ["--register=no", "--keep-unit", "--quiet", "--boot", "--private-network", "--console=pipe", &root, &machine];
        let console = File::create(overlay.root.join("../console").as_std_path()).unwrap();
        let machine = spawn_detached(&CommandSpec::new("systemd-nspawn").args(options), console).unwrap();
        let mut guest = Guest { _overlay: overlay, machine, leader: 0 };
        guest.wait_for_boot().await;
        guest
    }

    async fn wait_for_boot(&mut self) {
        let nspawn = self.machine.id().unwrap();
        let children = format!("/proc/{nspawn}/task/{nspawn}/children");
        let mut leader = 0;
        wait_until("the guest has a first process", BOOT, async || {
            leader = std::fs::read_to_string(&children).unwrap_or_default().split_whitespace().next().map_or(0, |pid| pid.parse().unwrap());
            leader != 0
        })
        .await;
        self.leader = leader;
        wait_until("the guest has booted", BOOT, async || {
            let state = self.inside(CommandSpec::new("systemctl").arg("is-system-running").accept(&[1])).await;
            state.is_ok_and(|state| matches!(state.stdout.trim(), "running" | "degraded"))
        })
        .await;
    }

    /// Runs a program in the guest.
    pub(crate) async fn inside(&self, command: CommandSpec) -> trove_guestagent::Result<CommandOutput> {
        let leader = self.leader.to_string();
        SystemCommands.run(&op(), command.wrapped_by("nsenter", ["-t", &leader, "-m", "-u", "-i", "-n", "-p"])).await
    }

    /// Shuts down in good order.
    pub(crate) async fn power_off(mut self) {
        kill(Pid::from_raw(self.machine.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
        tokio::time::timeout(BOOT, self.machine.wait()).await.expect("the guest shuts down").unwrap();
        self.leader = 0;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.leader != 0 {
            // The first process of a guest takes the others with it.
            kill(Pid::from_raw(self.leader), Signal::SIGKILL).ok();
        }
    }
}
