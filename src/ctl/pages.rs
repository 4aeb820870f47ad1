//! `trove-guestctl packaging-files`: what a package has besides programs and unit: manual pages and completions, made from the command lines.

use std::process::ExitCode;

use camino::Utf8Path;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::cli::Cli;
use crate::cli::Cli as AgentCli;
use crate::error::{Error, Result, ResultExt};
use crate::system::files;

/// Commands of the system's administrator (man-pages(7)).
const SECTION: &str = "8";

/// Where each shell looks for the completions of packages, and how it names them: {} is the program.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions", "{}"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions", "_{}"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d", "{}.fish"),
];

/// Writes all of them below `root`.
pub(super) fn run(root: &Utf8Path) -> Result<ExitCode> {
    for command in [AgentCli::command(), Cli::command()] {
        completions(command.clone(), root)?;
        let mut command = command.disable_help_subcommand(true);
        command.build();
        manual(&command, &root.join("usr/share/man").join(format!("man{SECTION}")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(mut command: Command, root: &Utf8Path) -> Result<()> {
    let program = command.get_name().to_owned();
    for (shell, directory, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &program, &mut text);
        // clap_complete 4.6 has two spellings of one name in Bash's script, where the program's own has a dash: no sub-command would be completed.
        let (wrong, right) = (program.replace('-', "__subcmd__"), program.replace('-', "__"));
        let text = String::from_utf8_lossy(&text).replace(&format!("{wrong}__subcmd__"), &format!("{right}__subcmd__"));
        write(&root.join(directory), &name.replace("{}", &program), text.as_bytes())?;
    }
    Ok(())
}

/// A page for the command, and one for each of its sub-commands.
fn manual(command: &Command, directory: &Utf8Path) -> Result<()> {
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        manual(part, directory)?;
    }
    let page = Man::new(command.clone()).section(SECTION).manual("OpenStack Trove");
    let mut text = Vec::new();
    page.render(&mut text).action("make a manual page")?;
    write(directory, &page.get_filename(), &text)
}

fn write(directory: &Utf8Path, name: &str, text: &[u8]) -> Result<()> {
    files::ensure_directory(directory, 0o755, None)?;
    let path = directory.join(name);
    std::fs::write(&path, text).map_err(|error| Error::guest(format!("cannot write {path}: {error}")))
}
