//! The manual pages: clean for man(1), and nothing is missing from them.

#[path = "../examples/assets/manual/mod.rs"]
mod manual;

use std::fs;
use std::process::Command;

use clap::{CommandFactory, Parser};
use tunnel64d::cli::{Cli, Exit};
use tunnel64d::config::schema::KEYS;
use tunnel64d::metrics::families;
use tunnel64d::service::messages;

#[test]
fn every_command_and_flag_is_in_the_manual() {
    let page = shown(manual::commands(Cli::command()), "tunnel64d.8");
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut flags = 0;
    for command in command.get_subcommands().chain([&command]).filter(|c| !c.is_hide_set()) {
        page.has(command.get_name());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                page.has(&format!("--{long}"));
                flags += 1;
            }
            let words = argument.get_help().expect("what it does").to_string();
            page.has(words.trim_end_matches('.'));
        }
    }
    assert!(flags > 20, "{flags}");
}

#[test]
fn every_exit_status_is_in_the_manual() {
    let page = shown(manual::commands(Cli::command()), "tunnel64d.8");
    for exit in Exit::ALL {
        page.has(&format!("{} {}", exit.code(), exit.meaning()));
    }
}

#[test]
fn every_exit_status_is_in_the_help_of_those_who_ask_a_daemon() {
    for arguments in [&["--help"][..], &["status", "--help"], &["reload", "-h"]] {
        let help = Cli::try_parse_from([&["tunnel64d"], arguments].concat()).expect_err("help");
        let help = plain(&help.to_string());
        for exit in Exit::ALL {
            let line = format!("{} {}", exit.code(), exit.meaning());
            assert!(help.contains(&line), "{arguments:?}: {line}\n{help}");
        }
    }
}

#[test]
fn every_metric_with_its_labels_is_in_the_manual() {
    let page = shown(manual::commands(Cli::command()), "tunnel64d.8");
    for family in families::ALL {
        page.has(family.name);
        page.has(family.help);
        for label in family.labels {
            for (word, about) in family.words(label) {
                page.has(&format!("{label}={word} {about}"));
            }
        }
    }
}

#[test]
fn every_message_with_its_remedy_is_in_the_manual() {
    let page = shown(manual::commands(Cli::command()), "tunnel64d.8");
    for message in messages::ALL {
        for text in [message.text, message.id, message.cause, message.remedy] {
            page.has(text);
        }
    }
}

#[test]
fn every_key_with_all_that_is_said_of_it_is_in_the_manual() {
    let page = shown(manual::configuration(), "tunnel64d.toml.5");
    for key in KEYS {
        page.has(&key.path.replace('*', "DESTINATION"));
        page.has(key.effect);
        page.has(key.range);
        page.has(&format!("Default: {}", key.default.unwrap_or("unset")));
    }
}

#[test]
fn every_setting_of_the_unit_is_in_the_manual() {
    let page = shown(manual::service(), "tunnel64d@.service.8");
    let unit = include_str!("../systemd/tunnel64d@.service");
    let mut settings = 0;
    for line in unit.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()) {
        page.has(line);
        settings += 1;
    }
    assert!(settings > 40, "{settings}");
    page.has("systemctl reload tunnel64d@NAME");
}

/// A page as man(1) shows it, blanks and line breaks alike.
struct Page(String);

impl Page {
    fn has(&self, text: &str) {
        assert!(self.0.contains(&plain(text)), "the manual does not say: {text}\n{}", self.0);
    }
}

/// Has man(1) show a page; panics when it has anything to complain of.
fn shown(page: std::io::Result<Vec<u8>>, name: &str) -> Page {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join(name);
    let page = page.expect("a page");
    assert!(page.is_ascii(), "{name}: not every troff reads more");
    fs::write(&file, page).expect("a file");
    let man = Command::new("man")
        .args(["--warnings", "--no-hyphenation", "--no-justification", "-E", "UTF-8", "-l"])
        .arg(&file)
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "400")
        .output()
        .expect("man is installed (`make deps`)");
    let complaints = String::from_utf8_lossy(&man.stderr);
    assert!(man.status.success() && complaints.is_empty(), "{name}: {complaints}");
    Page(plain(&String::from_utf8(man.stdout).expect("text")))
}

/// Without what typesetting adds: quotes, dashes and blanks of several kinds.
fn plain(text: &str) -> String {
    let alike = text.chars().map(|c| match c {
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '−' | '‐' => '-',
        other => other,
    });
    alike.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}
