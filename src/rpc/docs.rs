//! The table of `docs/rpc.md`: what a guest of each datastore does with each method, as the dispatcher has it.

use std::fmt::Write as _;

use super::method::{Lane, Resume};
use super::request::{self, Support, method_names};
use crate::generated;
use crate::managers::registry::{MANAGERS, tests::manager};

fn table() -> String {
    let managers: Vec<_> = MANAGERS.iter().map(|name| manager(name)).collect();
    let mut out = format!("\n| method | runs | cut short | {} |\n|---|---|---|{}\n", MANAGERS.join(" | "), "---|".repeat(MANAGERS.len()));
    for method in method_names() {
        let (runs, cut_short) = request::properties_of(method).map_or((String::new(), ""), |properties| {
            let lane = match properties.lane {
                Lane::Read => "at once",
                Lane::Write => "in turn",
                Lane::Backup => "in turn with backups",
                Lane::Logs => "in turn with logs",
            };
            let told = if properties.notifies_its_end { ", its end is told" } else { "" };
            let cut_short = match properties.after_interruption {
                _ if properties.lane == Lane::Read => "",
                Resume::Repeat => "run again",
                Resume::RepeatInTime => "run again in time",
                Resume::Report => "reported",
                Resume::Undo => "removed and reported",
            };
            (format!("{lane}{told}"), cut_short)
        });
        write!(out, "| `{method}` | {runs} | {cut_short} |").unwrap();
        for manager in &managers {
            let what = match request::support(&**manager, method) {
                Support::Answered => "answers",
                Support::NotSupported => "`DatastoreOperationNotSupported`",
                Support::Absent => "`NoSuchMethod`",
            };
            write!(out, " {what} |").unwrap();
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

#[test]
fn the_documentation_has_this_very_table() {
    generated::check("rpc.md", "methods", &table(), "rpc::docs");
}

#[test]
fn every_method_is_in_the_table_once() {
    let names: Vec<&str> = method_names().collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
}
