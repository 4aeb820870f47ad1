//! Generated files to both parsers, and generated values of options of every type.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json, json};
use trove_guestagent::config::{Kind, Layers, LoadedFile, Lookup, OptionSpec, parse_ini};

use crate::oracle::{agrees, ask, declaration};

/// How many generated inputs each comparison runs.
const CASES: usize = 1500;

const ANY_INT: Kind = Kind::Int(-1000, 100_000);
const ANY_FLOAT: Kind = Kind::Float(-1e300, 1e300);

/// Options of every type, in `[DEFAULT]` and in a group, with other names across both.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("DEFAULT", "s1", Kind::Text),
    OptionSpec::new("DEFAULT", "s2", Kind::Text).default("<$s1>"),
    OptionSpec::new("DEFAULT", "b1", Kind::Bool).default("true"),
    OptionSpec::new("DEFAULT", "i1", ANY_INT).default("7"),
    OptionSpec::new("DEFAULT", "f1", ANY_FLOAT),
    OptionSpec::new("DEFAULT", "l1", Kind::List).default("a,$s1"),
    OptionSpec::new("DEFAULT", "d1", Kind::Dict),
    OptionSpec::new("DEFAULT", "m1", Kind::Multi).aliases(&[("DEFAULT", "m1_old")]),
    OptionSpec::new("DEFAULT", "renamed", Kind::Text).aliases(&[("DEFAULT", "old_name"), ("grp", "older_name")]),
    OptionSpec::new("grp", "s1", Kind::Text).default("own"),
    OptionSpec::new("grp", "s3", Kind::Text),
    OptionSpec::new("grp", "b2", Kind::Bool),
    OptionSpec::new("grp", "i2", ANY_INT),
    OptionSpec::new("grp", "l2", Kind::List),
    OptionSpec::new("grp", "d2", Kind::Dict),
    OptionSpec::new("grp", "m2", Kind::Multi).aliases(&[("grp", "m2_old"), ("DEFAULT", "m2")]),
    OptionSpec::new("grp", "moved", Kind::Text).aliases(&[("DEFAULT", "moved"), ("grp", "moved_old")]),
];

fn key() -> impl Strategy<Value = String> {
    let names = [
        "s1",
        "s2",
        "b1",
        "i1",
        "f1",
        "l1",
        "d1",
        "m1",
        "m1_old",
        "renamed",
        "old_name",
        "older_name",
        "s3",
        "b2",
        "i2",
        "l2",
        "d2",
        "m2",
        "m2_old",
        "moved",
        "moved_old",
        "S1",
        "spaced key",
    ];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

/// References are to declared options and to names no file sets: what is only set can be referred to here, not in oslo, which
/// has every option declared.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "b c",
        "True",
        "off",
        "YES",
        "2",
        "0",
        "-5",
        " 12 ",
        "1_000",
        "1__0",
        "+3",
        "1e3",
        "1.5",
        ".5",
        "1e-7",
        "nan",
        "inf",
        "1e400",
        "k:v",
        "k:v:w",
        "k2 : x",
        ",",
        ", ",
        ":",
        "=",
        "#",
        ";",
        "\"",
        "'",
        "[",
        "]",
        "\\",
        "$",
        "$$",
        "\\$",
        "$s1",
        "${s1}",
        "${s2}",
        "$i1",
        "$f1",
        "$l1",
        "$b1",
        "${grp.s1}",
        "${grp.s3}",
        "$grp.i2",
        "${grp.l2}",
        "${nogroup.s1}",
        "$nothing",
        "${s1",
        "${}",
        "$1",
        "$old_name",
        "$renamed",
        "é",
        "\u{a0}",
        "\u{1c}",
        "\u{85}",
        "\u{3000}",
        "\u{17f}",
        "%(s1)s",
        "\t",
    ];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let quoted = (prop::sample::select(vec!["\"", "'"]), prop::collection::vec(piece(), 0..3));
    prop_oneof![
        6 => prop::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.concat()),
        1 => quoted.prop_map(|(quote, pieces)| format!("{quote}{}{quote}", pieces.concat())),
        1 => "[ -~]{0,12}",
    ]
}

fn assignment() -> impl Strategy<Value = String> {
    let separator = prop::sample::select(vec!["=", ":", " = ", " : ", "= ", "\t=\t"]);
    (key(), separator, value()).prop_map(|(key, separator, value)| format!("{key}{separator}{value}"))
}

fn section() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["[DEFAULT]", "[grp]", "[GRP]", "[Grp] ", "[default]", "[other group]", "[a]b]"]).prop_map(str::to_owned)
}

/// A line of a well-formed file.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => assignment(),
        2 => section(),
        2 => (assignment(), value()).prop_map(|(line, more)| format!("{line}\n  {more}.\n\tand")),
        1 => Just("# note = x".to_owned()),
        1 => Just("  ".to_owned()),
    ]
}

fn clean_file() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec!["[DEFAULT]", "[grp]"]);
    (start, prop::collection::vec(line(), 0..14)).prop_map(|(start, lines)| format!("{start}\n{}\n", lines.join("\n")))
}

/// Also what no parser accepts, and other line ends.
fn dirty_file() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "word",
        "[open",
        "[]",
        "[",
        "= v",
        ":",
        " indented",
        "\u{feff}[DEFAULT]",
        "[x] # y",
        "\u{b}k = v",
        "\u{a0}",
    ]);
    let any = prop_oneof![8 => line(), 1 => odd.prop_map(str::to_owned), 1 => value()];
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]);
    prop::collection::vec((any, end), 0..10).prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

