//! The text of one layer → its values, as far as the schema knows them, and the line of each.
//!
//! Structure is checked here, layer by layer, so that a misspelt key is found even where a later layer
//! would hide it. Types and ranges are checked once the layers are merged.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use figment::value::{Dict, Value};
use toml_edit::{Document, Item, Key, TableLike};

use super::error::{Error, Origin, Problem};
use super::schema::{self, Kind};
use super::values::{self, Refusal};

/// What one source of configuration says.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The source; a file without a line.
    pub origin: Origin,
    /// Values by section and key.
    pub values: Dict,
    lines: HashMap<Vec<String>, usize>,
}

impl Layer {
    /// The origin of the value at `path`, with its line.
    pub fn origin_of(&self, path: &[&str]) -> Origin {
        match &self.origin {
            Origin::File { path: file, .. } => {
                let path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
                let line =
                    (1..=path.len()).rev().find_map(|length| self.lines.get(&path[..length]));
                Origin::File { path: file.clone(), line: line.copied() }
            }
            other => other.clone(),
        }
    }
}

/// The built-in values; the interface is named after the instance.
pub fn built_in(instance: &str) -> Layer {
    let mut reader = Reader::new(Origin::BuiltIn, None);
    for key in schema::KEYS {
        let path: Vec<_> = key.path.split('.').map(str::to_owned).collect();
        let value = match key.default {
            Some(text) => text.parse().ok().and_then(|value| reader.value(&path, &value)),
            None if key.path == "interface.name" => Some(Value::from(instance)),
            None => None,
        };
        if let Some(value) = value {
            insert(&mut reader.values, &path, value);
        }
    }
    reader.finish(&mut Vec::new())
}

/// Reads the bytes of a TOML file; what is wrong with it goes to `errors`.
pub fn file(path: &Path, bytes: &[u8], errors: &mut Vec<Error>) -> Layer {
    let origin = Origin::File { path: path.to_owned(), line: None };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            let origin = Origin::File { path: path.to_owned(), line: Some(line) };
            errors.push(Error {
                origin: origin.clone(),
                key: String::new(),
                problem: Problem::NotUtf8,
            });
            return Reader::new(origin, None).finish(errors);
        }
    };
    let mut reader = Reader::new(origin, Some(text));
    match Document::parse(text) {
        Ok(document) => reader.table(&[], document.as_table()),
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let line = error.span().and_then(|span| reader.line(Some(span)));
            reader.error(line, &[], Problem::Syntax(message));
        }
    }
    reader.finish(errors)
}

/// Reads `TUNNEL64D_SECTION__KEY`; what is wrong with it goes to `errors`.
pub fn variable(name: &str, value: &str, errors: &mut Vec<Error>) -> Layer {
    let mut reader = Reader::new(Origin::Environment(name.to_owned()), None);
    let segments = name.strip_prefix("TUNNEL64D_").filter(|rest| *rest == rest.to_uppercase());
    let path: Vec<String> =
        segments.unwrap_or_default().to_lowercase().split("__").map(str::to_owned).collect();
    if is_known(&path) {
        reader.single(&path, value);
    } else {
        reader.error(None, &[], Problem::UnknownVariable(nearest_variable(name)));
    }
    reader.finish(errors)
}

/// Reads the `section.key=value` of `--set`; what is wrong with it goes to `errors`.
pub fn argument(argument: &str, errors: &mut Vec<Error>) -> Layer {
    let mut reader = Reader::new(Origin::Argument(argument.to_owned()), None);
    let path = argument.split_once('=').and_then(|(key, _)| Key::parse(key.trim()).ok());
    match (path, argument.split_once('=')) {
        (Some(keys), Some((_, value))) => {
            let path: Vec<String> = keys.iter().map(|key| key.get().to_owned()).collect();
            let known = (1..=path.len()).find(|length| !is_known(&path[..*length]));
            match known {
                None => reader.single(&path, value),
                Some(length) => {
                    let problem = unknown(&path[..length], length < path.len());
                    reader.error(None, &path[..length], problem);
                }
            }
        }
        _ => reader.error(None, &[], Problem::BadArgument),
    }
    reader.finish(errors)
}

/// `section.key`, with quotes where TOML wants them.
pub fn key_name<S: AsRef<str>>(path: &[S]) -> String {
    let names: Vec<String> =
        path.iter().map(|name| Key::new(name.as_ref()).display_repr().into_owned()).collect();
    names.join(".")
}

struct Reader {
    origin: Origin,
    line_starts: Vec<usize>,
    values: Dict,
    lines: HashMap<Vec<String>, usize>,
    errors: Vec<Error>,
}

