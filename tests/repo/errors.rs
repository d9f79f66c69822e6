//! Codes of errors: each has one meaning, and `docs/errors.md` lists all of them.
//!
//! The list is read out of the source: the arms of `fn code`, `fn kind` and `fn remedy`, and the
//! comment or the message of each case. `UPDATE_DOCS=1 cargo test --test repo` writes it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::sources::code_lines;
use crate::{Result, assert_none, read, root, tracked_texts};

const LIST: &str = "docs/errors.md";

/// Codes that several crates give for the same reason: the second finds it before the first would.
const SHARED: [&str; 6] = ["R-ARG-03", "R-BUG-02", "R-OUT-01", "R-OUT-02", "R-OUT-04", "R-WGT-05"];

const HEAD: &str = "# Error codes

Every error has a stable code. The command line prints it as `error[CODE]`, then what is wrong, the
file at fault behind `-->`, and what to do behind `fix:`; with `--json` the same is an object
([schema](error.schema.json)). In the library, `code()`, `kind()`, `path()` and `remedy()` of an
error say the same.

The exit code follows from who must act. Numbers and names in a message are shown as `..` here.

| exit code | who must act |
|---|---|
";

/// A case of an error type.
#[derive(Debug, Default)]
struct Case {
    /// Where its code is given.
    place: String,
    exits: BTreeSet<String>,
    meaning: String,
    remedies: Vec<String>,
}

/// An arm of a `match`.
#[derive(Debug)]
struct Arm {
    pattern: String,
    guard: String,
    expression: String,
}

impl Arm {
    /// Whether it matches all values of a variant, as far as its pattern says.
    fn is_whole(&self, variant: &str) -> bool {
        let fields = self.pattern.split_once(&format!("::{variant} {{")).map(|(_, rest)| rest);
        let narrows = |rest: &str| rest.split('}').next().is_some_and(|f| f.contains("::"));
        self.guard.is_empty() && !fields.is_some_and(narrows)
    }

    /// The names of the variants that it matches, `_` for all others.
    fn variants(&self) -> Vec<String> {
        let (mut names, mut depth) = (Vec::new(), 0);
        for (at, c) in self.pattern.char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                ':' if depth == 0 && self.pattern[..at].ends_with(':') => {
                    let name: String = self.pattern[at + 1..]
                        .chars()
                        .take_while(|c| c.is_alphanumeric())
                        .collect();
                    names.push(name);
                }
                _ => {}
            }
        }
        if self.pattern.trim() == "_" && self.guard.is_empty() {
            names.push("_".to_owned());
        }
        names
    }
}

/// Steps over strings and comments of Rust, and counts brackets.
struct Scanner<'a> {
    text: &'a str,
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// The text up to the first place at depth 0 where `stop` holds for the rest.
    fn until(&mut self, stop: impl Fn(&str) -> bool) -> &'a str {
        let (text, mut at) = (self.text, 0);
        self.depth = 0;
        while at < text.len() {
            let rest = &text[at..];
            if self.depth == 0 && stop(rest) {
                break;
            }
            at += match rest.as_bytes()[0] {
                b'"' => string_length(rest),
                b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                b'{' | b'(' | b'[' => {
                    self.depth += 1;
                    1
                }
                b'}' | b')' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    1
                }
                _ => rest.chars().next().map_or(1, char::len_utf8),
            };
        }
        self.text = &text[at..];
        &text[..at]
    }
}

/// The length of a string literal with both of its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The first string literal in a piece of code, as it reads.
fn first_string(code: &str) -> Option<String> {
    let literal = &code[code.find('"')?..];
    let inner = &literal[1..string_length(literal) - 1];
    let mut lines = inner.split("\\\n");
    let mut text = lines.next().unwrap_or_default().to_owned();
    lines.for_each(|line| text.push_str(line.trim_start()));
    Some(text.replace("\\\"", "\"").replace("{{", "{").replace("}}", "}"))
}

/// What is between the bracket at the start of `text` and the one that closes it.
fn in_brackets(text: &str) -> &str {
    let mut scanner = Scanner { text: &text[1..], depth: 0 };
    scanner.until(|rest| rest.starts_with(['}', ')', ']']))
}

