//! Looks values up in the merged layers, and names the place of each that is wrong.

use std::time::Duration;

use figment::value::Value;

use super::error::{Error, Origin, Problem};
use super::layers::Merged;
use super::schema;
use super::values::{self, Parsed, Refusal};
use super::{Sources, document};

/// Looks values up, and notes what is wrong with them under the place where they were written.
pub struct Reader<'a> {
    /// Where the layers come from.
    pub sources: &'a Sources,
    /// What they say together.
    pub merged: &'a Merged,
    /// What was wrong so far.
    pub errors: &'a mut Vec<Error>,
}

/// A key with its value, `None` after an error.
type Named<T> = (&'static str, Option<T>);

impl Reader<'_> {
    /// A key with a built-in value; `None` after an error.
    pub fn required<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Parsed<T>) -> Option<T> {
        self.optional(key, parse).flatten()
    }

    /// A key that may be unset; the outer `None` after an error.
    pub fn optional<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<Option<T>> {
        self.optional_at(&key.split('.').collect::<Vec<_>>(), parse)
    }

    /// The same for a key that has a name of the admin's in its path.
    pub fn optional_at<T>(
        &mut self,
        path: &[&str],
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<Option<T>> {
        let Some(value) = self.merged.find(path) else { return Some(None) };
        match parse(value) {
            Ok(value) => Some(Some(value)),
            Err(refusal) => {
                self.refused(path, None, value, refusal);
                None
            }
        }
    }

    /// A list, nothing in it twice; `None` after an error.
    pub fn list<T: PartialEq>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Parsed<T>,
    ) -> Option<Vec<T>> {
        let path: Vec<_> = key.split('.').collect();
        let value = self.merged.find(&path)?;
        let Value::Array(_, elements) = value else {
            self.refused(&path, None, value, Refusal::Unfit);
            return None;
        };
        let mut list = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            match parse(element) {
                Ok(item) if list.contains(&item) => {
                    let problem = Problem::Duplicate(values::quoted(element));
                    self.element_error(&path, index, problem);
                }
                Ok(item) => list.push(item),
                Err(refusal) => self.refused(&path, Some(index), element, refusal),
            }
        }
        (list.len() == elements.len()).then_some(list)
    }

    fn refused(&mut self, path: &[&str], element: Option<usize>, value: &Value, refusal: Refusal) {
        let problem = match refusal {
            Refusal::Problem(problem) => problem,
            Refusal::Unfit => Problem::Unfit {
                found: values::quoted(value),
                expected: schema::find(path).map_or("another value", |key| key.range).to_owned(),
            },
        };
        match element {
            None => self.error(path, problem),
            Some(index) => self.element_error(path, index, problem),
        }
    }

    /// Names the lower of two durations if it is not less than the higher one.
    pub fn less(&mut self, low: Named<Duration>, high: Named<Duration>) {
        if low.1 >= high.1 {
            self.order(low, "less than", high);
        }
    }

    /// Names the lower of two durations if it exceeds the higher one.
    pub fn at_most(&mut self, low: Named<Duration>, high: Named<Duration>) {
        if low.1 > high.1 {
            self.order(low, "at most", high);
        }
    }

    /// Names the lower of two durations if the higher one is not at least twice as long.
    pub fn at_most_half(&mut self, low: Named<Duration>, high: Named<Duration>) {
        if low.1.map(|low| 2 * low) > high.1 {
            self.order(low, "at most half of", high);
        }
    }

    fn order(&mut self, low: Named<Duration>, relation: &'static str, high: Named<Duration>) {
        let ((low_key, Some(low)), (high_key, Some(high))) = (low, high) else { return };
        let (low, high) = (shown(low), shown(high));
        let path: Vec<_> = low_key.split('.').collect();
        let mut origin = self.merged.origin(&path, None);
        if origin == Origin::BuiltIn {
            origin = self.merged.origin(&high_key.split('.').collect::<Vec<_>>(), None);
        }
        self.push(origin, &path, Problem::Order { low, relation, high_key, high });
    }

    /// Something that is wrong with the value at `path`.
    pub fn error(&mut self, path: &[&str], problem: Problem) {
        let origin = self.merged.origin(path, None);
        self.push(origin, path, problem);
    }

    /// Something that is wrong with one element of the list at `path`.
    pub fn element_error(&mut self, path: &[&str], index: usize, problem: Problem) {
        let origin = self.merged.origin(path, Some(index));
        self.push(origin, path, problem);
    }

    /// Something that no single line says: named under the instance's own file.
    pub fn instance_error(&mut self, key: &str, problem: Problem) {
        self.push(Origin::BuiltIn, &[key], problem);
    }

    fn push(&mut self, mut origin: Origin, path: &[&str], problem: Problem) {
        // A default can't be edited; the file that would override it can.
        if origin == Origin::BuiltIn {
            origin = Origin::File { path: self.sources.own_file(), line: None };
        }
        self.errors.push(Error { origin, key: document::key_name(path), problem });
    }

    /// Whether all that was written about `section` was understood as far as its keys go, so that what
    /// is missing is really missing.
    pub fn complete(&self, section: &str) -> bool {
        let is_below = |key: &str| key.strip_prefix(section).is_some_and(|k| k.starts_with('.'));
        !self.errors.iter().any(|error| match &error.problem {
            Problem::Unreadable(_) | Problem::NotUtf8 | Problem::Syntax(_) => true,
            Problem::UnknownSection(_) | Problem::UnknownVariable(_) => true,
            Problem::BadArgument => true,
            Problem::UnknownKey(_) => is_below(&error.key),
            Problem::NotATable { .. } => error.key == section,
            _ => false,
        })
    }
}

fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