impl Reader {
    fn new(origin: Origin, text: Option<&str>) -> Self {
        let ends = text.unwrap_or_default().match_indices('\n').map(|(end, _)| end + 1);
        let line_starts = text.iter().map(|_| 0).chain(ends).collect();
        Self { origin, line_starts, values: Dict::new(), lines: HashMap::new(), errors: Vec::new() }
    }

    fn finish(self, errors: &mut Vec<Error>) -> Layer {
        errors.extend(self.errors);
        Layer { origin: self.origin, values: self.values, lines: self.lines }
    }

    fn table(&mut self, prefix: &[String], table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let span = table.key(name).and_then(Key::span).or_else(|| item.span());
            let line = self.line(span);
            let mut path = prefix.to_vec();
            path.push(name.to_owned());
            if !is_known(&path) {
                self.error(line, &path, unknown(&path, item.is_table_like()));
                continue;
            }
            let Some(path) = self.canonical(path, line) else { continue };
            let earlier = line.and_then(|line| self.lines.insert(path.clone(), line));
            if earlier.is_some() {
                self.error(line, &path, Problem::Duplicate(format!("{name:?}")));
            }
            self.item(&path, item, line);
        }
    }

    fn item(&mut self, path: &[String], item: &Item, line: Option<usize>) {
        if schema::find(&borrowed(path)).is_some() {
            let value = match item {
                Item::Value(value) => self.value(path, value),
                Item::Table(_) => Some(Value::from(Dict::new())),
                Item::ArrayOfTables(_) | Item::None => Some(Value::from(Vec::<Value>::new())),
            };
            if let Some(value) = value {
                insert(&mut self.values, path, value);
            }
        } else if let Some(table) = item.as_table_like() {
            // A route without keys is a route all the same.
            insert(&mut self.values, path, Value::from(Dict::new()));
            self.table(path, table);
        } else {
            let found = match item.as_value().and_then(|value| self.value(path, value)) {
                Some(value) => values::quoted(&value),
                None => "a list of tables".to_owned(),
            };
            self.error(line, path, not_a_table(path, found));
        }
    }

    fn value(&mut self, path: &[String], value: &toml_edit::Value) -> Option<Value> {
        use toml_edit::Value as Toml;
        Some(match value {
            Toml::String(text) => Value::from(text.value().as_str()),
            Toml::Integer(number) => Value::from(*number.value()),
            Toml::Float(number) => Value::from(*number.value()),
            Toml::Boolean(flag) => Value::from(*flag.value()),
            Toml::InlineTable(_) => Value::from(Dict::new()),
            Toml::Datetime(_) => {
                let line = self.line(value.span());
                self.error(line, path, Problem::Date);
                return None;
            }
            Toml::Array(array) => {
                let mut elements = Vec::new();
                for (index, element) in array.iter().enumerate() {
                    let mut path = path.to_vec();
                    path.push(index.to_string());
                    if let Some(line) = self.line(element.span()) {
                        self.lines.insert(path.clone(), line);
                    }
                    elements.extend(self.value(&path[..path.len() - 1], element));
                }
                Value::from(elements)
            }
        })
    }

    /// A value that stands alone, in a variable or an argument: text, read as the key's kind wants it.
    fn single(&mut self, path: &[String], text: &str) {
        let Some(path) = self.canonical(path.to_vec(), None) else { return };
        if let Some(key) = schema::find(&borrowed(&path)) {
            if let Some(value) = self.typed(&path, key.kind, text) {
                insert(&mut self.values, &path, value);
            }
            return;
        }
        match text.trim().parse::<toml_edit::Value>() {
            Ok(toml_edit::Value::InlineTable(table)) => {
                insert(&mut self.values, &path, Value::from(Dict::new()));
                self.table(&path, &table);
            }
            _ => {
                let found = values::quoted(&Value::from(text));
                self.error(None, &path, not_a_table(&path, found));
            }
        }
    }

    fn typed(&mut self, path: &[String], kind: Kind, text: &str) -> Option<Value> {
        let text = text.trim();
        let number = || match text.parse::<toml_edit::Value>() {
            Ok(toml_edit::Value::Integer(number)) => Some(Value::from(*number.value())),
            _ => None,
        };
        Some(match kind {
            Kind::Text => Value::from(unquoted(text)),
            Kind::Integer | Kind::TextOrInteger => {
                number().unwrap_or_else(|| Value::from(unquoted(text)))
            }
            Kind::Flag => match text.parse::<bool>() {
                Ok(flag) => Value::from(flag),
                Err(_) => Value::from(unquoted(text)),
            },
            Kind::List | Kind::TextOrList => {
                let inner = match in_brackets(text) {
                    Some(inner) => match text.parse::<toml_edit::Value>() {
                        Ok(array) => return self.value(path, &array),
                        Err(_) => inner,
                    },
                    None => text,
                };
                let inner = inner.trim().trim_end_matches(',');
                let elements =
                    inner.split(',').map(|element| Value::from(unquoted(element.trim())));
                Value::from(if inner.is_empty() { Vec::new() } else { elements.collect() })
            }
        })
    }

    /// Writes a route's destination the one way that lets layers meet on it.
    fn canonical(&mut self, mut path: Vec<String>, line: Option<usize>) -> Option<Vec<String>> {
        match &mut path[..] {
            [interface, routes, destination, ..]
                if interface == "interface" && routes == "routes" =>
            {
                let problem = match values::prefix(destination) {
                    Ok(prefix) => {
                        *destination = prefix.to_string();
                        return Some(path);
                    }
                    Err(Refusal::Problem(problem)) => problem,
                    Err(Refusal::Unfit) => Problem::Unfit {
                        found: format!("{destination:?}"),
                        expected: "a destination, such as \"fc00:1234:4::/64\"".to_owned(),
                    },
                };
                self.error(line, &path, problem);
                None
            }
            _ => Some(path),
        }
    }

    fn line(&self, span: Option<Range<usize>>) -> Option<usize> {
        let line = self
            .line_starts
            .partition_point(|start| span.as_ref().is_some_and(|span| *start <= span.start));
        (line > 0).then_some(line)
    }

    fn error(&mut self, at: Option<usize>, path: &[String], problem: Problem) {
        let mut origin = self.origin.clone();
        if let Origin::File { line, .. } = &mut origin {
            *line = at;
        }
        self.errors.push(Error { origin, key: key_name(path), problem });
    }
}

