//! VM1's metrics, and a Prometheus beside it:
//!
//! ```text
//!   Prometheus ──127.0.0.1:9641──▶ VM1's daemon ══ session ══ VM3's daemon, which is killed
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tunnel64d::service::messages::{METRICS_SERVED, METRICS_UNSERVED};

use crate::harness::{Daemon, Lab, Process, VM1, VM2, VM3, eventually};
use crate::watching::{dashboard_queries, prometheus, promtool, rules};

const ADDRESS: &str = "127.0.0.1:9641";
const SERVED: &str = "metrics.listen = \"127.0.0.1:9641\"\nlink.reconnect.max = \"500ms\"";
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: vm1\r\n\r\n";
const PROMETHEUS: &str = "127.0.0.1:9090";

#[test]
fn a_prometheus_from_debian_scrapes_a_tunnel_and_the_alert_for_its_dead_peer_fires() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled_with(SERVED, "");
    lab.run(VM1, "ping -q -i 0.05 -c 20 fc00:1234:ffff::10");
    promtool(&["check", "metrics"], &page(&lab));

    let _prometheus = watch(&lab);
    await_answer(&lab, "tunnel64d_session_up == 1");
    await_answer(&lab, "rate(tunnel64d_sent_packets_total[1m])");
    for query in dashboard_queries() {
        // What is shown only when it happens is not there now.
        if !query.contains("> 0") && !query.starts_with("ALERTS") {
            assert_ne!(answer(&lab, &query), "", "{query}");
        }
    }
    assert_eq!(answer(&lab, "ALERTS{severity=\"critical\"}"), "");

    vm3.kill();
    await_answer(&lab, "ALERTS{alertname=\"Tunnel64dDown\",alertstate=\"firing\",tunnel=\"tun0\"}");
    vm3.start_again(&lab);
    await_answer(&lab, "absent(ALERTS{alertname=\"Tunnel64dDown\"})");
}

#[test]
fn a_port_that_is_taken_is_warned_of_once_and_the_tunnel_runs_on() {
    let lab = Lab::raise_after_failure();
    let squatter = lab.inside(VM1, || TcpListener::bind(ADDRESS)).unwrap();
    let (vm1, _vm3) = (lab.start(VM1, SERVED), lab.start(VM3, ""));
    lab.await_tunnel();
    logs(&vm1, METRICS_UNSERVED.text);
    drop(squatter);
    logs(&vm1, METRICS_SERVED.text);
    assert!(page(&lab).contains("\ntunnel64d_session_up{tunnel=\"tun0\"} 1\n"));
    assert_eq!(vm1.log().matches(METRICS_UNSERVED.text).count(), 1, "{}", vm1.log());
}

#[test]
fn a_socket_serves_them_as_well_and_goes_with_the_daemon() {
    let lab = Lab::raise_after_failure();
    let path = lab.file("metrics.sock");
    let mut vm1 = lab.start(VM1, &format!("metrics.listen = \"unix:{}\"", path.display()));
    logs(&vm1, METRICS_SERVED.text);
    let mut socket = UnixStream::connect(&path).unwrap();
    assert!(fetch(&mut socket).contains("\ntunnel64d_session_up{tunnel=\"tun0\"} 0\n"));
    assert!(vm1.stop().success());
    assert!(!path.exists());
}

#[test]
fn what_happened_is_counted() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled_with(SERVED, "");
    assert_eq!(lab.attempt(VM2, "nc -w 5 172.16.2.131 4641").ok().as_deref(), Some(""));
    await_line(&lab, "tunnel64d_connections_refused_total{tunnel=\"tun0\",reason=\"address\"} 1");
    await_line(&lab, "tunnel64d_streams{tunnel=\"tun0\"} 1");
    assert!(
        page(&lab).contains("tunnel64d_stream_round_trip_seconds{tunnel=\"tun0\",stream=\"0\"}")
    );

    let begun = count(&lab, "tunnel64d_sessions_total{tunnel=\"tun0\"}");
    let lost = count(&lab, "tunnel64d_sessions_lost_total{tunnel=\"tun0\"}");
    assert_eq!(
        begun,
        lost + 1,
        "when both ends dial, a session may have taken the first one's place"
    );
    vm3.kill();
    await_line(&lab, "tunnel64d_session_up{tunnel=\"tun0\"} 0");
    let failed =
        "tunnel64d_handshakes_total{tunnel=\"tun0\",direction=\"dialled\",result=\"unreachable\"}";
    eventually(failed, Duration::from_secs(10), || count(&lab, failed) > 0);
    assert_eq!(count(&lab, "tunnel64d_sessions_lost_total{tunnel=\"tun0\"}"), lost + 1);
    vm3.start_again(&lab);
    await_line(&lab, "tunnel64d_session_up{tunnel=\"tun0\"} 1");
    assert!(count(&lab, "tunnel64d_sessions_total{tunnel=\"tun0\"}") > begun);
}

/// A Prometheus in VM1 that is quicker to alert than anybody would want.
fn watch(lab: &Lab) -> Process {
    let rules_file = lab.file("rules.yml");
    fs::write(&rules_file, rules().replace("for: 2m", "for: 2s")).expect("rules");
    let config = lab.file("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: [{:?}]\n\
         scrape_configs:\n  - job_name: tunnel64d\n    static_configs: [{{ targets: [{ADDRESS:?}] }}]\n",
        rules_file.display().to_string(),
    );
    fs::write(&config, text).expect("a configuration");
    let program = prometheus("prometheus");
    lab.spawn(
        VM1,
        &format!(
            "{program} --config.file={} --storage.tsdb.path={} --web.listen-address={PROMETHEUS}",
            config.display(),
            lab.file("prometheus").display(),
        ),
    )
}

/// What Prometheus answers to a query, a line a series.
fn answer(lab: &Lab, query: &str) -> String {
    let promtool = prometheus("promtool");
    let query = query.replace('\'', "'\\''");
    let ask = format!("{promtool} query instant http://{PROMETHEUS} '({query})'");
    lab.attempt(VM1, &ask).map_or_else(|_| String::new(), |answer| answer.trim().to_owned())
}

fn await_answer(lab: &Lab, query: &str) {
    eventually(query, Duration::from_secs(45), || !answer(lab, query).is_empty());
}

/// The page as a person sees it.
fn page(lab: &Lab) -> String {
    lab.inside(VM1, || fetch(&mut TcpStream::connect(ADDRESS).expect("metrics are served")))
}

fn fetch(connection: &mut (impl Read + Write)) -> String {
    connection.write_all(REQUEST).expect("it listens");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

fn await_line(lab: &Lab, wanted: &str) {
    eventually(wanted, Duration::from_secs(10), || page(lab).lines().any(|line| line == wanted));
}

fn count(lab: &Lab, sample: &str) -> u64 {
    let page = page(lab);
    let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{sample}: {page}"))
}

fn logs(daemon: &Daemon, text: &str) {
    eventually(text, Duration::from_secs(20), || daemon.log().contains(text));
}
