//! As much of Varlink's interface definitions as ours uses, to hold real values against them.

use std::collections::BTreeMap;

use serde_json::Value;

/// The definition of our interface.
pub const INTERFACE: &str = include_str!("../../src/control/org.tunnel64d.varlink");

/// The types of an interface, by their names.
pub struct Types(BTreeMap<String, Type>);

enum Type {
    Struct(BTreeMap<String, String>),
    Enum(Vec<String>),
}

impl Types {
    /// Those that our interface defines.
    pub fn ours() -> Self {
        let uncommented: Vec<_> =
            INTERFACE.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
        let text = uncommented.join(" ");
        let types = text.split("type ").skip(1).map(|definition| {
            let (name, rest) = definition.split_once('(').expect("a name and a body");
            let (body, _) = rest.split_once(')').expect("the end of the body");
            let members = body.split(',').map(str::trim);
            let of = if body.contains(':') {
                let fields = members.map(|member| member.split_once(':').expect("name: type"));
                Type::Struct(
                    fields.map(|(n, t)| (n.trim().to_owned(), t.trim().to_owned())).collect(),
                )
            } else {
                Type::Enum(members.map(str::to_owned).collect())
            };
            (name.trim().to_owned(), of)
        });
        Self(types.collect())
    }

    /// What in a value is not as the type with this name has it.
    pub fn faults(&self, name: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(name, value, name, &mut faults);
        faults
    }

    fn check(&self, of: &str, value: &Value, path: &str, faults: &mut Vec<String>) {
        let fits = match (of, value) {
            ("int", _) => value.is_i64() || value.is_u64(),
            ("string", _) => value.is_string(),
            ("bool", _) => value.is_boolean(),
            _ if of.starts_with('?') => {
                if !value.is_null() {
                    self.check(&of[1..], value, path, faults);
                }
                true
            }
            (_, Value::Array(values)) if of.starts_with("[]") => {
                values.iter().for_each(|value| self.check(&of[2..], value, path, faults));
                true
            }
            (_, Value::Object(values)) if of.starts_with("[string]") => {
                let of = &of["[string]".len()..];
                values.values().for_each(|value| self.check(of, value, path, faults));
                true
            }
            _ => match (self.0.get(of), value) {
                (Some(Type::Enum(values)), Value::String(value)) => values.contains(value),
                (Some(Type::Struct(fields)), Value::Object(values)) => {
                    let undefined = values.keys().filter(|name| !fields.contains_key(*name));
                    faults.extend(undefined.map(|name| format!("{path}.{name} is not defined")));
                    for (name, of) in fields {
                        match values.get(name) {
                            Some(value) => self.check(of, value, &format!("{path}.{name}"), faults),
                            None => faults.push(format!("{path}.{name} is missing")),
                        }
                    }
                    true
                }
                _ => false,
            },
        };
        if !fits {
            faults.push(format!("{path} is {value}, not {of}"));
        }
    }
}
