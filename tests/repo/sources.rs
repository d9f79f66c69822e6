//! Length of files, the few places of `unsafe` and of printing, and words that libraries leave to programs.

use crate::{Result, assert_none, tracked_texts};

const MAX_LINES: usize = 600;

/// The lines that ship, with their numbers: neither comments nor unit tests.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // House style puts `mod tests` last.
    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(index, line)| {
        let code = if line.trim_start().starts_with("//") { "" } else { line };
        (index + 1, code.split(" // ").next().unwrap_or_default())
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let after = line[start + word.len()..].chars().next();
        let before = line[..start].chars().next_back();
        !before.is_some_and(is_part_of_word) && !after.is_some_and(is_part_of_word)
    })
}

fn is_program_or_test(path: &str) -> bool {
    let folders = ["crates/r1seg-cli/", "examples/", "tests/", "benches/"];
    folders.iter().any(|folder| path.starts_with(folder))
        || folders[1..].iter().any(|folder| path.contains(&format!("/{folder}")))
        // Its output is read by cargo.
        || path.ends_with("/build.rs")
}

#[test]
fn source_files_stay_short() -> Result<()> {
    let mut violations = Vec::new();
    for (path, text) in tracked_texts("rs")? {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            violations.push(format!("{path}: {lines} lines"));
        }
    }
    assert_none(&format!("a file has at most {MAX_LINES} lines"), &violations);
    Ok(())
}

/// Where the rows of the registry are.
const ROWS: &str = "crates/r1seg/src/registry/rows/";

/// The only places that may know a `model_type` of `config.json`.
const MODEL_TYPES: &[&str] = &[
    ROWS,
    // Below the registry: which of llama.cpp's architectures the language model has.
    "crates/r1seg-checkpoint/src/keys/llama_cpp.rs",
];

#[test]
fn model_types_are_known_to_the_registry_alone() -> Result<()> {
    let sources = tracked_texts("rs")?;
    let rows: String = sources
        .iter()
        .filter(|(path, _)| path.starts_with(ROWS))
        .map(|(_, text)| text.as_str())
        .collect();
    let model_types: Vec<&str> = rows
        .split("with(\"")
        .chain(rows.split("without(\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| !name.is_empty() && name.chars().all(|c| !c.is_whitespace()))
        .collect();
    assert!(model_types.contains(&"lamed_phi3_cross") && model_types.contains(&"m3d_clip"));
    let mut violations = Vec::new();
    for (path, text) in sources {
        let is_source = path.starts_with("crates/") && path.contains("/src/");
        if !is_source || MODEL_TYPES.iter().any(|known| path.starts_with(known)) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            let named = model_types.iter().find(|name| line.contains(&format!("\"{name}\"")));
            violations.extend(named.map(|name| format!("{path}:{number}: `{name}`")));
        }
    }
    assert_none("a model_type stands in its row of the registry", &violations);
    Ok(())
}

#[test]
fn libraries_neither_print_nor_exit() -> Result<()> {
    let mut violations = Vec::new();
    for (path, text) in tracked_texts("rs")? {
        if is_program_or_test(&path) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for macro_name in ["println", "print", "eprintln", "eprint", "dbg"] {
                if has_word(line, macro_name) && line.contains(&format!("{macro_name}!")) {
                    violations.push(format!("{path}:{number}: `{macro_name}!`"));
                }
            }
            if line.contains("process::exit") || line.contains("process::abort") {
                violations.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("only the command line prints and ends the process", &violations);
    Ok(())
}

#[test]
fn unsafe_code_is_in_its_five_places() -> Result<()> {
    let keyword = concat!("un", "safe");
    let mut violations = Vec::new();
    for (path, text) in tracked_texts("rs")? {
        // The memory map of weight files, CUDA devices and launches on them, the kernels, what the program
        // does about signals, and the emulator of CUDA, which no program contains.
        if path == "crates/r1seg-checkpoint/src/mapped.rs"
            || path == "crates/r1seg/src/device/cuda.rs"
            || path.starts_with("crates/r1seg-nn/src/cuda/")
            || path.starts_with("crates/r1seg-kernels/")
            || path == "crates/r1seg-cli/src/last_words.rs"
            || path.starts_with("tests/fakecuda/")
        {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if has_word(line, keyword) {
                violations.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("a reviewer knows where to look for undefined behavior", &violations);
    Ok(())
}

#[test]
fn libraries_name_neither_flags_nor_subcommands() -> Result<()> {
    let args = crate::read("crates/r1seg-cli/src/args/mod.rs")?;
    let (_, commands) = args.split_once("enum Command {").ok_or("the commands are elsewhere")?;
    let commands: Vec<String> = commands
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    ")?.split(['(', ',', ' ']).next())
        .filter(|name| name.starts_with(char::is_uppercase))
        .map(str::to_lowercase)
        .collect();
    assert!(commands.iter().any(|name| name == "infer"), "{commands:?}");

    let mut violations = Vec::new();
    for (path, text) in tracked_texts("rs")? {
        // The package of Python carries the program, and may name its commands.
        if is_program_or_test(&path)
            || !path.starts_with("crates/")
            || path.contains("/fuzz/")
            || path == "crates/r1seg-python/src/words.rs"
        {
            continue;
        }
        for (number, line) in code_lines(&text) {
            // A flag of another program.
            let line = line.replace("gdcmconv --raw", "");
            let is_flag = |(at, _): (usize, &str)| {
                line[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
                    && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-')
            };
            let is_command = |name: &String| has_word(&line, &format!("r1seg {name}"));
            if line.match_indices("--").any(is_flag) || commands.iter().any(is_command) {
                violations.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("a library says what to do, and the program how (`Remedy`)", &violations);
    Ok(())
}

#[test]
fn code_lines_are_those_that_ship() {
    let text = "//! doc\nfn a() {} // why\n\n#[cfg(test)]\nmod tests {}\n";
    let code: Vec<_> = code_lines(text).filter(|(_, line)| !line.is_empty()).collect();
    assert_eq!(code, [(2, "fn a() {}")]);

    assert!(has_word("eprint!()", "eprint") && !has_word("eprint!()", "print"));
}