/// The arms of the first `match` in the function that begins with `head`, for each such function.
fn arms_of(text: &str, head: &str) -> Vec<Vec<Arm>> {
    let functions = text.match_indices(head).filter_map(|(at, _)| {
        let body = &text[at..];
        let body = in_brackets(&body[body.find('{')?..]);
        let matched = &body[body.find("match ")?..];
        Some(arms(in_brackets(&matched[matched.find('{')?..])))
    });
    functions.collect()
}

fn arms(text: &str) -> Vec<Arm> {
    let (mut scanner, mut arms) = (Scanner { text, depth: 0 }, Vec::new());
    loop {
        let left = scanner.until(|rest| rest.starts_with("=>"));
        let Some(rest) = scanner.text.strip_prefix("=>") else { return arms };
        scanner.text = rest.trim_start();
        let expression = match scanner.text.starts_with('{') {
            true => {
                let inner = in_brackets(scanner.text);
                scanner.text = &scanner.text[inner.len() + 2..];
                inner
            }
            false => scanner.until(|rest| rest.starts_with(',')),
        };
        scanner.text = scanner.text.trim_start_matches([',', ' ', '\n']);
        let (pattern, guard) = left.split_once(" if ").unwrap_or((left, ""));
        let plain = |text: &str| {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            lines.filter(|line| !line.trim_start().starts_with("#[")).collect::<Vec<_>>().join(" ")
        };
        arms.push(Arm {
            pattern: plain(pattern).trim().to_owned(),
            guard: guard.trim().to_owned(),
            expression: expression.trim().to_owned(),
        });
    }
}

/// What each variant of the enums in a file means: its comment, or else its message.
fn meanings(text: &str) -> BTreeMap<String, String> {
    let (mut meanings, mut comment, mut message) = (BTreeMap::new(), String::new(), None);
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        let (trimmed, indent) = (line.trim(), line.len() - line.trim_start().len());
        if let Some(doc) = trimmed.strip_prefix("/// ") {
            comment = format!("{comment} {doc}").trim().to_owned();
        } else if indent == 4 && trimmed.starts_with("#[error(") {
            message = first_string(&rest[rest.find('(').unwrap_or_default()..]);
            let attribute = in_brackets(&rest[4 + 1..]);
            rest = &rest[4 + 1 + attribute.len() + 2..];
            continue;
        } else if indent == 4 && trimmed.starts_with(char::is_uppercase) {
            let name: String = trimmed.chars().take_while(|c| c.is_alphanumeric()).collect();
            let first = comment.split(". ").next().unwrap_or_default();
            let meaning = match message.take() {
                Some(message) if comment.is_empty() => message,
                _ => first.trim_end_matches('.').to_owned(),
            };
            if !meaning.is_empty() {
                meanings.entry(name).or_insert_with(|| readable(&meaning));
            }
            comment.clear();
        } else if !trimmed.starts_with("#[") && !trimmed.is_empty() {
            comment.clear();
        }
        rest = after;
    }
    meanings
}

/// A message with `..` in place of what it is filled with, and links as plain code.
fn readable(message: &str) -> String {
    let (mut text, mut depth) = (String::new(), 0);
    for c in message.strip_prefix("{}").unwrap_or(message).chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    text.push_str("..");
                }
            }
            '}' => depth -= 1,
            _ if depth == 0 => text.push(c),
            _ => {}
        }
    }
    let text = text.replace("[`", "`").replace("`]", "`").replace('|', "\\|").replace('<', "&lt;");
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let word = text.split(' ').next().unwrap_or_default();
    let keeps_case = word.chars().skip(1).any(char::is_uppercase);
    if keeps_case { text } else { first + chars.as_str() }
}

/// All `Name`s behind `prefix` in a piece of code.
fn names<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix).filter(move |(at, _)| !code[..*at].ends_with([':', '_'])).filter_map(
        move |(at, _)| {
            let name = &code[at + prefix.len()..];
            name.split(|c: char| !c.is_alphanumeric()).next().filter(|name| !name.is_empty())
        },
    )
}

