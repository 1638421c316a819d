//! What can be wrong with a configuration, where it stands, and the way out.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error as ThisError;

/// Where a value, or a mistake, was written.
///
/// Ordered as errors are reported: the instance's name, files by path and line, environment, arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The default that the program brings along.
    BuiltIn,
    /// The instance as a whole, by name.
    Instance(String),
    /// A file or directory, with the 1-based line where there is one.
    File {
        /// Path as it was opened.
        path: PathBuf,
        /// 1-based line of the key, or of the list element.
        line: Option<usize>,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A `--set` argument, as it was given.
    Argument(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Instance(name) => write!(f, "instance {name:?}"),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Argument(argument) => write!(f, "--set {argument}"),
        }
    }
}

/// One mistake, printed as `FILE:LINE: section.key: message (way out)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Error {
    /// Where it was written.
    pub origin: Origin,
    /// The key as `section.key`; empty when the mistake has no key.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.problem)
        } else {
            write!(f, "{}: {}: {}", self.origin, self.key, self.problem)
        }
    }
}

impl std::error::Error for Error {}

/// Every mistake of one configuration: sorted, without repetitions, never empty. Prints one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Sorts `errors` and drops repetitions.
    pub(super) fn new(errors: Vec<Error>) -> Self {
        Self(errors.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The mistakes in the order in which they are printed.
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// What is wrong; each message ends with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, ThisError)]
pub enum Problem {
    /// A file or directory exists, or was asked for, and can't be read.
    #[error("can't be read: {0} (make it readable, or remove it)")]
    Unreadable(String),
    /// A file's bytes are not UTF-8.
    #[error("not UTF-8 text (save the file as UTF-8)")]
    NotUtf8,
    /// A file is not TOML.
    #[error("not valid TOML: {0} (mend the syntax)")]
    Syntax(String),
    /// A key that the schema doesn't have.
    #[error("unknown key ({0})")]
    UnknownKey(String),
    /// A section that the schema doesn't have.
    #[error("unknown section ({0})")]
    UnknownSection(String),
    /// A `TUNNEL64D_*` variable that is no key of the schema.
    #[error("not a key ({0}; variables are named TUNNEL64D_SECTION__KEY)")]
    UnknownVariable(String),
    /// A `--set` argument without `=`, or whose key can't be read.
    #[error("not understood (write --set section.key=value)")]
    BadArgument,
    /// A single value stands where a table belongs.
    #[error("{found} where a table belongs (write {example})")]
    NotATable {
        /// The value that was found.
        found: String,
        /// How the table is written.
        example: String,
    },
    /// A value of the wrong type, range or form.
    #[error("{found} is not accepted (expected {expected})")]
    Unfit {
        /// The value that was found.
        found: String,
        /// Type, range or form that is accepted.
        expected: String,
    },
    /// A TOML date or time; no key takes one.
    #[error("a date or time is not accepted (write it in quotes if it is meant as text)")]
    Date,
    /// The same thing twice in one list or table.
    #[error("{0} is given twice (keep one of the two)")]
    Duplicate(String),
    /// A prefix with bits set behind its length.
    #[error(
        "{found} has bits set behind the prefix length (write \"{network}\" for the network, or \"{host}\" for the one host)"
    )]
    HostBits {
        /// The value that was found.
        found: String,
        /// The network that contains it.
        network: String,
        /// The host alone.
        host: String,
    },
    /// Two addresses that must be of one family are not.
    #[error("{found} and {other} are of different families (give both as IPv4 or both as IPv6)")]
    Family {
        /// The address that was found.
        found: String,
        /// The address it goes with.
        other: String,
    },
    /// A value that another one bounds is too high.
    #[error(
        "{low} must be {relation} {high_key}, which is {high} (lower this one, or raise {high_key})"
    )]
    Order {
        /// The value that should be the lower one.
        low: String,
        /// How they must relate: `less than`, `at most` or `at most half of`.
        relation: &'static str,
        /// The key of the other value.
        high_key: &'static str,
        /// The other value.
        high: String,
    },
    /// An empty list of accepted sources would drop every packet.
    #[error(
        "an empty list would drop every packet of the peer (leave the key out to accept what routes and addresses imply)"
    )]
    NothingAllowed,
    /// Plaintext without knowing who may connect.
    #[error(
        "mode = \"plaintext\" needs peer_addresses (set security.peer_addresses to the addresses of the peer)"
    )]
    PlaintextForAnyone,
    /// In plaintext, an address to dial that is not one of the peer's.
    #[error(
        "{0} is not in security.peer_addresses, and in plaintext no other address is dialled (add it there if it is the peer's, or correct it here)"
    )]
    NotThePeer(IpAddr),
    /// TLS without a key to know the peer by.
    #[error(
        "mode = \"tls\" needs peer_public_keys (set security.peer_public_keys to what `tunnel64d pubkey` prints for the other end's key)"
    )]
    TlsForNobody,
    /// Neither end of the link is configured.
    #[error(
        "neither listen nor connect is set, so there is no peer (set one of them; looked for: {0})"
    )]
    NoPeer(String),
    /// figment could not merge the layers.
    #[error("the layers can't be merged: {0} (report this as a bug)")]
    Unmergeable(String),
    /// The name belongs to the file of all instances.
    #[error("\"tunnel64d\" names the file for all instances, tunnel64d.toml (choose another name)")]
    ReservedName,
}
