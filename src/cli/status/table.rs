//! All tunnels: a line each, and one for what is wrong.

use super::format::{WIDTH, bytes, columns, moment, span, wrap};
use super::screen::{Colour, Line};
use crate::metrics::snapshot::{Snapshot, State};

const HEADINGS: [&str; 7] = ["TUNNEL", "STATE", "FOR", "RTT", "SENT", "RECEIVED", "PEER"];

/// A line for each tunnel, in columns.
pub fn lines(tunnels: &[Snapshot], now: u64) -> Vec<Line> {
    let rows: Vec<_> = tunnels.iter().map(|tunnel| cells(tunnel, now)).collect();
    let mut widths = HEADINGS.map(columns);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(cell));
        }
    }
    let join = |cells: &[String]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let headings = HEADINGS.map(str::to_owned);
    let mut lines = vec![Line::coloured(&join(&headings), Colour::Bold)];
    for (tunnel, row) in tunnels.iter().zip(&rows) {
        let line = Line::plain(&join(row)).painted(WIDTH, false);
        lines.push(Line::coloured(&line, colour(tunnel)));
        for problem in &tunnel.problems {
            let text = wrap(&problem.text, WIDTH - 4);
            lines.extend(text.iter().map(|line| Line::plain(&format!("    {line}"))));
        }
    }
    if tunnels.iter().any(|tunnel| !tunnel.problems.is_empty()) {
        lines.push(Line::plain(""));
        lines.push(Line::plain("`tunnel64d status NAME` says what can be done about it."));
    }
    lines
}

fn cells(tunnel: &Snapshot, now: u64) -> [String; 7] {
    let state = match tunnel.state {
        State::Up => "up",
        State::Stalled => "stalled",
        State::Connecting => "connecting",
        State::Listening => "listening",
        State::NotRunning => "not running",
        State::Unknown => "unknown",
    };
    let empty = || "-".to_owned();
    let mut cells =
        [tunnel.name.clone(), state.to_owned(), empty(), empty(), empty(), empty(), empty()];
    if !matches!(tunnel.state, State::NotRunning | State::Unknown) {
        cells[2] = span(now.saturating_sub(tunnel.since));
        let trip = tunnel.streams.iter().map(|stream| stream.tcp.rtt_us).min();
        cells[3] = trip.map_or_else(empty, moment);
        cells[4] = bytes(tunnel.sent.bytes);
        cells[5] = bytes(tunnel.received.bytes);
        cells[6] = match &tunnel.session {
            Some(session) => session.peer.clone(),
            None => tunnel.config.connect.first().cloned().unwrap_or_else(empty),
        };
    }
    cells
}

fn colour(tunnel: &Snapshot) -> Colour {
    match tunnel.state {
        State::Up if tunnel.problems.is_empty() => Colour::Green,
        State::Up => Colour::Yellow,
        _ => Colour::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::screen;
    use crate::metrics::snapshot::{Config, Kind, Problem, Session, Stream, Tcp, Traffic};

    #[test]
    fn every_tunnel_has_a_line_and_what_is_wrong_below_it() {
        let now = 1_800_000_000;
        let up = Snapshot {
            name: "tun0".to_owned(),
            state: State::Up,
            since: now - 11_520,
            session: Some(Session { peer: "172.16.2.163:4641".to_owned(), ..Session::default() }),
            streams: vec![Stream {
                tcp: Tcp { rtt_us: 1234, ..Tcp::default() },
                ..Stream::default()
            }],
            sent: Traffic { packets: 1, bytes: 1000 },
            ..Snapshot::default()
        };
        let problem =
            |kind, text: &str| Problem { kind, text: text.to_owned(), ..Problem::default() };
        let connecting = Snapshot {
            name: "far-away".to_owned(),
            state: State::Connecting,
            since: now - 5,
            config: Config { connect: vec!["vm3.example:4641".to_owned()], ..Config::default() },
            problems: vec![problem(Kind::Name, "vm3.example does not resolve")],
            ..Snapshot::default()
        };
        let absent = Snapshot {
            name: "tun9".to_owned(),
            state: State::NotRunning,
            problems: vec![problem(Kind::NotRunning, "not running")],
            ..Snapshot::default()
        };
        assert_eq!(
            screen::text(&lines(&[connecting, up.clone(), absent], now), false),
            "\
TUNNEL    STATE        FOR         RTT     SENT    RECEIVED  PEER
far-away  connecting   5 s         -       0 B     0 B       vm3.example:4641
    vm3.example does not resolve
tun0      up           3 h 12 min  1.2 ms  1000 B  0 B       172.16.2.163:4641
tun9      not running  -           -       -       -         -
    not running

`tunnel64d status NAME` says what can be done about it.
"
        );
        let peer = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_owned();
        let long = Snapshot { session: Some(Session { peer, ..Session::default() }), ..up };
        let lines = lines(&[long], now);
        assert_eq!(columns(&lines[1].text), WIDTH);
        assert_eq!(lines.len(), 2, "nothing is wrong");
    }
}
