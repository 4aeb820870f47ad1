//! Which files are read in which order, against the real thing, with files on disk.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value as Json, json};
use trove_guestagent::config::{ConfigArgument, Settings, Sources};

use crate::oracle::ask;

/// Folders that may hold files, and what each file says its `tenant_id` is: its own path.
const FILES: &[&str] = &[
    "home/.trove/trove.conf",
    "home/trove.conf",
    "etc/trove/trove.conf",
    "etc/trove/trove-guestagent.conf",
    "etc/trove-guestagent.conf",
    "etc/trove/trove.conf.d/10.conf",
    "etc/trove-guestagent.conf.d/20.conf",
    "conf.d/guest_info.conf",
    "conf.d/trove-guestagent.conf",
    "conf.d/.hidden.conf",
    "conf.d/zz.ini",
    "home/mine.conf",
];

struct Case {
    missing: &'static [&'static str],
    arguments: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case { missing: &[], arguments: &[] },
    Case { missing: &["home/.trove/trove.conf", "etc/trove/trove.conf.d/10.conf", "etc/trove-guestagent.conf.d/20.conf"], arguments: &[] },
    Case { missing: &["etc/trove/trove-guestagent.conf"], arguments: &[("--config-file", "conf.d/guest_info.conf")] },
    Case { missing: &[], arguments: &[("--config-dir", "conf.d")] },
    Case { missing: &["conf.d/trove-guestagent.conf"], arguments: &[("--config-dir", "conf.d")] },
    Case { missing: &[], arguments: &[("--config-file", "etc/trove/trove.conf"), ("--config-dir", "conf.d")] },
    Case { missing: &[], arguments: &[("--config-dir", "conf.d"), ("--config-file", "etc/trove/trove.conf")] },
    Case { missing: &[], arguments: &[("--config-file", "~/mine.conf")] },
    Case { missing: &["conf.d/guest_info.conf"], arguments: &[("--config-file", "conf.d/guest_info.conf")] },
    Case { missing: &[], arguments: &[("--config-dir", "nowhere")] },
];

fn lay_out(root: &Utf8Path, missing: &[&str]) {
    for (index, name) in FILES.iter().enumerate().filter(|(_, name)| !missing.contains(name)) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A key of its own shows whether the file was read at all, the common one which file came last.
        fs::write(path, format!("[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\ntenant_id={name}\n[mysql]\nown{index}={name}\n")).unwrap();
    }
}

fn absolute(root: &Utf8Path, name: &str) -> Utf8PathBuf {
    if name.starts_with('~') { name.into() } else { root.join(name) }
}

#[test]
fn files_are_found_in_oslos_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap();
    let text =
        |name: &str| json!({"group": "DEFAULT", "name": name, "kind": "text", "min": null, "max": null, "default": null, "aliases": []});
    let mut asked = Vec::new();
    let mut found = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        let root = root.join(index.to_string());
        lay_out(&root, case.missing);
        let default_dirs = ["home/.trove", "home", "etc/trove", "etc"].map(|name| root.join(name)).to_vec();
        let arguments = case.arguments.iter().flat_map(|(option, name)| [(*option).to_owned(), absolute(&root, name).into_string()]);
        asked.push(json!({
            "ask": "search", "options": [text("tenant_id")], "default_dirs": default_dirs, "home": root.join("home"),
            "arguments": arguments.collect::<Vec<_>>(),
        }));
        let arguments = case.arguments.iter().map(|(option, name)| match *option {
            "--config-file" => ConfigArgument::File(absolute(&root, name)),
            _ => ConfigArgument::Dir(absolute(&root, name)),
        });
        let sources = Sources { arguments: arguments.collect(), environment: BTreeMap::new(), home: Some(root.join("home")), default_dirs };
        found.push(Settings::load(&sources));
    }
    for ((case, ours), theirs) in CASES.iter().zip(found).zip(ask(&asked)) {
        match ours {
            Ok(settings) => assert_eq!(theirs[0]["value"], json!(settings.tenant_id), "{:?} without {:?}", case.arguments, case.missing),
            Err(errors) => {
                assert!(theirs.get("error").is_some(), "{:?}: {errors}", case.arguments);
                let [(_, name)] = case.arguments else { panic!("one argument") };
                assert!(errors.to_string().contains(name), "{errors}");
            }
        }
    }
    assert_eq!(CASES.iter().filter(|case| case.arguments.is_empty()).count(), 2);
}

#[test]
fn what_is_missing_says_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a.conf"), "[DEFAULT]\ndatastore_manager = mysql\ncontrol_exchange = trove\n").unwrap();
    let sources = Sources {
        arguments: vec![ConfigArgument::Dir(root.join("empty")), ConfigArgument::File(root.join("a.conf"))],
        environment: BTreeMap::new(),
        home: None,
        default_dirs: Vec::new(),
    };
    let message = Settings::load(&sources).unwrap_err().to_string();
    for part in ["1 mistake", "guest_id is not set", "a.conf (has datastore_manager, control_exchange)", "empty (no *.conf file"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn bytes_that_are_not_utf8_count_only_outside_of_comments() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap().join("a.conf");
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let arguments = vec![ConfigArgument::File(path.clone())];
        Settings::load(&Sources { arguments, environment: BTreeMap::new(), home: None, default_dirs: Vec::new() })
    };
    load(b"# \xe9t\xe9\n[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\n").unwrap();
    let errors = load(b"[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\ntenant_id=\xe9\n").unwrap_err().to_string();
    assert!(errors.contains("a.conf:4: the line is not UTF-8"), "{errors}");
}

#[test]
fn the_environment_wins_over_files() {
    let answers: Vec<Json> = ask(&[json!({
        "ask": "resolve", "files": ["[DEFAULT]\ntenant_id = file\n"], "environment": {"OS_DEFAULT__TENANT_ID": "variable"},
        "options": [{"group": "DEFAULT", "name": "tenant_id", "kind": "text", "min": null, "max": null, "default": null, "aliases": []}],
    })]);
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap().join("a.conf");
    fs::write(&path, "[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\ntenant_id=file\n").unwrap();
    let environment = BTreeMap::from([("OS_DEFAULT__TENANT_ID".to_owned(), "variable".into())]);
    let settings =
        Settings::load(&Sources { arguments: vec![ConfigArgument::File(path)], environment, home: None, default_dirs: Vec::new() })
            .unwrap();
    assert_eq!(answers[0][0]["value"], json!(settings.tenant_id));
    assert!(settings.describe().contains(&"[DEFAULT] tenant_id = variable  (environment OS_DEFAULT__TENANT_ID)".to_owned()));
}
