//! Exit statuses, as scripts and units know them (sysexits.h where it has one).

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Fine,
    /// Tried and failed, or given up waiting for a daemon that hangs.
    Failed,
    /// The command line was not understood.
    Usage,
    /// The daemon is not running.
    NotRunning,
    /// Permission is missing.
    Permission,
    /// The configuration is wrong; trying again won't help.
    Configuration,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Fine,
        Self::Failed,
        Self::Usage,
        Self::NotRunning,
        Self::Permission,
        Self::Configuration,
    ];

    /// The status that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 69,
            Self::Permission => 77,
            Self::Configuration => 78,
        }
    }

    /// What it means, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Fine => "Done.",
            Self::Failed => "Failed, or the daemon did not answer in time; the message says why.",
            Self::Usage => "The command line was not understood.",
            Self::NotRunning => "The daemon is not running.",
            Self::Permission => "Permission is missing.",
            Self::Configuration => "The configuration is wrong; trying again will not help.",
        }
    }
}

/// The statuses with their meanings, as `--help` shows them.
pub fn list() -> String {
    Exit::ALL.iter().fold("Exit status:".to_owned(), |list, exit| {
        format!("{list}\n  {:<4}{}", exit.code(), exit.meaning())
    })
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
