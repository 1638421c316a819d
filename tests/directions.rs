//! Imports go down only: a room of `src` sees the rooms in rows below its own, and never one beside
//! it or above.
//!
//! Any path that starts in the crate's root counts, wherever it stands: `use`, expressions, macros,
//! unit tests. A macro that a room exports counts as that room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::slice::Iter;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The rows of docs/architecture.md, from the top.
const ROWS: [&[&str]; 8] = [
    &["main"],
    &["cli"],
    &["daemon"],
    &["service", "control", "netlink", "config"],
    &["link", "datapath"],
    &["transport", "queue", "tun"],
    &["wire", "packet", "sys"],
    &["metrics", "time"],
];

#[test]
fn every_room_imports_from_rows_below_its_own_only() {
    let violations = violations(&sources());
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_room_has_its_row_and_every_row_its_rooms() {
    let built: BTreeSet<_> = sources().into_iter().map(|source| source.room).collect();
    let listed: BTreeSet<_> = ROWS.into_iter().flatten().map(|room| (*room).to_owned()).collect();
    assert_eq!(built, listed);
}

#[test]
fn the_rows_are_those_of_the_architecture() {
    let document = include_str!("../docs/architecture.md");
    for rooms in ROWS {
        let drawn =
            |line: &str| line.split_whitespace().take(rooms.len()).eq(rooms.iter().copied());
        assert!(document.lines().any(drawn), "{rooms:?}");
    }
}

#[test]
fn a_path_up_or_sideways_is_found_in_every_form() {
    for (path, text) in [
        ("link/session.rs", "use crate::datapath::inbound;"),
        ("datapath/mod.rs", "use crate::{link::session, wire};"),
        ("tun/device.rs", "fn f() { let _ = crate::transport::tcp::dial; }"),
        ("netlink/mod.rs", "fn f() { crate::report!(); }"),
        ("netlink/mod.rs", "use crate::report;"),
        ("queue/fifo.rs", "fn f() { select! { _ = crate::daemon::run() => {} } }"),
        ("wire/mod.rs", "use super::packet::buffer;"),
        ("wire/frame.rs", "use super::super::packet;"),
        ("wire/frame.rs", "mod tests { use super::super::super::packet; }"),
        ("wire/frame.rs", "mod tests { use crate::cli; }"),
        ("time.rs", "use super::wire::frame;"),
        ("metrics/mod.rs", "use crate::time::Time;"),
        ("datapath/inbound.rs", "use crate::config::Settings;"),
        ("main.rs", "fn main() { tunnel64d::nowhere::main() }"),
    ] {
        assert_eq!(violations_of(path, text), 1, "{path}: {text}");
    }
}

#[test]
fn a_path_down_or_within_the_room_is_not() {
    for (path, text) in [
        ("main.rs", "fn main() { tunnel64d::cli::main() }"),
        ("cli/run.rs", "use crate::config::{self, Settings}; use crate::{daemon, report};"),
        ("daemon/tunnel.rs", "use crate::{link::session, time::Time}; fn f() { report!(); }"),
        ("service/notify.rs", "fn f() { crate::report!(); }"),
        ("wire/frame.rs", "use super::hello; use crate::wire::bye; pub(crate) struct S;"),
        ("wire/mod.rs", "mod inner { use super::bye; }"),
        ("wire/frame.rs", "mod tests { use super::super::hello; }"),
        ("sys/tun.rs", "fn f(t: tun::Device, u: ::tun::Device) {}"),
        (
            "wire/bye.rs",
            "//! See [`x`](crate::daemon).\n/* crate::cli */ const S: &str = \"crate::cli\";",
        ),
    ] {
        assert_eq!(violations_of(path, text), 0, "{path}: {text}");
    }
}

#[test]
fn a_room_without_a_row_is_found_at_both_ends() {
    assert_eq!(violations_of("attic/mod.rs", "use crate::wire::frame;"), 1);
    assert_eq!(violations_of("daemon/mod.rs", "use crate::attic;"), 1);
    assert_eq!(violations_of("daemon/mod.rs", "use crate::*;"), 1);
    assert_eq!(violations_of("daemon/mod.rs", "use crate as everything;"), 1);
}

/// What is wrong with one made-up file beside a service room that exports a macro.
fn violations_of(path: &str, text: &str) -> usize {
    let service = "#[macro_export]\nmacro_rules! report { () => { $crate::service::x() } }";
    violations(&[Source::new("service/logging.rs", service), Source::new(path, text)]).len()
}

/// One file of `src`, or a made-up one.
struct Source {
    path: String,
    room: String,
    /// How many modules lie between the crate's root and what is written in it.
    depth: usize,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let room = module.split('/').next().unwrap_or(module).to_owned();
        let depth = module.split('/').count();
        Self { path: path.to_owned(), room, depth, text: text.to_owned() }
    }

    fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// All files but lib.rs, which only lists the rooms.
fn sources() -> Vec<Source> {
    fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(directory).expect("a directory of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(root).expect("a path below src");
                sources.push(Source::new(&path.display().to_string(), &text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    sources.retain(|source| source.path != "lib.rs");
    sources
}

fn violations(sources: &[Source]) -> Vec<String> {
    let row = |room: &str| ROWS.iter().position(|rooms| rooms.contains(&room));
    let macros: BTreeMap<_, _> = sources
        .iter()
        .flat_map(|source| exported_macros(source).into_iter().map(|name| (name, &source.room)))
        .collect();
    let mut violations = Vec::new();
    for source in sources {
        let Source { path, room, .. } = source;
        let mut names = BTreeSet::new();
        root_names(source.tokens(), source.depth, &mut names);
        for name in names {
            let imported = macros.get(&name).map_or(&name, |room| *room);
            match (row(room), row(imported)) {
                _ if imported == room => {}
                (Some(own), Some(other)) if other > own => {}
                (Some(_), Some(_)) if *imported == name => {
                    violations.push(format!("{path} imports {name}, which is not below {room}"));
                }
                (Some(_), Some(_)) => violations.push(format!(
                    "{path} imports {imported} by its macro {name}, which is not below {room}"
                )),
                (None, _) => violations.push(format!("{path}: {room} has no row")),
                (_, None) => violations.push(format!("{path}: {name} is no room with a row")),
            }
        }
    }
    violations
}

/// Collects the names that paths take from the crate's root. `depth` is that of the module in
/// which the tokens stand.
fn root_names(tokens: TokenStream, depth: usize, names: &mut BTreeSet<String>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    let mut rest = trees.iter();
    while let Some(tree) = rest.next() {
        match tree {
            TokenTree::Ident(ident) if ident == "mod" => {
                if let [TokenTree::Ident(_), TokenTree::Group(body), ..] = rest.as_slice() {
                    root_names(body.stream(), depth + 1, names);
                    rest.nth(1);
                }
            }
            TokenTree::Ident(ident) if ident == "crate" || ident == "tunnel64d" => {
                first_names(rest.clone(), names);
            }
            TokenTree::Ident(ident) if ident == "super" => {
                let mut climbed = 1;
                while leads_to_super(&rest) {
                    climbed += 1;
                    rest.nth(2);
                }
                if climbed == depth {
                    first_names(rest.clone(), names);
                }
            }
            TokenTree::Group(group) => root_names(group.stream(), depth, names),
            _ => {}
        }
    }
}

fn leads_to_super(rest: &Iter<'_, TokenTree>) -> bool {
    matches!(
        rest.as_slice(),
        [colon, _, TokenTree::Ident(next), ..] if is(colon, ':') && next == "super"
    )
}

/// What follows the crate's root: a name, or a group of paths that each begin with one.
fn first_names(mut rest: Iter<'_, TokenTree>, names: &mut BTreeSet<String>) {
    match rest.as_slice() {
        [first, second, ..] if is(first, ':') && is(second, ':') => {
            rest.nth(1);
        }
        // The whole crate under another name could hide anything.
        [TokenTree::Ident(word), ..] if word == "as" => {}
        // `pub(crate)`, `mod tunnel64d` and the like.
        _ => return,
    }
    match rest.next() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            names.extend(group_names(group));
        }
        Some(name) => {
            names.insert(name.to_string());
        }
        None => {}
    }
}

fn group_names(group: &Group) -> Vec<String> {
    let trees: Vec<_> = group.stream().into_iter().collect();
    let paths = trees.split(|tree| is(tree, ','));
    paths.filter_map(|path| path.first()).map(ToString::to_string).collect()
}

/// The macros that a file exports, which callers find in the crate's root.
fn exported_macros(source: &Source) -> Vec<String> {
    let words: Vec<_> = source.tokens().into_iter().map(|tree| tree.to_string()).collect();
    let exports = words.windows(5).filter(|words| {
        words[1].contains("macro_export") && words[2] == "macro_rules" && words[3] == "!"
    });
    exports.map(|words| words[4].clone()).collect()
}

fn is(tree: &TokenTree, punctuation: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == punctuation)
}