/// The arms that say something of a variant: those with the same guard if there are any.
fn about<'a>(arms: &'a [Arm], variant: &str, guard: &str) -> Vec<&'a Arm> {
    let named = |arm: &&Arm| arm.variants().iter().any(|name| name == variant);
    let mut found: Vec<&Arm> = arms.iter().filter(named).collect();
    if found.iter().any(|arm| arm.guard == guard) && found.iter().any(|arm| !arm.guard.is_empty()) {
        found.retain(|arm| arm.guard == guard);
    }
    let is_same = |arm: &&Arm| !guard.is_empty() && arm.guard == guard;
    if !found.iter().any(|arm| arm.is_whole(variant) || is_same(arm)) {
        found.extend(arms.iter().filter(|arm| arm.variants() == ["_"]));
    }
    found
}

/// The exit code of each kind of error.
fn exits() -> Result<BTreeMap<String, String>> {
    let text = read("crates/r1seg-cli/src/exit.rs")?;
    let arms = arms_of(&text, "fn error_code(").pop().ok_or("no exit codes")?;
    let constant = |name: &str| {
        let (_, value) = text.split_once(&format!("const {name}: u8 = "))?;
        Some(value.split(';').next()?.to_owned())
    };
    let mut exits = BTreeMap::new();
    for arm in &arms {
        let exit = match arm.expression.parse::<u8>() {
            Ok(exit) => exit.to_string(),
            // Of the signal that cancelled it.
            Err(_) if arm.expression.contains("interrupt") => "130".to_owned(),
            Err(_) => constant(&arm.expression).ok_or("an exit code is written otherwise")?,
        };
        exits.extend(arm.variants().into_iter().map(|kind| (kind, exit.clone())));
    }
    Ok(exits)
}

/// What the command line says for each remedy.
fn hints() -> Result<BTreeMap<String, String>> {
    let text = read("crates/r1seg-cli/src/hints.rs")?;
    let arms = arms_of(&text, "pub(crate) fn words(").pop().ok_or("no words for remedies")?;
    let mut hints = BTreeMap::<String, String>::new();
    for arm in &arms {
        let Some(words) = first_string(&arm.expression) else { continue };
        for remedy in arm.variants() {
            hints.entry(remedy).or_insert_with(|| readable(&words));
        }
    }
    hints.insert("ChangeFormat".to_owned(), "use another --dtype".to_owned());
    Ok(hints)
}

fn collect() -> Result<BTreeMap<String, Vec<Case>>> {
    let (exits, hints) = (exits()?, hints()?);
    let mut codes = BTreeMap::<String, Vec<Case>>::new();
    for (path, text) in tracked_texts("rs")? {
        if !path.contains("/src/") || !text.contains("=> \"R-") {
            continue;
        }
        let text = &text[..text.find("\n#[cfg(test)]\n").unwrap_or(text.len())];
        let meanings = meanings(text);
        let all = |head: &str| arms_of(text, head).into_iter().flatten().collect::<Vec<_>>();
        let (kinds, remedies) = (all("fn kind("), all("fn remedy("));
        for arm in all("fn code(") {
            let Some(code) = arm.expression.strip_prefix('"') else { continue };
            let mut case = Case { place: path.clone(), ..Case::default() };
            let mut said = Vec::new();
            for variant in arm.variants() {
                said.extend(meanings.get(&variant).cloned());
                for kind in about(&kinds, &variant, &arm.guard) {
                    let kinds = names(&kind.expression, "ErrorKind::");
                    case.exits.extend(kinds.filter_map(|kind| exits.get(kind).cloned()));
                }
                for remedy in about(&remedies, &variant, &arm.guard) {
                    let named = names(&remedy.expression, "Remedy::").find_map(|n| hints.get(n));
                    let words = named
                        .cloned()
                        .or_else(|| first_string(&remedy.expression).map(|words| readable(&words)));
                    case.remedies.extend(words.filter(|words| !case.remedies.contains(words)));
                }
            }
            case.meaning = said.join("; or ");
            codes.entry(code.trim_end_matches('"').to_owned()).or_default().push(case);
        }
    }
    Ok(codes)
}

