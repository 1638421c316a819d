//! Salt in a machine, and what its runs say.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::machine::{Machine, PACKAGES, Release, World, output};
use crate::package;

/// What a test that is not about versions takes.
pub const CURRENT: &str = "3008.1";

/// A machine with Salt of this version, the formula below /srv/formula, and below /srv/files the
/// package, as a file server would have it. Its minion is its own master.
pub fn boot<'w>(
    world: &'w World,
    name: &'static str,
    release: Release,
    version: &str,
) -> Machine<'w> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lent = [
        (venv(release, version), "/opt/salt"),
        (source.join("salt"), "/srv/formula"),
        (source.join("tests/salt"), "/srv/tests"),
    ];
    let machine = world.boot_with(name, &release.root(&PACKAGES).display().to_string(), &lent);
    machine.run("mkdir -p /srv/files /srv/pillar");
    machine.copy(&package::built(), "/srv/files/tunnel64d.deb");
    machine.write("/etc/salt/minion", "-m 0644", &masterless(name, "/srv/pillar"));
    machine
}

/// The configuration of a minion without a master.
pub fn masterless(id: &str, pillar: &str) -> String {
    format!(
        "id: {id}
file_client: local
file_roots:
  base: [/srv/formula, /srv/formula/lab/states, /srv/files]
pillar_roots:
  base: [{pillar}]
{QUICK}"
    )
}

/// Machines have no names to ask for and no graphics card.
pub const QUICK: &str = "enable_fqdns_grains: false\nenable_gpu_grains: false\n";

fn venv(release: Release, version: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/salt-venv");
    PathBuf::from(output(Command::new(script).arg(release.name()).arg(version)).trim())
}

/// One run of states.
pub struct Run {
    /// What each state said, by the id of the state, in the order of the run.
    states: Vec<(String, Value)>,
    /// What stopped the run before it began.
    errors: String,
    /// Whether salt-call itself called it a success.
    succeeded: bool,
}

impl Machine<'_> {
    /// `salt-call --local` of a function: what it returns. Panics when it fails.
    pub fn call(&self, function: &str) -> Value {
        let text =
            self.run(&format!("/opt/salt/bin/salt-call --local --out=json {function} 2>/dev/null"));
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        answer["local"].clone()
    }

    /// `salt-call --local state.apply`, with these arguments.
    pub fn apply(&self, arguments: &str) -> Run {
        let command = format!(
            "/opt/salt/bin/salt-call --local --out=json --retcode-passthrough --log-level=quiet \
             state.apply {arguments} 2>/dev/null"
        );
        let (text, succeeded) = match self.attempt(&command) {
            Ok(text) => (text, true),
            Err(text) => (text, false),
        };
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        Run::new(&answer["local"], succeeded)
    }

    /// The pillar of this machine, for all its minions.
    pub fn pillar(&self, text: &str) {
        self.write("/srv/pillar/top.sls", "-m 0644", "base: {'*': [tunnel]}\n");
        self.write("/srv/pillar/tunnel.sls", "-m 0600", text);
    }
}

impl Run {
    /// From what a minion returned.
    pub fn new(answer: &Value, succeeded: bool) -> Self {
        let mut states: Vec<_> = answer
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, state)| {
                (state["__id__"].as_str().unwrap_or_default().to_owned(), state.clone())
            })
            .collect();
        states.sort_by_key(|(_, state)| state["__run_num__"].as_u64());
        let errors = if answer.is_array() { answer.to_string() } else { String::new() };
        Self { states, errors, succeeded }
    }

    /// Panics unless every state did well.
    pub fn succeeds(&self) -> &Self {
        assert!(self.succeeded && self.errors.is_empty(), "{}", self.text());
        assert!(!self.states.is_empty(), "not one state");
        for (_, state) in &self.states {
            assert_ne!(state["result"], false, "{}", self.text());
        }
        self
    }

    /// Panics unless some state failed; gives the comments of those that did, not of those that
    /// only waited for them.
    pub fn fails(&self) -> String {
        assert!(!self.succeeded, "{}", self.text());
        let failed = self.states.iter().filter(|(_, state)| state["result"] == false);
        let comments = failed.filter_map(|(_, state)| state["comment"].as_str());
        let own = comments.filter(|comment| !comment.starts_with("One or more requisite failed"));
        own.map(str::to_owned).chain([self.errors.clone()]).collect::<Vec<_>>().join("\n")
    }

    /// The ids of the states that changed something, or would.
    pub fn changed(&self) -> Vec<&str> {
        let changes =
            |state: &Value| state["changes"].as_object().is_some_and(|changes| !changes.is_empty());
        self.states.iter().filter(|(_, state)| changes(state)).map(|(id, _)| id.as_str()).collect()
    }

    /// The comment of a state.
    pub fn comment(&self, id: &str) -> &str {
        let found = self.states.iter().find(|(name, _)| name == id);
        let (_, state) = found.unwrap_or_else(|| panic!("no state {id}: {}", self.text()));
        state["comment"].as_str().expect("a text")
    }

    /// All that was returned.
    pub fn text(&self) -> String {
        let mut text = self.errors.clone();
        for (id, state) in &self.states {
            text += &format!("{id}: {state}\n");
        }
        text
    }
}
