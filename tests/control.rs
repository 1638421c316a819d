//! The control socket's interface is what it says of itself, and what `docs/control.md` says.

mod varlink;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde_json::{from_value, json, to_value};
use tunnel64d::metrics::snapshot::{
    Kind, Occurrence, Problem, Session, Snapshot, State, Stream, VERSION,
};

use varlink::{INTERFACE, Types};

#[test]
fn the_document_has_the_whole_interface() {
    let document = include_str!("../docs/control.md");
    assert!(document.contains(INTERFACE), "docs/control.md and src/control/org.tunnel64d.varlink");
    assert!(INTERFACE.contains(&format!("as long as `version` is {VERSION}.")));
}

#[test]
fn a_snapshot_has_what_the_interface_defines_and_nothing_else() {
    let types = Types::ours();
    let text = || Some("text".to_owned());
    let mut full = Snapshot {
        state: State::Up,
        problems: vec![Problem::default()],
        last_error: Some(Occurrence::default()),
        session: Some(Session {
            peer_public_key: text(),
            cipher: text(),
            key_exchange: text(),
            ..Session::default()
        }),
        streams: vec![Stream::default()],
        drops: BTreeMap::from([("queue_full".to_owned(), 7)]),
        ..Snapshot::default()
    };
    full.interface.last_restored = Some(Occurrence::default());
    full.config.listen = text();
    for snapshot in [full, Snapshot::default()] {
        let faults = types.faults("Status", &to_value(&snapshot).expect("JSON"));
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn what_is_not_as_defined_is_found() {
    let types = Types::ours();
    let mut status = to_value(Snapshot::default()).expect("JSON");
    status["pid"] = json!("text");
    status["state"] = json!("asleep");
    status["weather"] = json!(1);
    status["queue"].as_object_mut().expect("an object").remove("limit");
    assert_eq!(types.faults("Status", &status).len(), 4);
}

#[test]
fn every_value_of_the_enumerations_is_known() {
    fn known<T: DeserializeOwned + Eq + Hash>(name: &str) -> (usize, usize) {
        let (_, rest) = INTERFACE.split_once(&format!("type {name} (")).expect("its definition");
        let (values, _) = rest.split_once(')').expect("its end");
        let values: Vec<_> = values.split(',').map(str::trim).collect();
        // What is not known is the same as the last one.
        let known = values.iter().map(|value| from_value(json!(value)).expect("a value"));
        (values.len(), known.collect::<HashSet<T>>().len())
    }
    assert_eq!(known::<State>("State"), (6, 6));
    assert_eq!(known::<Kind>("Kind"), (21, 21));
}
