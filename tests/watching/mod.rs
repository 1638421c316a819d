//! What Prometheus and Grafana are given, as tests read it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A file of this source tree.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The path of a command of Debian's package `prometheus`.
pub fn prometheus(command: &str) -> String {
    let unpack = Command::new(file("tests/unpack"))
        .args(["prometheus", command])
        .stderr(Stdio::inherit())
        .output()
        .expect("tests/unpack starts");
    assert!(unpack.status.success(), "tests/unpack prometheus {command}");
    String::from_utf8(unpack.stdout).expect("a path").trim().to_owned()
}

/// Runs `promtool` and panics with what it says if it complains.
pub fn promtool(arguments: &[&str], input: &str) -> String {
    let mut promtool = Command::new(prometheus("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    promtool.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// The alert rules as they are installed.
pub fn rules() -> String {
    fs::read_to_string(file("packaging/prometheus/tunnel64d.rules.yml")).expect("the rules")
}

/// The queries of the dashboard, with values for what Grafana fills in.
pub fn dashboard_queries() -> Vec<String> {
    let text = fs::read(file("packaging/grafana/tunnel64d.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_slice(&text).expect("JSON");
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    for query in &mut queries {
        for (variable, value) in
            [("$__rate_interval", "1m"), ("$instance", ".*"), ("$tunnel", ".*")]
        {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{query}: an unknown variable");
    }
    queries
}

fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            queries.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, queries));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
        _ => {}
    }
}
