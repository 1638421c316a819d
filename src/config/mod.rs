//! Configuration: files, environment and arguments in, [`Settings`] or every mistake out.
//!
//! In the order in which a value passes through:
//!
//! - `layers`: which files, variables and arguments there are; figment merges them.
//! - `document`: the text of one layer → values and their lines; misspelt keys are found here.
//! - [`schema`]: every key with its type, default, range and effect.
//! - `validate`, `reader`, `values`: merged values → [`Settings`], typed, within bounds, consistent.
//! - `print`: settings and their origins → TOML.
//! - [`legacy`]: the old `key=value` file → TOML.

mod document;
mod error;
mod layers;
pub mod legacy;
mod print;
mod reader;
pub mod schema;
mod settings;
mod validate;
mod values;

use std::path::PathBuf;

pub use error::{Error, Errors, Origin, Problem};
pub use layers::instances;
pub use print::{Leaf, to_toml};
pub use settings::*;
pub use values::DEFAULT_PORT;

/// Where the configuration of one instance comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Name of the instance; a valid interface name other than `tunnel64d`.
    pub name: String,
    /// Directory of the vendor's `*.toml`; default: /usr/lib/tunnel64d.
    pub vendor_dir: PathBuf,
    /// Directory of the administrator's files; default: /etc/tunnel64d.
    pub config_dir: PathBuf,
    /// The one file to read instead of those in both directories; default: none.
    pub config_file: Option<PathBuf>,
    /// Environment variables; only those named `TUNNEL64D_…` count.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` arguments, in order.
    pub set: Vec<String>,
}

impl Sources {
    /// The default directories and the process's environment. Values that are not UTF-8 keep their
    /// place with replacement characters, which no key accepts where it matters.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            vendor_dir: PathBuf::from("/usr/lib/tunnel64d"),
            config_dir: PathBuf::from("/etc/tunnel64d"),
            config_file: None,
            environment: std::env::vars_os()
                .map(|(name, value)| {
                    (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .filter(|(name, _)| name.starts_with("TUNNEL64D_"))
                .collect(),
            set: Vec::new(),
        }
    }

    /// The file in which an administrator would configure this instance.
    pub fn own_file(&self) -> PathBuf {
        self.config_file
            .clone()
            .unwrap_or_else(|| self.config_dir.join(format!("{}.toml", self.name)))
    }
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the daemon uses.
    pub settings: Settings,
    /// Every key, in the order of the schema, with its effective value and where that came from.
    pub origins: Vec<Leaf>,
    /// The directories and files that it was read from, a directory before what is in it.
    pub places: Vec<PathBuf>,
}

/// Reads, merges and validates all layers of one instance.
///
/// # Errors
/// Everything that is wrong, in all layers, at once.
pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
    check_name(&sources.name)?;
    let mut errors = Vec::new();
    let merged = layers::Merged::read(sources, &mut errors);
    match validate::settings(sources, &merged, &mut errors) {
        Some(settings) if errors.is_empty() => {
            let origins = print::leaves(&settings, |path| merged.origin(path, None));
            Ok(Loaded { settings, origins, places: merged.places() })
        }
        _ => Err(Errors::new(errors)),
    }
}

/// The name becomes part of paths and usually the interface's name, so it is checked before any file is opened.
fn check_name(name: &str) -> Result<(), Errors> {
    let problem = if !values::is_interface_name(name) || name.starts_with('.') {
        Problem::Unfit {
            found: format!("{name:?}"),
            expected: "an instance name: 1 to 15 bytes without blanks, '/', ':' or '%', and not \
                       starting with '.'"
                .to_owned(),
        }
    } else if name == layers::GLOBAL {
        Problem::ReservedName
    } else {
        return Ok(());
    };
    let origin = Origin::Instance(name.to_owned());
    Err(Errors::new(vec![Error { origin, key: String::new(), problem }]))
}

#[cfg(test)]
mod tests;
