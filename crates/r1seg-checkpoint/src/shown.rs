//! What may be shown of names and texts that a stranger chose: nothing that could drive a terminal, and
//! no more than a line.

/// A name, such as that of a tensor or a file.
pub fn name(name: &str) -> String {
    printable(name, 120, |c| c.is_ascii_graphic() && c != '`')
}

/// A library's message, which may quote such names.
pub fn text(text: &str) -> String {
    printable(text, 240, |c| c.is_ascii_graphic() || c == ' ')
}

/// The first five of many names.
pub fn first_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names = names.map(|each| format!("`{}`", name(each)));
    let mut text = names.by_ref().take(5).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        text.push_str(", ..");
    }
    text
}

fn printable(text: &str, most: usize, is_shown: impl Fn(char) -> bool) -> String {
    let mut shown: String =
        text.chars().take(most).map(|c| if is_shown(c) { c } else { '?' }).collect();
    if text.chars().nth(most).is_some() {
        shown.push_str("..");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_drive_a_terminal_is_shown_without_it() {
        assert_eq!(name("a\u{1b}[2J`é"), "a?[2J??");
        assert_eq!(text("no such `key`\n"), "no such `key`?");
        assert_eq!(name(&"x".repeat(121)), format!("{}..", "x".repeat(120)));
        assert_eq!(first_names(["a", "b"].into_iter()), "`a`, `b`");
        assert_eq!(first_names(["a"; 6].into_iter()), "`a`, `a`, `a`, `a`, `a`, ..");
    }
}
