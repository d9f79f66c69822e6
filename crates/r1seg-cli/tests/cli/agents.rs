//! SKILL.md, AGENTS.md and docs/mcp.md, which agents follow to the letter: all that they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Desk;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn document(name: &str) -> String {
    fs::read_to_string(root(name)).unwrap()
}

/// Every line of code: of blocks, and what stands between backticks.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            let lines = part.replace("\\\n", " ");
            found.extend(lines.lines().skip(1).map(|line| line.trim().to_string()));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            found.extend(spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found
}

/// The flags in a piece of code.
fn flags(code: &str) -> BTreeSet<String> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let word = |word: &str| {
        let flag = word.trim_matches(|c| "\"'[](),".contains(c));
        let is_long = flag.starts_with("--") && flag.len() > 2;
        let is_short = flag.len() == 2 && flag.starts_with('-') && flag != "--";
        (is_long || is_short).then(|| flag.split(is_end).next().unwrap_or(flag).to_string())
    };
    code.split_whitespace().filter_map(word).collect()
}

/// The help of each command, by its name.
fn helps(desk: &Desk) -> BTreeMap<String, String> {
    let help = desk.run(["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"infer") && names.contains(&"mcp"), "{names:?}");
    let of = |name: &&str| (name.to_string(), desk.run([*name, "--help"]).stdout);
    names.iter().filter(|name| **name != "help").map(of).collect()
}

fn has_flag(help: &str, flag: &str) -> bool {
    help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == flag)
}

#[test]
fn every_command_and_flag_that_an_agent_is_told_exists() {
    let desk = Desk::new();
    let helps = helps(&desk);
    let mut wrong = Vec::new();
    for name in ["SKILL.md", "docs/mcp.md"] {
        for line in code(&document(name)) {
            // The arguments of a client's configuration are a command, too.
            let line = line.replace(['"', ','], " ").replace("[ mcp ", "r1seg mcp ");
            let Some((_, rest)) = line.rsplit_once("r1seg ") else {
                // Without a command, a flag is one of any.
                for flag in flags(&line) {
                    if !helps.values().any(|help| has_flag(help, &flag)) {
                        wrong.push(format!("{name}: {flag} in `{line}`"));
                    }
                }
                continue;
            };
            let command = rest.split_whitespace().next().unwrap_or_default();
            let Some(help) = helps.get(command) else {
                let is_command =
                    !command.is_empty() && command.chars().all(|c| c.is_ascii_lowercase());
                if is_command && !rest.starts_with("args") {
                    wrong.push(format!("{name}: `{line}`"));
                }
                continue;
            };
            for flag in flags(rest) {
                if !has_flag(help, &flag) {
                    wrong.push(format!("{name}: {command} has no {flag}: `{line}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_exit_codes_that_an_agent_is_told_are_those_of_the_program() {
    let numbers = |text: &str| -> BTreeSet<u8> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    let desk = Desk::new();
    let help = desk.run(["--help"]).stdout;
    let (_, listed) = help.split_once("Exit codes:\n").unwrap();
    let listed = listed.split("\n\n").next().unwrap();
    let of_program: BTreeSet<u8> = listed.lines().flat_map(numbers).collect();
    let skill = document("SKILL.md");
    let (_, table) = skill.split_once("## Exit codes").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code"));
    let of_skill: BTreeSet<u8> = rows.flat_map(numbers).collect();
    assert_eq!(of_skill, of_program);
    // And a few of them in fact.
    desk.run(["infer", "--model", "demo", "--image", "absent.nii.gz", "--prompt", "x"]).code_is(66);
    desk.run(["infer", "--prompt", "x", "--image", "x"]).code_is(2);
    fs::write(desk.path("empty.nii.gz"), "").unwrap();
    desk.run(["inspect", "empty.nii.gz"]).code_is(65);
    desk.run(["infer", "--model", "./absent", "--image", "x", "--prompt", "x"]).code_is(66);
}

#[test]
fn the_fields_and_warnings_that_an_agent_is_told_exist() {
    let schemas = ["report", "segment", "inspect"].map(|name| {
        let text = document(&format!("docs/{name}.schema.json"));
        serde_json::from_str::<Value>(&text).unwrap().to_string()
    });
    let skill = document("SKILL.md");
    let (_, table) = skill.split_once("## The report").unwrap();
    let table = table.split("\nFiles:").next().unwrap();
    let mut fields = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap();
        for path in cell.split('`').skip(1).step_by(2) {
            fields.extend(path.split('.').map(|name| name.trim_end_matches("[]").to_string()));
        }
    }
    fields.remove("");
    assert!(fields.len() > 15, "{fields:?}");
    let is_known = |field: &String| schemas.iter().any(|s| s.contains(&format!("\"{field}\":")));
    let unknown: Vec<_> = fields.iter().filter(|field| !is_known(field)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let sources = ["r1seg", "r1seg-results", "r1seg-volume"]
        .map(|name| sources_of(&root(&format!("crates/{name}/src"))));
    let codes = skill.split('`').filter(|span| span.starts_with("W-"));
    for code in codes {
        assert!(sources.iter().any(|text| text.contains(&format!("\"{code}\""))), "{code}");
    }
}

fn sources_of(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources_of(&path));
        } else {
            text.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
    }
    text
}

#[test]
fn the_crates_targets_and_scripts_that_a_coding_agent_is_told_exist() {
    let text = document("AGENTS.md");
    let mut wrong = Vec::new();
    for line in code(&text) {
        let command = line.split(" #").next().unwrap_or_default().to_string();
        let words: Vec<&str> = command.split_whitespace().collect();
        for pair in words.windows(2) {
            let exists = match pair {
                ["-p", name] => root(&format!("crates/{name}/Cargo.toml")).is_file(),
                ["--test", name] => {
                    root(&format!("tests/{name}/main.rs")).is_file()
                        || root(&format!("crates/r1seg-cli/tests/{name}/main.rs")).is_file()
                }
                _ => true,
            };
            if !exists {
                wrong.push(format!("{pair:?}"));
            }
        }
        for word in words.iter().filter(|word| !word.contains(['{', '*'])) {
            let is_path =
                ["scripts/", "crates/", "tests/", "docs/"].iter().any(|of| word.starts_with(of));
            if is_path && !root(word).exists() {
                wrong.push((*word).to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // `{a,b}` stands for several crates.
    for braces in text.split("crates/r1seg-{").skip(1) {
        for name in braces.split('}').next().unwrap().split(',') {
            assert!(root(&format!("crates/r1seg-{name}")).is_dir(), "{name}");
        }
    }
}

#[test]
fn the_front_matter_of_the_skill_names_and_describes_it() {
    let skill = document("SKILL.md");
    let (matter, _) = skill.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let field =
        |name: &str| matter.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    assert_eq!(field("name"), Some("r1seg"));
    let description = field("description").unwrap();
    assert!(
        description.len() <= 1024 && description.contains("Research use only"),
        "{description}"
    );
    assert_eq!(matter.lines().count(), 2);
}
