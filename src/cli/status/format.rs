//! Numbers, spans and paragraphs as people read them.

use std::iter::once;

/// Columns that any terminal has.
pub const WIDTH: usize = 80;

/// `12.3 GiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// `94.1 Mbit/s`, of bytes a second.
pub fn rate(bytes: u64) -> String {
    scaled(bytes.saturating_mul(8), 1000, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// `8 123 456`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    groups.join(" ")
}

/// `3 h 12 min`, of seconds: the two largest units.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        let number = rest / size;
        rest %= size;
        if number > 0 {
            parts.push(format!("{number} {name}"));
        }
        // What follows the largest unit is worth a word only if it is the next smaller one.
        if parts.len() == 2 || (parts.len() == 1 && number == 0) {
            break;
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// `1.2 ms`, of microseconds.
pub fn moment(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds} µs"),
        1000..1_000_000 => one_decimal(microseconds, 1000, "ms"),
        _ => one_decimal(microseconds, 1_000_000, "s"),
    }
}

/// Lines of at most `width` columns, broken at blanks; a word that is longer has a line of its
/// own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if columns(line) + 1 + columns(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// How many columns a text takes: what is printed here has no wide characters.
pub fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A paragraph behind a label, as wide as the screen.
pub fn labelled(label: &str, text: &str) -> Vec<String> {
    const LABEL: usize = 12;
    let indent = " ".repeat(LABEL + 2);
    let lines = wrap(text, WIDTH - LABEL - 2);
    let first = once(format!("  {label:LABEL$}"));
    let lead = first.chain(std::iter::repeat(indent));
    lead.zip(lines).map(|(lead, line)| format!("{lead}{line}")).collect()
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut size = 1;
    let mut units = units.iter();
    let mut unit = units.next().unwrap_or(&"");
    while number / size >= step {
        let Some(larger) = units.next() else { break };
        unit = larger;
        size *= step;
    }
    if size == 1 { format!("{number} {unit}") } else { one_decimal(number, size, unit) }
}

fn one_decimal(number: u64, size: u64, unit: &str) -> String {
    format!("{}.{} {unit}", number / size, number % size * 10 / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_unit_that_fits() {
        assert_eq!(
            [0, 1023, 1024, 1_320_702_443].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.2 GiB"]
        );
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(
            [0, 124, 125, 11_760_000].map(rate),
            ["0 bit/s", "992 bit/s", "1.0 kbit/s", "94.0 Mbit/s"]
        );
        assert_eq!([0, 999, 1000, 8_123_456].map(count), ["0", "999", "1 000", "8 123 456"]);
        assert_eq!([7, 1234, 2_500_000].map(moment), ["7 µs", "1.2 ms", "2.5 s"]);
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3661, "1 h 1 min"),
            (3601, "1 h"),
            (90_000, "1 d 1 h"),
            (86_459, "1 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn paragraphs_stay_within_the_screen() {
        let text = "word ".repeat(100);
        let lines = labelled("Remedy", &text);
        assert!(lines.len() > 5 && lines.iter().all(|line| columns(line) <= WIDTH));
        assert!(
            lines[0].starts_with("  Remedy      word")
                && lines[1].starts_with("              word")
        );
        assert_eq!(labelled("Key", &"x".repeat(100)).len(), 1, "a long word is not broken");
        assert_eq!(labelled("Key", ""), ["  Key         "]);
    }
}
