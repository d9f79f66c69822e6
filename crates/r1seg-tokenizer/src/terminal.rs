//! Model output on its way to a terminal.

use std::borrow::Cow;

/// Removes terminal control from `text`: escape sequences, and the C0 and C1 control characters
/// but for newline and tab. Everything else, right-to-left text and emoji included, stays.
///
/// Whole sequences go (`ESC [ 3 1 m`, an `ESC ]` window title up to its end). Where a sequence has
/// no end only its introducer goes, which disarms it. Pieces of a streamed answer can be passed
/// one by one: an escape sequence cut in two is disarmed by the loss of its first character.
#[must_use]
pub fn sanitize_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '\x1b' => skip_escape(after),
            '\u{9b}' => skip_csi(after),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(after),
            _ => {
                if !is_control(first) {
                    clean.push(first);
                }
                after
            }
        };
    }
    Cow::Owned(clean)
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// What follows `ESC` (ECMA-48).
fn skip_escape(text: &str) -> &str {
    let mut chars = text.chars();
    match chars.next() {
        Some('[') => skip_csi(chars.as_str()),
        Some('P' | 'X' | ']' | '^' | '_') => skip_string(chars.as_str()),
        // Intermediate bytes and one final byte: character sets, alignment tests.
        Some(' '..='/') => {
            let rest = chars.as_str().trim_start_matches(|c| matches!(c, ' '..='/'));
            rest.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(rest)
        }
        Some('0'..='~') => chars.as_str(),
        _ => text,
    }
}

/// Parameters, intermediates and the final byte of a control sequence.
fn skip_csi(text: &str) -> &str {
    let rest = text.trim_start_matches(|c| matches!(c, '0'..='?'));
    let rest = rest.trim_start_matches(|c| matches!(c, ' '..='/'));
    rest.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(rest)
}

/// A command string up to BEL or ST on the same line; if it has no end, nothing is skipped.
fn skip_string(text: &str) -> &str {
    for (at, c) in text.char_indices() {
        match c {
            '\x07' | '\u{9c}' => return &text[at + c.len_utf8()..],
            '\x1b' => return text[at + 1..].strip_prefix('\\').unwrap_or(&text[at..]),
            // Any other control character ends it: this also keeps the scan linear.
            c if c == '\n' || is_control(c) => return text,
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        for text in ["", "liver\n\tspleen", "肝脏 🫁 مرحبا \u{202e}x"] {
            assert!(matches!(sanitize_terminal(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn escape_sequences_and_controls_are_removed() {
        for (text, clean) in [
            ("a\x1b[31mred\x1b[0m b", "ared b"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bPq#0\x1b\\y", "y"),
            ("\x1b(B\x1bc\x1b7z", "z"),
            ("\u{9b}2Jk\u{9d}t\u{9c}l", "kl"),
            ("over\rwrite\x08\x00\x7f\u{85}", "overwrite"),
            ("\x1b]0;never ends", "0;never ends"),
            ("\x1b]0;never\nends", "0;never\nends"),
            ("\x1b", ""),
            ("\x1b\x1b[1m", ""),
            ("\x1b[\x1b[1mé", "é"),
            ("\x1bé", "é"),
        ] {
            assert_eq!(sanitize_terminal(text), clean, "{text:?}");
        }
    }

    #[test]
    fn pieces_of_a_sequence_leave_no_control_behind() {
        let text = "x\x1b[38;5;1m\u{9b}1my\x1b]0;t\x07z";
        for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
            let both =
                format!("{}{}", sanitize_terminal(&text[..at]), sanitize_terminal(&text[at..]));
            assert!(!both.chars().any(is_control), "{both:?}");
        }
    }
}
