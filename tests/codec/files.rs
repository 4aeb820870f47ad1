//! Parse and render is identity on the configuration files that Debian's packages and Trove bring.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use trove_guestagent::codec::{Document, OptionFile, PostgreSqlConf, Properties, RedisConf, Yaml, text};

use crate::support::{find, python, run};

/// What a format makes of each file: the number of its settings. Every file comes back to the byte, as it is and with Windows' line ends.
fn settings_of<D: Document>(files: &[Utf8PathBuf]) -> usize {
    let count = |path: &Utf8PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let file = D::parse(&text::decode(&bytes));
        assert_eq!(text::encode(&file.render()), bytes, "{path}");
        let windows = text::decode(&bytes).replace('\n', "\r\n");
        assert_eq!(D::parse(&windows).render(), windows, "{path}");
        file.settings().len()
    };
    files.iter().map(count).sum()
}

/// Sets and removes a setting that is in none of the files: all else stays, to the byte.
fn touches_nothing_else<D: Document>(files: &[Utf8PathBuf], path: &[&str]) {
    for name in files {
        let before = text::decode(&std::fs::read(name).unwrap());
        let mut file = D::parse(&before);
        file.set(path, &json!("x y")).unwrap();
        let after = file.render();
        let added: Vec<&str> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
        assert!((1..=2).contains(&added.len()), "{name}: {added:?}");
        let mut rest = after.lines();
        assert!(before.lines().all(|line| rest.any(|new| new == line)), "{name} lost a line");
        assert!(file.remove(path), "{name}");
        assert!(before.lines().all(|line| file.render().lines().any(|new| new == line)), "{name}");
    }
}

fn templates(datastores: &[&str]) -> Vec<Utf8PathBuf> {
    let printed = run(&python(), &["-c", "import os, trove; print(os.path.dirname(trove.__file__))"]).stdout;
    let root = Utf8PathBuf::from(String::from_utf8(printed).unwrap().trim()).join("templates");
    datastores.iter().flat_map(|name| find(&root.join(name), &["config.template"])).collect()
}

fn at_least(files: Vec<Utf8PathBuf>, wanted: usize) -> Vec<Utf8PathBuf> {
    assert!(files.len() >= wanted, "too few files: {files:?}");
    files
}

#[test]
fn option_files_of_mariadb_and_mysql() {
    let roots = Utf8PathBuf::from(std::env::var("TROVE_TEST_ROOTS").unwrap());
    let mut files = Vec::new();
    for root in ["mariadb-10.11", "mysql-9.7"] {
        let root = roots.join(root).canonicalize_utf8().unwrap();
        files.extend(at_least(find(&root.join("etc/mysql"), &[".cnf"]), 3));
    }
    assert!(settings_of::<OptionFile>(&files) > 10);
    touches_nothing_else::<OptionFile>(&files, &["mysqld", "tmpdir-of-nobody"]);
    let templates = at_least(templates(&["mysql", "mariadb"]), 2);
    assert!(settings_of::<OptionFile>(&templates) > 40);
}

#[test]
fn redis_conf() {
    let files = at_least(find(Utf8Path::new("/etc/redis"), &["redis.conf"]), 1);
    assert!(settings_of::<RedisConf>(&files) > 50);
    touches_nothing_else::<RedisConf>(&files, &["nobody-has-this"]);
    let file = RedisConf::parse(&text::decode(&std::fs::read(&files[0]).unwrap()));
    assert_eq!(file.get(&["client-output-buffer-limit"]).unwrap().as_array().unwrap().len(), 3);
    assert_eq!(file.get(&["daemonize"]), Some(json!("yes")));
}

#[test]
fn postgresql_conf_and_pg_hba_conf() {
    let samples = Utf8Path::new("/usr/share/postgresql");
    let files = at_least(find(samples, &["postgresql.conf.sample"]), 1);
    settings_of::<PostgreSqlConf>(&files);
    touches_nothing_else::<PostgreSqlConf>(&files, &["nobody.has_this"]);
    settings_of::<PostgreSqlConf>(&at_least(find(samples, &["pg_hba.conf.sample", "pg_ident.conf.sample"]), 2));
}

#[test]
fn yaml_of_packages() {
    // What is at hand of it on a test machine: the interpreter's packages, and the distribution's.
    let printed = run(&python(), &["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).stdout;
    let packages = Utf8PathBuf::from(String::from_utf8(printed).unwrap().trim());
    let mut files = find(&packages, &[".yaml", ".yml"]);
    files.extend(find(Utf8Path::new("/usr/share"), &[".yaml", ".yml"]));
    assert!(settings_of::<Yaml>(&at_least(files, 3)) > 20);
}

#[test]
fn property_files() {
    // Java's own, where there is one; and text that has everything the format knows.
    let mut files = find(Utf8Path::new("/etc"), &[".properties"]);
    files.extend(find(Utf8Path::new("/usr/share"), &[".properties"]));
    settings_of::<Properties>(&files);
    let text = "# a comment \\\n! another\ndc=DC1\n  rack : RAC1\nempty\n\\u0061 b\\=c = d \\\n\\\n    e \\\\\nlast = \\";
    let file = Properties::parse(text);
    assert_eq!(file.render(), text);
    assert_eq!(file.get(&["a"]), Some(json!("b=c = d e \\")));
    assert_eq!(file.get(&["rack"]), Some(json!("RAC1")));
}
