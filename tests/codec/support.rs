//! Programs, and files of packages.

use std::process::{Command, Output, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

/// Runs a program of the test machine to its end.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let output = command(program).args(args).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[expect(clippy::disallowed_methods, reason = "a test has no operation that its programs belong to")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// The Python with the packages of the tests.
pub(crate) fn python() -> String {
    std::env::var("TROVE_TEST_PYTHON").expect("TROVE_TEST_PYTHON names the interpreter with the test packages")
}

/// A directory of this test program.
pub(crate) fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

/// All files below a directory whose names end like this.
pub(crate) fn find(directory: &Utf8Path, endings: &[&str]) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            found.extend(find(path, endings));
        } else if endings.iter().any(|ending| path.as_str().ends_with(ending)) {
            found.push(path.to_owned());
        }
    }
    found
}

/// Values that configuration files have trouble with: printable, but full of what means something to one format or another.
pub(crate) fn hostile_values() -> Vec<String> {
    let fixed = [
        "",
        " ",
        "#",
        "a # b",
        "'",
        "\"",
        "\\",
        "\\\\",
        "\\n",
        "\n",
        "a\nb = c",
        "\r",
        "\r\n",
        "\t",
        ";",
        "=",
        ": ",
        "- x",
        "[x]",
        "{x",
        "!include /x",
        "%YAML",
        "---",
        "yes",
        "no",
        "null",
        "~",
        "true",
        "0x10",
        "010",
        "1e3",
        "1_000",
        "12:30:00",
        "2026-11-25",
        "it's",
        "\"quoted\"",
        "'quoted'",
        "ends with \\",
        " leading",
        "trailing ",
        "größe",
        "日本語",
        "🦀",
        "a\u{a0}b",
        "\u{3000}",
        "&a",
        "*a",
        "|",
        ">",
        "@x",
        "`x`",
        "$x",
        "${x}",
        "%s",
        "a,b",
        "a]b",
        "\u{85}x",
        "\u{2028}",
        "\u{feff}x",
        "on",
        "inf",
        ".inf",
        "=",
        "<<",
        "x: y",
        "x #y",
        "x# y",
        "\\u0041",
        "\\x41",
        "\\101",
        "''",
        "\"\"",
        "a''b",
        "\u{7f}",
    ];
    fixed.iter().map(|value| (*value).to_owned()).collect()
}
