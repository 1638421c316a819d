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
