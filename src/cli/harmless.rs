//! What others have said, on a terminal.

/// A text that can't do anything to a terminal, nor change the order of what is read there: some of
/// it is what a peer has said, or what a file holds.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Characters without a width, marks of direction among them (Unicode's category Cf).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_neither_moves_the_cursor_nor_turns_the_text_round() {
        assert_eq!(
            harmless("a\u{1b}[2J\u{202e}b\u{200b}c\u{feff}é"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}é"
        );
    }
}
