//! The Salt formula: on the six hosts of the lab, on every version of Salt, with a master, with
//! mistakes in the pillar, and its removal.
//!
//! Salt lies outside the machines and is mounted into them at /opt/salt: `tests/e2e/salt-venv`
//! installs each version once.

mod fleet;
mod harness;
mod hosts;
#[path = "../../lab/islands.rs"]
mod islands;
mod minion;
mod mistakes;
mod pair;
mod removal;
#[allow(dead_code)] // the lab uses all of it
#[path = "../../lab/traffic.rs"]
mod traffic;
mod versions;
