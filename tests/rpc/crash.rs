//! Crash points: the agent is killed in front of one step after the other (`crash.c`), starts again, and has to come out right.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use camino::Utf8PathBuf;

use crate::support::{Guest, until};

/// The library that kills, built once.
fn library() -> &'static str {
    static LIBRARY: OnceLock<Utf8PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| crate::preload::build("tests/rpc/crash.c")).as_str()
}

/// How an operation at one crash point went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The agent was killed there, and runs again.
    Killed,
    /// The operation has fewer steps.
    Done,
}

/// What a step is without made-up names. A file that is new and its directory are one kind: they are synced one after the other.
pub(crate) fn kind(step: &str) -> String {
    let named = step.split_once("/.trove-").map_or(step, |(before, _)| before);
    named.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The kinds of steps, and how often each comes: the last step of a kind has this number.
pub(crate) fn kinds(steps: &[String]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for step in steps {
        *kinds.entry(kind(step)).or_default() += 1;
    }
    kinds
}

/// Set for sweeps that kill at every point (`dev/crash-sweep`).
const EVERY: &str = "TROVE_TEST_EVERY_CRASH_POINT";

/// Where to kill, by kind and number: at the last step of each kind, or at every one.
pub(crate) fn points(steps: &[String]) -> Vec<(String, usize)> {
    let every = std::env::var_os(EVERY).is_some();
    let first = |times: usize| if every { 1 } else { times };
    kinds(steps).into_iter().flat_map(|(kind, times)| (first(times)..=times).map(move |number| (kind.clone(), number))).collect()
}

/// For whoever counts: how often an operation was killed, and how many steps it had undisturbed (one more or less each time).
pub(crate) fn report(what: &str, killed: usize, steps: usize) {
    eprintln!("crash points of {what}: killed {killed} times, {steps} steps undisturbed");
}

impl Guest {
    /// Starts the agent so that [`Self::crash_at`] can kill it.
    pub(crate) fn start_mortal(&self) {
        let directory = self.dir.join("crash");
        std::fs::create_dir_all(&directory).unwrap();
        self.start_with(&[("LD_PRELOAD", library()), ("CRASH_DIR", directory.as_str())]);
    }

    /// From now on steps count, and the one with this number is the last.
    pub(crate) fn crash_at(&self, step: usize) {
        self.crash_at_one_of("", step);
    }

    /// The same for steps of one kind alone, unless it is empty.
    pub(crate) fn crash_at_one_of(&self, kind: &str, number: usize) {
        std::fs::remove_file(self.dir.join("crash/steps")).ok();
        // Whole at once: the agent looks at it any time.
        std::fs::write(self.dir.join("crash/next"), format!("{number} {kind}")).unwrap();
        std::fs::rename(self.dir.join("crash/next"), self.dir.join("crash/at")).unwrap();
    }

    /// Waits until the agent was killed, then starts it again; or until `done` says that the operation came to its end first. A step that comes after
    /// that end, as when its entry leaves the journal, may kill it still.
    pub(crate) async fn survive(&self, mut done: impl AsyncFnMut() -> bool) -> End {
        let killed = until("the crash, or the end of the operation", async || match () {
            () if self.has_ended() => Some(true),
            () => done().await.then_some(false),
        })
        .await;
        let point = std::fs::read_to_string(self.dir.join("crash/at")).unwrap();
        std::fs::remove_file(self.dir.join("crash/at")).unwrap();
        // Steps are counted as long as it lives: the next point needs another one.
        self.kill();
        let end = if killed || self.has_come_to(&point) { End::Killed } else { End::Done };
        self.start_mortal();
        end
    }

    fn has_come_to(&self, point: &str) -> bool {
        let (number, wanted) = point.split_once(' ').unwrap();
        let times = self.steps().iter().filter(|step| wanted.is_empty() || kind(step) == wanted).count();
        times >= number.parse().unwrap()
    }

    /// The steps until the crash; the last was not taken.
    pub(crate) fn steps(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("crash/steps")).unwrap_or_default();
        text.lines().map(|line| line.replace(self.dir.as_str(), "")).collect()
    }

    /// Nothing of an operation is left that did not end: no unfinished files, no programs, no open entries.
    pub(crate) async fn nothing_is_left(&self, at: &str) {
        until(&format!("a settled journal after {at}"), async || {
            (self.journal("accepted") + self.journal("started") + self.journal("ended") == 0).then_some(())
        })
        .await;
        // One that is being written is there for a moment.
        until(&format!("only whole files after {at}"), async || self.unfinished().is_empty().then_some(())).await;
        assert!(!self.dir.join("state/restoring").exists(), "{at}: half of a database");
        let backup = std::fs::read_to_string(self.dir.join("state/backup.json")).unwrap_or_default();
        assert!(backup.is_empty() || backup.contains("checksum"), "{at}: a backup that did not end: {backup}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let aside = |line: &&str| line.contains(self.dir.as_str()) && line.contains("trove-volume-");
        assert_eq!(mounts.lines().find(aside), None, "{at}: the volume is mounted aside");
        until(&format!("the end of all programs after {at}"), async || self.programs().is_empty().then_some(())).await;
    }

    fn unfinished(&self) -> Vec<Utf8PathBuf> {
        let mut found = Vec::new();
        for directory in ["state", "state/journal", "etc", "etc/conf.d", "etc/overrides", "data", "data/data", "data/tls", "tmp"] {
            let Ok(entries) = self.dir.join(directory).read_dir_utf8() else { continue };
            found.extend(entries.flatten().map(camino::Utf8DirEntry::into_path).filter(|path| {
                let name = path.file_name().unwrap();
                // `.trove-upgrade` is there between pre_upgrade and post_upgrade; layers are what a volume keeps of a Redis, `.trove-kept` of a MongoDB.
                (name.starts_with(".trove-")
                    && ![".trove-kept", ".trove-server", ".trove-upgrade"].contains(&name)
                    && !name.ends_with(".rev"))
                    || name.starts_with("trove-volume-")
                    || name.ends_with(".damaged")
            }));
        }
        found
    }

    /// Programs that carry this guest's directory in their command lines, except its agent and its one server.
    fn programs(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut servers = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !line.contains(self.dir.as_str()) || line.contains("trove-guestagent ") {
                continue;
            }
            let is_mariadb = line.contains("mariadbd")
                && line.contains(&format!("--defaults-file={}/etc/my.cnf", self.dir))
                && !line.contains("--datadir");
            let is_postgresql = line.contains("/postgres -c") && line.contains(&format!("config_file={}/etc/postgresql.conf", self.dir));
            let is_mongodb = line.contains(&format!("/mongod --config {}/etc/mongod.conf", self.dir));
            // As it names itself when it has no port.
            let is_redis = line.contains(&format!("unixsocket:{}/run/redis.sock", self.dir));
            let is_server = is_mariadb || is_postgresql || is_mongodb || is_redis;
            servers += usize::from(is_server);
            if !is_server || servers > 1 {
                found.push(line);
            }
        }
        found
    }
}