/// The text of `docs/errors.md`.
fn list(codes: &BTreeMap<String, Vec<Case>>) -> Result<String> {
    let mut text = HEAD.to_owned();
    let kinds = read("crates/r1seg-diagnostic/src/lib.rs")?;
    let meanings = meanings(&kinds);
    for (kind, exit) in exits()? {
        let meaning = meanings.get(&kind).ok_or_else(|| format!("{kind} has no meaning"))?;
        writeln!(text, "| {exit} | `{kind}`: {meaning} |")?;
    }
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut rows: Vec<String> = rows.map(str::to_owned).collect();
    rows.sort_by_key(|row| row[2..].split(' ').next().and_then(|exit| exit.parse::<u8>().ok()));
    text = format!("{HEAD}{}\n", rows.join("\n"));
    writeln!(text, "\n| code | exit code | what is wrong | what to do |\n|---|---|---|---|")?;
    for (code, cases) in codes {
        let of = |part: &dyn Fn(&Case) -> Vec<String>| {
            let mut parts: Vec<String> = cases.iter().flat_map(part).collect();
            let mut known = BTreeSet::new();
            parts.retain(|part| !part.is_empty() && known.insert(part.clone()));
            parts
        };
        let exits = of(&|case| case.exits.iter().cloned().collect()).join(", ");
        let meaning = of(&|case| vec![case.meaning.clone()]).join("; or ");
        let remedies = of(&|case| case.remedies.clone()).join("; or ");
        writeln!(text, "| {code} | {exits} | {meaning} | {remedies} |")?;
    }
    Ok(text)
}

#[test]
fn an_error_code_has_one_meaning() -> Result<()> {
    let codes = collect()?;
    let violations: Vec<String> = codes
        .iter()
        .filter(|(code, cases)| cases.len() > 1 && !SHARED.contains(&code.as_str()))
        .map(|(code, cases)| {
            let places: Vec<&str> = cases.iter().map(|case| case.place.as_str()).collect();
            format!("{code}: {}", places.join(", "))
        })
        .collect();
    assert_none("an error code is given in one place", &violations);
    Ok(())
}

#[test]
fn every_error_code_is_in_the_list_with_its_meaning() -> Result<()> {
    let codes = collect()?;
    assert!(codes.len() > 150 && codes.contains_key("R-IN-01"), "the codes are written otherwise");
    let mut violations = Vec::new();
    for (code, cases) in &codes {
        for case in cases {
            if case.meaning.trim_matches(['.', ' ', ':']).is_empty() || case.exits.is_empty() {
                violations.push(format!("{code} in {}: {case:?}", case.place));
            }
        }
    }
    // Also where a code is only compared with, or printed by a signal handler.
    for (path, text) in tracked_texts("rs")? {
        for (number, line) in code_lines(&text).filter(|_| path.contains("/src/")) {
            for (at, _) in line.match_indices("R-") {
                let code: String = line[at..]
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-')
                    .collect();
                let is_code = code.matches('-').count() == 2
                    && code.ends_with(|c: char| c.is_ascii_digit())
                    && line[..at].ends_with(['"', '`', '[']);
                if is_code && !codes.contains_key(&code) {
                    violations.push(format!("{path}:{number}: {code} is no code of an error"));
                }
            }
        }
    }
    assert_none("an error code has a meaning and an exit code", &violations);

    let list = list(&codes)?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(LIST), &list)?;
    }
    let known = read(LIST).unwrap_or_default();
    let differs =
        list.lines().zip(known.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
    assert!(
        list == known,
        "{LIST} is not up to date (UPDATE_DOCS=1 cargo test --test repo writes it): {differs:?}"
    );
    Ok(())
}

#[test]
fn arms_and_messages_are_read_as_rust_reads_them() {
    let text = r#"
    fn kind(&self) -> ErrorKind {
        match self {
            E::A { kind: Kind::B | Kind::C, .. } | E::D(_) => ErrorKind::Io,
            // Why.
            E::E { path, .. } if path.is_empty() => {
                ErrorKind::Usage
            }
            _ => ErrorKind::BadData,
        }
    }
"#;
    let arms = arms_of(text, "fn kind(").pop().unwrap_or_default();
    let read: Vec<_> = arms.iter().map(|arm| (arm.variants(), arm.expression.as_str())).collect();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        read,
        [
            (names(&["A", "D"]), "ErrorKind::Io"),
            (names(&["E"]), "ErrorKind::Usage"),
            (names(&["_"]), "ErrorKind::BadData"),
        ]
    );
    assert_eq!(about(&arms, "F", "").len(), 1);
    assert_eq!(about(&arms, "E", "path.is_empty()").len(), 1);
    assert_eq!(readable("{}Found {n} of {what:?}"), "found .. of ..");
    assert_eq!(first_string("f(\"a \\\n     b\", \"c\")").as_deref(), Some("a b"));
}
