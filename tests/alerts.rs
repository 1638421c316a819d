//! The alert rules and the dashboard: understood by Prometheus, and about metrics that there are.
//! `tests/lab/metrics.rs` has a Prometheus that watches a real tunnel.

mod watching;

use std::fs;
use std::sync::Arc;

use tunnel64d::metrics::exposition::Scrape;
use tunnel64d::metrics::families::{self, Family, Type};
use tunnel64d::metrics::snapshot::{Session, Snapshot, Stream, Tcp};

use watching::{dashboard_queries, file, promtool, rules};

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let tcp = Tcp { rtt_us: 1234, ..Tcp::default() };
    let now = Snapshot {
        name: "tun0".to_owned(),
        session: Some(Session::default()),
        streams: vec![Stream { tcp, ..Stream::default() }],
        ..Snapshot::default()
    };
    let text = Scrape { counters: Arc::default(), now }.text().expect("text");
    assert_eq!(promtool(&["check", "metrics"], &text), "");
}

#[test]
fn every_alert_fires_when_it_should_and_not_otherwise() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rules_file = file("packaging/prometheus/tunnel64d.rules.yml");
    let rules_file = rules_file.to_str().expect("a plain path");
    promtool(&["check", "rules", rules_file], "");
    let cases = fs::read_to_string(file("tests/watching/alerts.yml")).expect("the cases");
    let guide = fs::read_to_string(file("docs/operations.md")).expect("the guide");
    for alert in alerts() {
        assert!(cases.contains(&alert), "no case lets {alert} fire");
        assert!(guide.contains(&format!("| `{alert}` | ")), "the guide leaves out {alert}");
    }
    let filled_in = directory.path().join("alerts.yml");
    fs::write(&filled_in, cases.replace("[RULES]", &format!("[{rules_file}]"))).expect("cases");
    promtool(&["test", "rules", filled_in.to_str().expect("a plain path")], "");
}

#[test]
fn every_alert_says_how_grave_it_is_and_what_to_do() {
    let rules = rules();
    let count = |what: &str| rules.matches(what).count();
    let alerts = alerts().len();
    assert!(alerts >= 10);
    assert_eq!(
        (count("severity: "), count("summary: "), count("remedy: ")),
        (alerts, alerts, alerts)
    );
}

#[test]
fn rules_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let mut shown = Vec::new();
    let about_us = |query: &String| !query.starts_with("ALERTS");
    for query in dashboard_queries().into_iter().filter(about_us) {
        shown.extend(families_of(&query));
        check_labels(&query);
    }
    for family in families::ALL {
        assert!(shown.contains(family), "the dashboard leaves out {}", family.name);
    }
    // `up` is Prometheus's own.
    for rule in rules().split("- alert: ").skip(1).filter(|rule| !rule.contains("expr: up{")) {
        let (_, rest) = rule.split_once("expr: ").expect("an expression");
        let ends = ["\n        for:", "\n        labels:"].map(|end| rest.find(end));
        let query = &rest[..ends.into_iter().flatten().min().expect("an end")];
        assert!(!families_of(query).is_empty(), "{query}");
        check_labels(query);
    }
}

#[test]
fn prometheus_understands_the_queries_of_the_dashboard() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (index, query) in dashboard_queries().into_iter().enumerate() {
        let query = serde_json::to_string(&query).expect("a string");
        rules.push_str(&format!("      - {{ record: \"q{index}\", expr: {query} }}\n"));
    }
    let file = directory.path().join("dashboard.yml");
    fs::write(&file, rules).expect("rules");
    promtool(&["check", "rules", file.to_str().expect("a plain path")], "");
}

/// The names of all alerts.
fn alerts() -> Vec<String> {
    let rules = rules();
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// Panics if the query selects or groups by a label that nothing it asks for has.
fn check_labels(query: &str) {
    let families = families_of(query);
    let anywhere = ["tunnel", "instance", "job", "le"];
    let known = |label: &str| {
        anywhere.contains(&label) || families.iter().any(|family| family.labels.contains(&label))
    };
    let selected = query.split('{').skip(1).flat_map(|rest| {
        let (matchers, _) = rest.split_once('}').expect("a brace");
        matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next())
    });
    let grouped = query.split("by (").skip(1).flat_map(|rest| {
        let (labels, _) = rest.split_once(')').expect("a bracket");
        labels.split(',')
    });
    for label in selected.chain(grouped).map(str::trim) {
        assert!(known(label), "{query}: nothing has the label {label}");
    }
}

/// The families that a query names; panics if it names one that there is not.
fn families_of(query: &str) -> Vec<Family> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("tunnel64d_") || word.starts_with("process_"))
        .map(|word| {
            let known = families::ALL.iter().find(|family| samples(family).contains(&word.into()));
            *known.unwrap_or_else(|| panic!("{query}: there is no {word}"))
        })
        .collect()
}

/// The names under which a family's samples are found.
fn samples(family: &Family) -> Vec<String> {
    match family.kind {
        Type::Histogram => {
            ["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name)).into()
        }
        Type::Counter | Type::Gauge => vec![family.name.to_owned()],
    }
}
