//! The seeds of the fuzz targets, each tried once: a target that no longer fits the program is found
//! here, not when somebody fuzzes.

// The ways in that `frame` and `tls` take are not there in a release.
#![cfg(any(fuzzing, debug_assertions))]

#[path = "fuzz/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

/// A target and how it tries an input.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("config", fuzz::config::run),
    ("frame", fuzz::frame::run),
    ("hello", fuzz::hello::run),
    ("import", fuzz::import::run),
    ("packet", fuzz::packet::run),
    ("segment", fuzz::segment::run),
    ("tls", fuzz::tls::run),
];

#[test]
fn every_seed_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, run) in TARGETS {
        let seeds = fs::read_dir(corpus.join(name)).unwrap();
        let mut tried = 0;
        for seed in seeds {
            let seed = seed.unwrap().path();
            println!("{}", seed.display());
            run(&fs::read(seed).unwrap());
            tried += 1;
        }
        assert!(tried > 0, "{name} has seeds");
    }
}

#[test]
fn every_target_is_known_here() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets");
    let mut programs: Vec<_> = fs::read_dir(programs)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    programs.sort();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
}
