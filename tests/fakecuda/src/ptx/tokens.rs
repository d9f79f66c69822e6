//! Text to words, numbers and signs.

use super::Result;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, an opcode or a directive, with its dots.
    Word(String),
    /// An integer's bits, as written, sign apart.
    Int(u64),
    /// A float's bits: 32 or 64.
    Float(u64, u8),
    Text(String),
    Sign(char),
}

pub(super) fn tokens(text: &str) -> Result<Vec<(Token, u32)>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4);
    let (mut i, mut line) = (0, 1u32);
    let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.');
    while i < bytes.len() {
        let c = bytes[i];
        match c {
            b'\n' => {
                line += 1;
                i += 1;
            }
            b' ' | b'\t' | b'\r' => i += 1,
            b'/' if bytes.get(i + 1) == Some(&b'/') => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
            }
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                while i + 1 < bytes.len() && !(bytes[i] == b'*' && bytes[i + 1] == b'/') {
                    line += u32::from(bytes[i] == b'\n');
                    i += 1;
                }
                i += 2;
            }
            b'"' => {
                let start = i + 1;
                i = start;
                while i < bytes.len() && bytes[i] != b'"' {
                    i += 1;
                }
                out.push((Token::Text(text[start..i].into()), line));
                i += 1;
            }
            b'0'..=b'9' => {
                let start = i;
                while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'.') {
                    i += 1;
                }
                // An exponent's sign.
                let plain = |t: &str| t.contains('.') && t.ends_with(['e', 'E']);
                if plain(&text[start..i]) && matches!(bytes.get(i), Some(b'+' | b'-')) {
                    i += 1;
                    while i < bytes.len() && bytes[i].is_ascii_digit() {
                        i += 1;
                    }
                }
                out.push((number(&text[start..i]).ok_or_else(|| at(line, &text[start..i]))?, line));
            }
            _ if word(c) => {
                let start = i;
                while i < bytes.len() {
                    if word(bytes[i]) {
                        i += 1;
                    } else if bytes[i] == b':'
                        && bytes.get(i + 1) == Some(&b':')
                        && bytes.get(i + 2).is_some_and(|c| word(*c))
                    {
                        i += 2;
                    } else {
                        break;
                    }
                }
                out.push((Token::Word(text[start..i].into()), line));
            }
            _ => {
                out.push((Token::Sign(c as char), line));
                i += 1;
            }
        }
    }
    Ok(out)
}

pub(super) fn number(text: &str) -> Option<Token> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return u32::from_str_radix(hex, 16).ok().map(|bits| Token::Float(bits.into(), 32));
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return u64::from_str_radix(hex, 16).ok().map(|bits| Token::Float(bits, 64));
    }
    if lower.contains('.') {
        return lower.parse::<f64>().ok().map(|v| Token::Float(v.to_bits(), 64));
    }
    let lower = lower.strip_suffix('u').unwrap_or(&lower);
    let value = if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16)
    } else if let Some(bits) = lower.strip_prefix("0b") {
        u64::from_str_radix(bits, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        u64::from_str_radix(lower, 8)
    } else {
        lower.parse()
    };
    value.ok().map(Token::Int)
}

pub(super) fn at(line: u32, what: impl std::fmt::Display) -> String {
    format!("PTX line {line}: {what}")
}