fn environment() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name =
        prop::sample::select(vec!["OS_DEFAULT__S1", "OS_DEFAULT__I1", "OS_GRP__S3", "OS_GRP__B2", "OS_GRP__MOVED", "OS_DEFAULT__MOVED"]);
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => prop::collection::btree_map(name.prop_map(str::to_owned), value(), 0..3),
    ]
}

/// The same inputs in every run, so that a difference stays until it is gone.
pub(crate) fn generate<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn our_sections(text: &str) -> Result<Json, usize> {
    let file = parse_ini(text).map_err(|errors| errors.first().map_or(0, |error| error.line))?;
    let mut sections: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for section in &file.sections {
        sections.entry(section).or_default();
    }
    for entry in &file.entries {
        sections.entry(&entry.section).or_default().entry(&entry.key).or_default().push(entry.value.expose_secret());
    }
    Ok(json!(sections))
}

#[test]
fn files_parse_alike() {
    let mut texts = generate(dirty_file(), CASES);
    texts.extend(generate(clean_file(), CASES));
    let cases: Vec<Json> = texts.iter().map(|text| json!({"ask": "parse", "text": text})).collect();
    let mut well_formed = 0;
    for (text, theirs) in texts.iter().zip(ask(&cases)) {
        match our_sections(text) {
            Ok(sections) => {
                well_formed += 1;
                assert_eq!(theirs.get("sections"), Some(&sections), "{text:?}");
            }
            // oslo notices a missing section only where the value ends, so its line is another.
            Err(_) if theirs["message"] == "Section must be started before assignment" => {}
            Err(line) => assert_eq!(theirs["line"], json!(line), "{text:?}: {theirs}"),
        }
    }
    assert!(well_formed > CASES, "most inputs are well-formed: {well_formed}");
}

#[test]
fn values_resolve_alike() {
    let inputs = generate((prop::collection::vec(clean_file(), 1..4), environment()), CASES);
    let options: Vec<Json> = OPTIONS.iter().map(declaration).collect();
    let cases: Vec<Json> = inputs
        .iter()
        .map(|(files, environment)| json!({"ask": "resolve", "files": files, "environment": environment, "options": options}))
        .collect();
    let mut set = 0;
    let mut differences = Vec::new();
    for ((files, environment), answers) in inputs.iter().zip(ask(&cases)) {
        let layers = Layers {
            files: files.iter().map(|text| LoadedFile { path: "a.conf".into(), ini: parse_ini(text).unwrap() }).collect(),
            environment: environment.iter().map(|(name, text)| (name.clone(), SecretString::from(text.as_str()))).collect(),
        };
        let lookup = Lookup::new(OPTIONS, &layers, None);
        for (spec, theirs) in OPTIONS.iter().zip(answers.as_array().unwrap()) {
            let ours = lookup.get(spec.group, spec.name);
            set += usize::from(ours.as_ref().is_ok_and(|outcome| outcome.origin != trove_guestagent::config::Origin::Default));
            // Where an option refers to one that is wrong, oslo catches the wrong exception and takes the option of the same name in
            // [DEFAULT]. The wrong one is a mistake on both sides, so here the other may be one as well.
            let follows = ours.as_ref().is_err_and(|error| error.message.contains("which is itself wrong"));
            if !follows && !agrees(&ours, theirs) {
                differences.push(format!(
                    "[{}] {}: {theirs} not {ours:?}\n{environment:?}\n{}",
                    spec.group,
                    spec.name,
                    files.join("----\n")
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences; the first:\n{}", differences.len(), differences.first().unwrap());
    assert!(set > CASES, "many options are set: {set}");
}

#[test]
fn each_type_reads_single_values_alike() {
    let kinds = [Kind::Bool, ANY_INT, ANY_FLOAT, Kind::List, Kind::Dict];
    let texts = generate("[ ,:0-9a-cA-CtruefalsonTF_+.-]{0,9}", CASES);
    let specs: Vec<OptionSpec> =
        kinds.into_iter().zip(["v1", "v2", "v3", "v4", "v5"]).map(|(kind, name)| OptionSpec::new("DEFAULT", name, kind)).collect();
    let options: Vec<Json> = specs.iter().map(declaration).collect();
    let files: Vec<String> = texts
        .iter()
        .map(|text| specs.iter().fold("[DEFAULT]\n".to_owned(), |file, spec| format!("{file}{} = {text}\n", spec.name)))
        .collect();
    let nothing = Json::Object(Map::new());
    let cases: Vec<Json> =
        files.iter().map(|file| json!({"ask": "resolve", "files": [file], "environment": nothing, "options": options})).collect();
    for (file, answers) in files.iter().zip(ask(&cases)) {
        let layers = Layers { files: vec![LoadedFile { path: "a.conf".into(), ini: parse_ini(file).unwrap() }], ..Layers::default() };
        let lookup = Lookup::new(&specs, &layers, None);
        for (spec, theirs) in specs.iter().zip(answers.as_array().unwrap()) {
            let ours = lookup.get(spec.group, spec.name);
            assert!(agrees(&ours, theirs), "{:?} {file:?}: {theirs} not {ours:?}", spec.kind);
        }
    }
}
