//! What the documents show works: the README's configurations are valid, links lead somewhere, and
//! what they tell of keys and messages is so.

use std::fs;
use std::path::{Path, PathBuf};

use tunnel64d::config::schema::KEYS;
use tunnel64d::config::{self, Sources};
use tunnel64d::service::messages;

#[test]
fn the_configurations_in_the_readme_are_valid() {
    let readme = read(&root().join("README.md"));
    let blocks: Vec<_> = readme.split("\n```toml\n").skip(1).collect();
    assert_eq!(blocks.len(), 2, "one for each gateway");
    for block in blocks {
        let (text, _) = block.split_once("```").expect("the end of the block");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("the configuration");
        let sources = Sources {
            config_file: Some(file.path().to_owned()),
            environment: Vec::new(),
            ..Sources::new("tun0")
        };
        if let Err(errors) = config::load(&sources) {
            panic!("{errors}");
        }
    }
}

#[test]
fn what_a_reload_does_with_each_key_is_told_as_it_is() {
    let document = read(&root().join("docs/reload.md"));
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let keys = KEYS
        .iter()
        .map(|key| format!("| `{}` | {} |", key.path.replace('*', "DESTINATION"), key.reload));
    assert_eq!(rows, keys.collect::<Vec<_>>());
    for message in [messages::RELOADED, messages::RELOAD_REJECTED] {
        assert!(document.contains(&format!("MESSAGE_ID={}", message.id)), "{}", message.name);
    }
}

#[test]
fn links_within_the_documents_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.with_file_name(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !heading.is_empty() {
                let known = read(&target).lines().any(|line| anchor(line) == heading);
                assert!(known, "{}: {link}", document.display());
            }
        }
    }
}

#[test]
fn every_claim_of_the_threat_model_names_tests_that_exist() {
    let model = read(&root().join("docs/threat-model.md"));
    let sources = sources(&root().join("src")) + &sources(&root().join("tests"));
    let claims = model.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |"));
    let mut tests = 0;
    for claim in claims {
        let (_, proof) = claim.trim_end_matches(" |").rsplit_once(" | ").expect("two columns");
        let mut fuzzed = false;
        let mut named = 0;
        for (index, part) in proof.split('`').enumerate() {
            if index % 2 == 0 {
                fuzzed |= part.contains("fuzz target");
            } else if fuzzed {
                let target = root().join(format!("tests/fuzz/fuzz_targets/{part}.rs"));
                assert!(target.exists(), "{part}: {claim}");
                named += 1;
            } else {
                assert!(sources.contains(&format!("fn {part}(")), "{part}: {claim}");
                named += 1;
            }
        }
        assert!(named > 0, "{claim}");
        tests += named;
    }
    assert!(tests > 30, "{tests}");
}

/// All of a directory's Rust, in one.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .map(|path| match path.extension() {
            _ if path.is_dir() => sources(&path),
            Some(extension) if extension == "rs" => read(&path),
            _ => String::new(),
        })
        .collect()
}

/// The targets of Markdown links that stay within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// How a link names a heading: in lower case, without punctuation, blanks as dashes.
fn anchor(line: &str) -> String {
    let heading = line.trim_start_matches('#');
    if heading.len() == line.len() {
        return String::new();
    }
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn documents() -> Vec<PathBuf> {
    [root(), root().join("docs")]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a document")
}
