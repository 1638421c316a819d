//! Exit statuses, as scripts and units know them (sysexits.h where it has one).

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Fine,
    /// 1: tried and failed.
    Failed,
    /// 2: the command line was not understood.
    Usage,
    /// 69: the daemon is not running.
    NotRunning,
    /// 77: permission is missing.
    Permission,
    /// 78: the configuration is wrong; trying again won't help.
    Configuration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 69,
            Exit::Permission => 77,
            Exit::Configuration => 78,
        })
    }
}
