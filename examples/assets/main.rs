//! Writes what the package installs beside the binary and what follows from the source: manual
//! pages, completions, the journal's catalog. `cargo run --example assets -- DIRECTORY`

mod catalog;
mod manual;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use tunnel64d::cli::Cli;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: assets DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("tunnel64d.8"), manual::commands(Cli::command())?)?;
    fs::write(directory.join("tunnel64d.toml.5"), manual::configuration()?)?;
    fs::write(directory.join("tunnel64d@.service.8"), manual::service()?)?;
    fs::write(directory.join("tunnel64d.catalog"), catalog::text())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "tunnel64d", directory)?;
    }
    Ok(())
}