fn borrowed(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn is_known(path: &[String]) -> bool {
    let path = borrowed(path);
    schema::find(&path).is_some() || !schema::children(&path).is_empty()
}

fn unknown(path: &[String], is_table: bool) -> Problem {
    let path = borrowed(path);
    let (name, prefix) = path.split_last().unwrap_or((&"", &[]));
    let suggestion = schema::suggestion(prefix, name);
    if prefix.is_empty() && is_table {
        Problem::UnknownSection(suggestion)
    } else {
        Problem::UnknownKey(suggestion)
    }
}

fn not_a_table(path: &[String], found: String) -> Problem {
    let inner = schema::children(&borrowed(path));
    let example = match inner[..] {
        ["*"] => "{ \"fc00:1234:4::/64\" = { via = \"fc00:1234:ffff::10\" } }".to_owned(),
        _ if path.len() == 1 => format!("[{}] and its keys on lines of their own", key_name(path)),
        _ => format!("{{ {} = … }}", inner.join(" = …, ")),
    };
    Problem::NotATable { found, example }
}

fn nearest_variable(name: &str) -> String {
    let name = name.to_uppercase();
    let variables: Vec<String> = schema::KEYS
        .iter()
        .filter(|key| !key.path.contains('*'))
        .map(|key| format!("TUNNEL64D_{}", key.path.replace('.', "__").to_uppercase()))
        .collect();
    let without_section: Vec<&String> = variables
        .iter()
        .filter(|variable| variable.rsplit("__").next() == name.strip_prefix("TUNNEL64D_"))
        .collect();
    let nearest = match without_section[..] {
        [only] => Some(only),
        _ => variables
            .iter()
            .map(|variable| (strsim::damerau_levenshtein(variable, &name), variable))
            .min()
            .filter(|(distance, _)| {
                *distance <= 1 + name.len().saturating_sub("TUNNEL64D_".len()) / 4
            })
            .map(|(_, variable)| variable),
    };
    nearest.map_or_else(|| "unset it".to_owned(), |nearest| format!("did you mean {nearest}?"))
}

fn insert(values: &mut Dict, path: &[String], value: Value) {
    let Some((last, sections)) = path.split_last() else { return };
    let mut values = values;
    for section in sections {
        let inner = values.entry(section.clone()).or_insert_with(|| Value::from(Dict::new()));
        let Value::Dict(_, inner) = inner else { return };
        values = inner;
    }
    values.insert(last.clone(), value);
}

/// Takes off TOML's quotes; anything else stays as it is.
fn unquoted(text: &str) -> String {
    match text.parse::<toml_edit::Value>() {
        Ok(toml_edit::Value::String(string)) => string.into_value(),
        _ => text.to_owned(),
    }
}

/// The inside of `[…]`, when its first bracket closes with its last: `[::1]:4641` is no list.
fn in_brackets(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut depth = 0usize;
    for c in inner.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    Some(inner)
}
