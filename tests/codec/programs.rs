//! What a codec writes, the program that the file is for reads back as it was meant.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use trove_guestagent::codec::{Document, OptionFile, PostgreSqlConf, RedisConf, Yaml};

use crate::support::{command, hostile_values, python, run, scratch};

/// The fixed values, and as many again that nobody has thought of.
fn values() -> Vec<String> {
    let mut runner = TestRunner::default();
    let any = "\\PC{0,12}|[#'\"\\\\ =:;,\\[\\]{}&*!|>%@`\t\n-]{0,12}|[^\u{0}]{0,8}";
    let random = (0..60).map(|_| any.new_tree(&mut runner).unwrap().current());
    let mut all = hostile_values();
    all.extend(random);
    all.retain(|value| !value.contains('\0'));
    all
}

/// A file with one setting for each value it takes, and those values.
fn written<D: Document>(text: &str, path: impl Fn(usize) -> Vec<String>) -> (D, Vec<(String, String)>) {
    let (mut file, mut kept) = (D::parse(text), Vec::new());
    for (index, value) in values().into_iter().enumerate() {
        let path = path(index);
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match file.set(&names, &Value::from(value.clone())) {
            Ok(()) => kept.push((names.last().copied().unwrap_or_default().to_owned(), value)),
            Err(_) => assert!(value.chars().any(char::is_control), "{value:?} is refused"),
        }
    }
    (file, kept)
}

#[test]
fn option_files_are_read_by_my_print_defaults() {
    let (_guard, dir) = scratch();
    let text = "[client]\nx0 = 5\n[mysqld]\n# comment\nlast_before = 1";
    let (file, kept) = written::<OptionFile>(text, |index| vec!["mysqld".into(), format!("x{index}")]);
    std::fs::write(dir.join("my.cnf"), file.render()).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let expected: String = kept.iter().fold("--last_before=1\n".into(), |all, (name, value)| format!("{all}--{name}={value}\n"));
    let arguments = format!("--defaults-file={dir}/my.cnf");
    let roots = std::env::var("TROVE_TEST_ROOTS").unwrap();
    for root in ["mariadb-10.11", "mysql-9.7"] {
        // As the tests of the server do: the root stays as it is.
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mysql/in-root");
        let root = format!("{roots}/{root}");
        let inside = ["--mount", "--propagation", "private", script, &root, dir.as_str(), "my_print_defaults", &arguments, "mysqld"];
        let printed = run("unshare", &inside).stdout;
        assert_eq!(String::from_utf8_lossy(&printed), expected);
    }
}

#[test]
fn postgresql_conf_is_read_by_postgres() {
    let (_guard, dir) = scratch();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (file, kept) = written::<PostgreSqlConf>("# comment\nport = 5555 # here", |index| vec![format!("test.x{index}")]);
    let path = dir.join("postgresql.conf");
    std::fs::write(&path, file.render()).unwrap();
    let program = postgres();
    for (name, value) in kept {
        let config = format!("--config-file={path}");
        let args = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", &program, "-C", &name, &config, "-D", dir.as_str()];
        let printed = String::from_utf8(run("setpriv", &args).stdout).unwrap();
        assert_eq!(printed.strip_suffix('\n'), Some(value.as_str()), "{name}");
    }
}

/// The server's program, of whatever version Debian has.
fn postgres() -> String {
    let versions = Utf8Path::new("/usr/lib/postgresql").read_dir_utf8().unwrap().flatten();
    let found = versions.map(|entry| entry.path().join("bin/postgres")).find(|path| path.is_file());
    found.expect("the package postgresql is installed").into_string()
}

#[test]
fn redis_conf_is_read_by_redis() {
    const SETTINGS: [&str; 3] = ["masterauth", "masteruser", "syslog-ident"];
    let values = values();
    for batch in values.chunks(SETTINGS.len()) {
        let (_guard, dir) = scratch();
        let socket = dir.join("redis.sock");
        let text = format!("# comment\nport 0\nunixsocket {socket}\nsave \"\"\nmasterauth old");
        let mut file = RedisConf::parse(&text);
        for (name, value) in SETTINGS.iter().zip(batch) {
            file.set(&[name], &json!(value)).unwrap();
        }
        std::fs::write(dir.join("redis.conf"), file.render()).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut server = command("redis-server").arg(dir.join("redis.conf").as_str()).current_dir(&dir).stdout(log).spawn().unwrap();
        let read: Vec<Option<String>> = SETTINGS.iter().map(|name| config_get(&socket, name)).collect();
        server.kill().unwrap();
        server.wait().unwrap();
        for ((name, value), read) in SETTINGS.iter().zip(batch).zip(read) {
            assert_eq!(
                read.as_deref(),
                Some(value.as_str()),
                "{name} of {:?}: {}",
                file.render(),
                std::fs::read_to_string(dir.join("log")).unwrap()
            );
        }
    }
}

/// `CONFIG GET`, once the server is there.
fn config_get(socket: &Utf8Path, name: &str) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < deadline => std::thread::yield_now(),
            Err(_) => return None,
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n${}\r\n{name}\r\n*1\r\n$4\r\nQUIT\r\n", name.len()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // *2, the name, then the value with its length.
    let head = format!("*2\r\n${}\r\n{name}\r\n$", name.len());
    let rest = answer.strip_prefix(head.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let length: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some(String::from_utf8_lossy(rest.get(end + 2..end + 2 + length)?).into_owned())
}

#[test]
fn yaml_is_read_by_pyyaml() {
    let (_guard, dir) = scratch();
    let text = "# comment\nstorage:\n  dbPath: /x # here\n  list:\n  - a\n  - b: [c, {d: 'e''f'}]\nnet: {port: 1}\n";
    let (mut file, kept) = written::<Yaml>(text, |index| vec!["storage".into(), "values".into(), format!("x{index}")]);
    let everything = json!([null, true, 1, -2.5, "no", ["a", {"b c": "d\ne"}], {}]);
    file.set(&["all"], &everything).unwrap();
    let path = dir.join("x.yaml");
    std::fs::write(&path, file.render()).unwrap();
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8', newline=''))))";
    let read: Value = serde_json::from_slice(&run(&python(), &["-c", script, path.as_str()]).stdout).unwrap();
    for (name, value) in kept {
        assert_eq!(read["storage"]["values"][&name], Value::from(value), "{name}");
    }
    assert_eq!(read["all"], everything);
    assert_eq!(read["storage"]["list"], file.get(&["storage", "list"]).unwrap());
    assert_eq!(read["net"], file.get(&["net"]).unwrap());
}
