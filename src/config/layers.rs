//! Which layers there are, and what they say together.
//!
//! Built-in values < vendor files < `tunnel64d.toml` < `tunnel64d.d/` < `NAME.toml` < `NAME.d/` <
//! environment < `--set`. figment merges them and remembers which one each value came from. Lists are
//! replaced by later layers, tables are merged key by key.
//!
//! figment's own providers for files and the environment are not used: one skips files that it can't
//! read and knows no lines, the other guesses types from the look of a value.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::Sources;
use super::document::{self, Layer};
use super::error::{Error, Origin, Problem};

/// The file that configures every instance; its stem is no instance's name.
pub const GLOBAL: &str = "tunnel64d";

/// All layers, merged.
pub struct Merged {
    values: Dict,
    figment: Figment,
    layers: Vec<Layer>,
    /// Files and directories that were, or would have been, read; for messages.
    pub looked_for: Vec<PathBuf>,
}

impl Merged {
    /// Reads and merges every layer; what is wrong with single layers goes to `errors`.
    pub fn read(sources: &Sources, errors: &mut Vec<Error>) -> Self {
        let mut layers = vec![document::built_in(&sources.name)];
        let looked_for = read_files(sources, &mut layers, errors);
        let mut variables: Vec<_> =
            sources.environment.iter().filter(|(name, _)| name.starts_with("TUNNEL64D_")).collect();
        // A table's variable comes before those of its keys, so that they refine it.
        variables.sort();
        for (name, value) in variables {
            layers.push(document::variable(name, value, errors));
        }
        for argument in &sources.set {
            layers.push(document::argument(argument, errors));
        }

        let figment = layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
        let values = match figment.data() {
            Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
            Err(error) => {
                errors.push(Error {
                    origin: Origin::Instance(sources.name.clone()),
                    key: String::new(),
                    problem: Problem::Unmergeable(error.to_string()),
                });
                Dict::new()
            }
        };
        Self { values, figment, layers, looked_for }
    }

    /// The value at `path`, from the highest layer that has it.
    pub fn find(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.values.get(*first)?, |value, name| match value {
            Value::Dict(_, inner) => inner.get(*name),
            _ => None,
        })
    }

    /// The directories and files that it was read from, a directory before what is in it.
    pub fn places(&self) -> Vec<PathBuf> {
        let directories = self.looked_for.iter().filter_map(|path| path.parent());
        let files = self.layers.iter().filter_map(|layer| match &layer.origin {
            Origin::File { path, .. } => Some(path.as_path()),
            _ => None,
        });
        let mut places: Vec<_> = directories.filter(|path| path.is_dir()).chain(files).collect();
        places.dedup();
        places.into_iter().map(Path::to_path_buf).collect()
    }

    /// Where the value at `path` was written; `element` is the index within a list.
    pub fn origin(&self, path: &[&str], element: Option<usize>) -> Origin {
        let source = self
            .find(path)
            .and_then(|value| self.figment.get_metadata(value.tag()))
            .and_then(|metadata| metadata.source.as_ref());
        let layer = self.layers.iter().rev().find(|layer| Some(&layer.source()) == source);
        match (layer, element) {
            (None, _) => Origin::BuiltIn,
            (Some(layer), None) => layer.origin_of(path),
            (Some(layer), Some(index)) => layer.origin_of(&[path, &[&index.to_string()]].concat()),
        }
    }
}

impl Layer {
    fn source(&self) -> Source {
        match &self.origin {
            Origin::File { path, .. } => Source::from(path.as_path()),
            other => Source::from(other.to_string()),
        }
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::from("configuration", self.source())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The names of the instances that `config_dir` configures, sorted: `NAME.toml`, and `NAME.d/` with a file in it.
pub fn instances(config_dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(config_dir)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
        let configures = extension == "toml"
            || extension == "d" && path.is_dir() && !toml_files(&path)?.is_empty();
        if configures && stem != GLOBAL && !is_hidden(stem) {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn read_files(sources: &Sources, layers: &mut Vec<Layer>, errors: &mut Vec<Error>) -> Vec<PathBuf> {
    if let Some(file) = &sources.config_file {
        match fs::read(file) {
            Ok(bytes) => layers.push(document::file(file, &bytes, errors)),
            Err(error) => errors.push(unreadable(file, &error)),
        }
        return vec![file.clone()];
    }
    let mut looked_for = vec![sources.vendor_dir.join("*.toml")];
    drop_ins(&sources.vendor_dir, layers, errors);
    for stem in [GLOBAL, sources.name.as_str()] {
        let file = sources.config_dir.join(format!("{stem}.toml"));
        let directory = sources.config_dir.join(format!("{stem}.d"));
        match fs::read(&file) {
            Ok(bytes) => layers.push(document::file(&file, &bytes, errors)),
            Err(error) if is_absent(&file, &error) => {}
            Err(error) => errors.push(unreadable(&file, &error)),
        }
        drop_ins(&directory, layers, errors);
        looked_for.extend([file, directory.join("*.toml")]);
    }
    looked_for
}

fn drop_ins(directory: &Path, layers: &mut Vec<Layer>, errors: &mut Vec<Error>) {
    let files = match toml_files(directory) {
        Ok(files) => files,
        Err(error) if is_absent(directory, &error) => return,
        Err(error) => return errors.push(unreadable(directory, &error)),
    };
    for file in files {
        match fs::read(&file) {
            Ok(bytes) => layers.push(document::file(&file, &bytes, errors)),
            Err(error) => errors.push(unreadable(&file, &error)),
        }
    }
}

/// The `*.toml` of a directory, by file name; hidden ones are editors' leftovers.
fn toml_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("toml")) && !path.file_name().is_some_and(is_hidden)
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether nothing is there, as opposed to a link that leads nowhere.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err()
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
            "it is a link that leads nowhere".to_owned()
        }
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    Error {
        origin: Origin::File { path: path.to_owned(), line: None },
        key: String::new(),
        problem: Problem::Unreadable(reason),
    }
}
