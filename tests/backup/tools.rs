//! openssl(1) and gzip(1), and something to give them. The tests of storage use these, too.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};

/// A fresh password.
pub(crate) fn password() -> SecretString {
    uuid::Uuid::new_v4().to_string().into()
}

/// Something like a dump: it compresses, but not to nothing.
pub(crate) fn dump(bytes: usize) -> Vec<u8> {
    let rows =
        (0_u64..).map(|id| format!("INSERT INTO t VALUES ({id},'{:x}','row of a table');\n", id.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    rows.flat_map(String::into_bytes).take(bytes).collect()
}

/// A directory of the test's own.
pub(crate) fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    (directory, path)
}

async fn run(spec: CommandSpec) {
    SystemCommands.run(&Op::internal(CancellationToken::new()), spec).await.unwrap();
}

/// `openssl enc -aes-256-cbc`, the password in a file.
pub(crate) async fn openssl(options: &[&str], key: &SecretString, from: &Utf8Path, to: &Utf8Path) {
    let password = from.with_extension("password");
    fs::write(&password, key.expose_secret()).unwrap();
    let files = ["-pass", &format!("file:{password}"), "-in", from.as_str(), "-out", to.as_str()];
    run(CommandSpec::new("openssl").args(["enc", "-aes-256-cbc"]).args(options).args(files)).await;
}

/// `gzip` of a file, which is replaced.
pub(crate) async fn gzip(path: &Utf8Path) -> Utf8PathBuf {
    run(CommandSpec::new("gzip").arg(path)).await;
    Utf8PathBuf::from(format!("{path}.gz"))
}

/// What `gzip -t` and then `gzip -d` make of `NAME.gz`.
pub(crate) async fn gunzip(path: &Utf8Path) -> Vec<u8> {
    run(CommandSpec::new("gzip").args(["-t", path.as_str()])).await;
    run(CommandSpec::new("gzip").args(["-df", path.as_str()])).await;
    fs::read(path.with_extension("")).unwrap()
}
