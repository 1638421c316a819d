//! Lines for a terminal: their text, and what colour it has.

use std::fmt::Write;

use super::format::columns;
use crate::cli::harmless::harmless;

/// How things are, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Green,
    /// Something wants looking at.
    Yellow,
    /// It does not work.
    Red,
    /// A heading.
    Bold,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text, without control characters.
    pub text: String,
    /// Its colour, if it has one.
    pub colour: Option<Colour>,
}

impl Line {
    /// An ordinary line.
    pub fn plain(text: &str) -> Self {
        Self { text: harmless(text), colour: None }
    }

    /// One that stands out.
    pub fn coloured(text: &str, colour: Colour) -> Self {
        Self { colour: Some(colour), ..Self::plain(text) }
    }

    /// As much of it as a terminal of so many columns shows.
    pub fn painted(&self, width: usize, colours: bool) -> String {
        let text = if columns(&self.text) <= width {
            self.text.clone()
        } else {
            let kept = self.text.chars().take(width.saturating_sub(1));
            kept.chain((width > 0).then_some('…')).collect()
        };
        let code = match self.colour.filter(|_| colours) {
            None => return text,
            Some(Colour::Green) => 32,
            Some(Colour::Yellow) => 33,
            Some(Colour::Red) => 31,
            Some(Colour::Bold) => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// All lines, for a terminal that scrolls.
pub fn text(lines: &[Line], colours: bool) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.painted(usize::MAX, colours));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_any_width_and_its_colour_ends_with_it() {
        let line = Line::coloured("tun0: up", Colour::Green);
        assert_eq!(line.painted(8, true), "\x1b[32mtun0: up\x1b[0m");
        assert_eq!(line.painted(8, false), "tun0: up");
        assert_eq!(line.painted(5, true), "\x1b[32mtun0…\x1b[0m");
        assert_eq!(line.painted(1, false), "…");
        assert_eq!(line.painted(0, false), "");
    }

    #[test]
    fn a_text_can_do_nothing_to_the_terminal() {
        let line = Line::plain("name\x1b[2J\n\u{9b}2J\r");
        assert!(!line.text.chars().any(char::is_control), "{line:?}");
    }
}
