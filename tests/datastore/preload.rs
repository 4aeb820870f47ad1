//! Libraries that are loaded into a program with LD_PRELOAD, built of a source beside the tests.

use camino::{Utf8Path, Utf8PathBuf};

/// Builds the library of `source`, a path below the repository.
pub(crate) fn build(source: &str) -> Utf8PathBuf {
    let source = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let name = format!("{}-{}.so", source.file_stem().unwrap(), std::process::id());
    let target = Utf8Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", target.as_str(), source.as_str(), "-ldl"];
    let done = std::process::Command::new("cc").args(compiler).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    target
}
