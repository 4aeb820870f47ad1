//! The command line of `trove-guestagent`: oslo.config's two options, and what an operator may ask before a start.

use camino::Utf8PathBuf;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::config::{ConfigArgument, Sources};

/// Guest agent of OpenStack Trove: drives the database on this server, as the controller asks over the message broker.
#[derive(Debug, Parser)]
#[command(name = "trove-guestagent", version, about, long_about = None)]
pub struct Cli {
    /// Configuration file; repeatable, later ones win.
    #[arg(long, value_name = "PATH", action = clap::ArgAction::Append)]
    config_file: Vec<Utf8PathBuf>,
    /// Directory of *.conf files, read in the order of their names; repeatable.
    #[arg(long, value_name = "DIR", action = clap::ArgAction::Append)]
    config_dir: Vec<Utf8PathBuf>,
    /// Print every option with its value and where it comes from (secrets as ***), and exit.
    #[arg(long)]
    pub check_config: bool,
    /// The two options above in the order they were given: it decides which file wins.
    #[arg(skip)]
    order: Vec<ConfigArgument>,
}

impl Cli {
    /// Parses the process's arguments; ends the process on a mistake, on `--help` and on `--version`.
    pub fn of_process() -> Self {
        Self::of(&Self::command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        cli.order = ConfigArgument::in_order(matches);
        Ok(cli)
    }

    /// What is to be read.
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.order.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_keep_their_order() {
        Cli::command().debug_assert();
        let matches = Cli::command().get_matches_from(["x", "--config-file", "a", "--config-dir=b", "--config-file=c"]);
        let expected = [ConfigArgument::File("a".into()), ConfigArgument::Dir("b".into()), ConfigArgument::File("c".into())];
        assert_eq!(Cli::of(&matches).unwrap().order, expected);
    }
}
