//! What tunnel64d(8) lists: exit statuses, metrics and messages, each from its definition.

use clap_mangen::roff::{Roff, bold, italic, roman};
use tunnel64d::cli::Exit;
use tunnel64d::metrics::families::{self, Family, Type};
use tunnel64d::service::messages::{self, Message};

use super::item;

/// EXIT STATUS
pub fn statuses(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        item(page, [bold(exit.code().to_string())], exit.meaning());
    }
}

/// METRICS
pub fn metrics(page: &mut Roff) {
    page.control("SH", ["METRICS"]).text([
        roman("With "),
        bold("metrics.listen"),
        roman(
            " a tunnel tells Prometheus how it is, over HTTP, at /metrics. Every metric has the label ",
        ),
        bold("tunnel"),
        roman(", the name of the instance, and these:"),
    ]);
    for family in families::ALL {
        self::family(page, family);
    }
    page.control("PP", []).text([
        roman("Alert rules are in "),
        bold("/usr/share/tunnel64d/prometheus/tunnel64d.rules.yml"),
        roman(", a dashboard for Grafana is "),
        bold("/usr/share/tunnel64d/grafana/tunnel64d.json"),
        roman("."),
    ]);
}

fn family(page: &mut Roff, family: &Family) {
    let kind = match family.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
    };
    let labels = match family.labels {
        [] => String::new(),
        labels => format!("; {}", labels.join(", ")),
    };
    item(page, [bold(family.name), roman(format!(" ({kind}{labels})"))], family.help);
    for label in family.labels {
        for (word, about) in family.words(label) {
            page.control("RS", []);
            item(page, [roman(format!("{label}=")), italic(word)], about);
            page.control("RE", []);
        }
    }
}

/// MESSAGES
pub fn messages(page: &mut Roff) {
    page.control("SH", ["MESSAGES"]).text([
        roman("Every change of state is logged once, with an id that stays the same: "),
        bold("journalctl MESSAGE_ID=ID"),
        roman(" finds all of one kind, and "),
        bold("journalctl -x"),
        roman(
            " shows below each line what stands here. What repeats is counted and told with the \
             next line, in the field ",
        ),
        bold("repeats"),
        roman("."),
    ]);
    for message in messages::ALL {
        self::message(page, message);
    }
}

fn message(page: &mut Roff, message: &Message) {
    let Message { id, level, text, cause, remedy, .. } = message;
    let level = level.as_str().to_lowercase();
    item(page, [bold(*text), roman(format!(" ({level})"))], cause);
    page.control("br", []).text([roman(*remedy)]);
    page.control("br", []).text([roman(*id)]);
}
