//! The command line: one file a command, all with the same exit statuses.

mod check;
mod exit;
mod harmless;
mod import;
mod keys;
mod reload;
mod run;
mod status;
mod unreadable;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use exit::Exit;

use crate::config::Sources;

/// Where the unit's daemon has its configuration.
const DIRECTORY: &str = "/etc/tunnel64d";

/// Carries IPv6 and IPv4 packets between two gateways over TCP.
#[derive(Debug, Parser)]
#[command(name = "tunnel64d", version, max_term_width = 80, propagate_version = true)]
#[command(after_help = exit::list())]
pub struct Cli {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands, accepted before and after the command's name.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Directory of the configuration
    #[arg(long, global = true, value_name = "DIR", default_value = DIRECTORY)]
    pub config_dir: PathBuf,
    /// The one configuration file to read, instead of all directories
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the control sockets
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/tunnel64d")]
    pub runtime_dir: PathBuf,
    /// Set one key, over files and environment; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Directory of the vendor's configuration: for tests, which must not depend on what is installed
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub vendor_dir: Option<PathBuf>,
}

impl Options {
    /// Whether they name what the unit's daemon reads, and no draft somewhere else.
    pub fn are_the_units(&self) -> bool {
        self.config.is_none() && self.config_dir == Path::new(DIRECTORY)
    }

    /// The sources of the instance `name`, with the process's environment.
    pub fn sources(&self, name: &str) -> Sources {
        let defaults = Sources::new(name);
        Sources {
            vendor_dir: self.vendor_dir.clone().unwrap_or(defaults.vendor_dir),
            config_dir: self.config_dir.clone(),
            config_file: self.config.clone(),
            set: self.set.clone(),
            ..defaults
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one tunnel in the foreground
    Run {
        /// Name of the instance
        name: String,
    },
    /// Validate the configuration, without privileges
    Check {
        /// Names of instances; all that are configured when none is given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Print every effective value, and where it came from, as TOML
        #[arg(long)]
        print: bool,
    },
    /// Say how tunnels are, and what can be done about it
    #[command(after_help = exit::list())]
    Status {
        /// Name of the instance; a table of all when none is given
        name: Option<String>,
        /// Print JSON, which control.md in the package's documentation describes
        #[arg(long)]
        json: bool,
        /// Show it anew every second, until Ctrl-C
        #[arg(long, conflicts_with_all = ["json", "wait_connected"])]
        watch: bool,
        /// Wait for the peer, so many seconds at the most, also for a daemon that hangs; exit 1 when it has not come
        #[arg(long, value_name = "SECONDS", requires = "name")]
        wait_connected: Option<u64>,
    },
    /// Put a changed configuration into force, or say why the old one stays
    #[command(after_help = exit::list())]
    Reload {
        /// Name of the instance
        name: String,
    },
    /// Make a private key and print it
    Genkey,
    /// Read a private key on stdin and print its public key
    Pubkey,
    /// Translate an old key=value file to TOML on stdout
    Import {
        /// The old file; - for stdin
        file: PathBuf,
    },
}

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. Nobody is left to tell when printing them fails.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine }.into();
        }
    };
    let exit = match &cli.command {
        Command::Run { name } => run::run(&cli.options, name),
        Command::Check { names, print } => check::check(&cli.options, names, *print),
        Command::Status { name, json, watch, wait_connected } => {
            let arguments = status::Arguments {
                name: name.as_deref(),
                json: *json,
                watch: *watch,
                wait_connected: wait_connected.map(Duration::from_secs),
            };
            status::status(&cli.options, &arguments)
        }
        Command::Reload { name } => reload::reload(&cli.options, name),
        Command::Genkey => keys::genkey(),
        Command::Pubkey => keys::pubkey(),
        Command::Import { file } => import::import(file),
    };
    exit.into()
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Fine,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            complain(&format!("stdout: {error}"));
            Exit::Failed
        }
    }
}

/// Writes a line to stderr, the last resort.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
