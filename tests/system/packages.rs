//! Package managers: argument vectors with a scripted runner, then the real programs in roots of their own.

use std::sync::Arc;

use trove_guestagent::error::Error;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::packages::{Apt, PackageManager, Rpm, RpmInstaller, detect};

use super::support::{Chroot, Overlay, Script, op, run, scratch};

const QUERY: &str = "dpkg-query -W -f ${db:Status-Status} ${Version}\\n --";
const INSTALL: &str = "apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef -o DPkg::Lock::Timeout=300";

fn packages(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn apt_asks_first_and_installs_only_what_is_missing() {
    let script =
        Script::new(&[(0, "installed 2.10\n"), (0, "installed 1:10.11.5\n"), (0, "Package: mariadb-server\n"), (0, ""), (0, ""), (0, "")]);
    Apt::new(script.clone()).install(&op(), &packages(&["hello", "mariadb-server=1:10.11.6"])).await.unwrap();
    let expected = [
        format!("{QUERY} hello"),
        format!("{QUERY} mariadb-server"),
        "apt-cache show --no-all-versions mariadb-server=1:10.11.6".to_owned(),
        "dpkg --audit".to_owned(),
        "debconf-show mariadb-server".to_owned(),
        format!("{INSTALL} mariadb-server=1:10.11.6"),
    ];
    assert_eq!(script.lines(), expected);
}

#[tokio::test]
async fn apt_updates_its_lists_only_for_an_unknown_package_and_answers_the_root_password() {
    let script =
        Script::new(&[(1, ""), (100, ""), (0, ""), (0, ""), (0, "  mysql-server/root_password: (password omitted)\n"), (0, ""), (0, "")]);
    Apt::new(script.clone()).install(&op(), &packages(&["mysql-server"])).await.unwrap();
    let lines = script.lines();
    assert_eq!(lines[2], "apt-get update -q");
    assert_eq!(lines[5], "debconf-set-selections");
    assert_eq!(lines[6], format!("{INSTALL} mysql-server"));
}

#[tokio::test]
async fn apt_finishes_an_interrupted_installation() {
    let script = Script::new(&[
        (0, "half-installed \n"),
        (0, "Package: x\n"),
        (0, "The following packages are half configured\n"),
        (0, ""),
        (0, ""),
        (0, ""),
    ]);
    Apt::new(script.clone()).install(&op(), &packages(&["hello"])).await.unwrap();
    assert_eq!(script.lines()[3], "dpkg --force-confold --force-confdef --configure -a");
}

#[tokio::test]
async fn a_bad_name_runs_nothing() {
    let script = Script::new(&[]);
    for name in ["-o=x", "mysql-server-", "a;b"] {
        let error = Apt::new(script.clone()).install(&op(), &packages(&[name])).await.unwrap_err();
        assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
        Rpm::new(RpmInstaller::Yum, script.clone()).install(&op(), &packages(&[name])).await.unwrap_err();
    }
    assert!(script.lines().is_empty());
}

#[tokio::test]
async fn dnf_and_yum_ask_rpm_first() {
    let query = "rpm -q --qf %{VERSION}\\n%{VERSION}-%{RELEASE}\\n%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n --";
    for (installer, program) in [(RpmInstaller::Dnf, "dnf"), (RpmInstaller::Yum, "yum")] {
        let script = Script::new(&[
            (0, "7.0.12\n7.0.12-2.el9\n0:7.0.12-2.el9\n"),
            (1, "package b is not installed\n"),
            (0, "1.1\n1.1-1\n0:1.1-1\n"),
            (0, ""),
        ]);
        Rpm::new(installer, script.clone()).install(&op(), &packages(&["redis=7.0.12", "b", "c=1.2"])).await.unwrap();
        let expected = [format!("{query} redis"), format!("{query} b"), format!("{query} c"), format!("{program} -y install b c-1.2")];
        assert_eq!(script.lines(), expected);
    }
}

#[tokio::test]
async fn this_guest_has_apt() {
    let manager = detect(Arc::new(SystemCommands));
    assert!(format!("{manager:?}").starts_with("Apt"), "{manager:?}");
    manager.install(&op(), &packages(&["dpkg"])).await.unwrap();
}

#[tokio::test]
async fn apt_for_real() {
    let overlay = Overlay::new().await;
    std::fs::write(overlay.root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
    // The root gets its packages from where this machine does.
    for path in
        ["etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/trusted.gpg.d", "etc/resolv.conf", "etc/hosts"]
    {
        let source = format!("/{path}");
        if std::path::Path::new(&source).exists() {
            run(&["rm", "-rf", overlay.root.join(path).as_str()]).await;
            run(&["cp", "-aL", &source, overlay.root.join(path).as_str()]).await;
        }
    }
    // An empty list of packages: apt-get update has to be run.
    run(&["rm", "-rf", overlay.root.join("var/lib/apt/lists").as_str()]).await;
    run(&["mkdir", "-p", overlay.root.join("var/lib/apt/lists/partial").as_str()]).await;
    let apt = Apt::new(Arc::new(Chroot(overlay.root.clone())));
    assert!(!overlay.root.join("usr/bin/hello").exists());
    apt.install(&op(), &packages(&["hello"])).await.unwrap();
    assert!(overlay.root.join("usr/bin/hello").exists());
    // Both are there already: with and without the version.
    let version = run(&["chroot", overlay.root.as_str(), "dpkg-query", "-W", "-f", "${Version}", "hello"]).await;
    apt.install(&op(), &packages(&["hello", &format!("hello={version}"), "mariadb-server"])).await.unwrap();
    let error = apt.install(&op(), &packages(&["no-such-package-at-all"])).await.unwrap_err();
    assert!(error.to_string().contains("Unable to locate package no-such-package-at-all"), "{error}");
    let error = apt.install(&op(), &packages(&["hello=0.1"])).await.unwrap_err();
    assert!(error.to_string().contains("Version '0.1' for 'hello' was not found"), "{error}");
}

/// `dnf` itself runs on this machine; the packages and their database are in a root of the test's own.
#[derive(Debug)]
struct InRoot {
    root: String,
    repository: String,
}

#[async_trait::async_trait]
impl trove_guestagent::system::command::CommandRunner for InRoot {
    async fn run(
        &self,
        op: &trove_guestagent::op::Op,
        command: trove_guestagent::system::command::CommandSpec,
    ) -> trove_guestagent::Result<trove_guestagent::system::command::CommandOutput> {
        let program = command.name().to_owned();
        let args = match program.as_str() {
            "rpm" => vec![format!("--root={}", self.root)],
            _ => vec![
                format!("--installroot={}", self.root),
                format!("--repofrompath=test,file://{}", self.repository),
                "--repo=test".to_owned(),
                "--nogpgcheck".to_owned(),
                "--releasever=9".to_owned(),
                format!("--setopt=cachedir={}/cache", self.root),
            ],
        };
        SystemCommands.run(op, command.replace_program(program, args)).await
    }
}

#[tokio::test]
async fn dnf_for_real() {
    let (_dir, dir) = scratch();
    let (repository, root) = (dir.join("repository"), dir.join("root"));
    for directory in [&repository, &root, &dir.join("build")] {
        std::fs::create_dir(directory).unwrap();
    }
    for version in ["1.0", "2.0"] {
        let spec = format!(
            "Name: tiny-test\nVersion: {version}\nRelease: 1\nSummary: Tiny\nLicense: Apache-2.0\nBuildArch: noarch\n%description\nTiny.\n%install\nmkdir -p %{{buildroot}}/opt\necho {version} > %{{buildroot}}/opt/tiny-test\n%files\n/opt/tiny-test\n"
        );
        let path = dir.join("tiny.spec");
        std::fs::write(&path, spec).unwrap();
        let (topdir, rpmdir) = (format!("_topdir {dir}/build"), format!("_rpmdir {repository}"));
        run(&["rpmbuild", "-bb", "--define", &topdir, "--define", &rpmdir, path.as_str()]).await;
    }
    run(&["createrepo_c", repository.as_str()]).await;
    let commands = Arc::new(InRoot { root: root.to_string(), repository: repository.to_string() });
    let dnf = Rpm::new(RpmInstaller::Dnf, commands);
    dnf.install(&op(), &packages(&["tiny-test=1.0"])).await.unwrap();
    assert_eq!(std::fs::read_to_string(root.join("opt/tiny-test")).unwrap(), "1.0\n");
    // There already: nothing changes, although 2.0 could be had.
    dnf.install(&op(), &packages(&["tiny-test", "tiny-test=1.0-1"])).await.unwrap();
    assert_eq!(std::fs::read_to_string(root.join("opt/tiny-test")).unwrap(), "1.0\n");
    dnf.install(&op(), &packages(&["tiny-test=2.0"])).await.unwrap();
    assert_eq!(std::fs::read_to_string(root.join("opt/tiny-test")).unwrap(), "2.0\n");
    let error = dnf.install(&op(), &packages(&["no-such-package"])).await.unwrap_err();
    assert!(error.to_string().contains("no-such-package"), "{error}");
}
