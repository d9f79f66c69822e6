//! What the documents say exists, and says nothing about anybody's machine.

use std::path::Path;

use crate::{Result, assert_none, read, root, tracked_files, tracked_texts};

/// The two commands of a newcomer's first minute.
const README_COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test"];

/// A value of `[workspace.package]`.
fn workspace_value(key: &str) -> Result<String> {
    let manifest = read("Cargo.toml")?;
    let (_, section) = manifest.split_once("[workspace.package]").ok_or("no section")?;
    let prefix = format!("{key} = \"");
    let value = section.lines().find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"'));
    Ok(value.ok_or_else(|| format!("no `{key}`"))?.to_owned())
}

#[test]
fn readme_names_the_first_commands() -> Result<()> {
    let readme = read("README.md")?;
    let missing: Vec<_> =
        README_COMMANDS.into_iter().filter(|command| !readme.contains(command)).collect();
    assert_none("README.md names these commands", &missing);
    Ok(())
}

#[test]
fn readme_names_every_example() -> Result<()> {
    let readme = read("README.md")?;
    let missing: Vec<_> = tracked_files()?
        .into_iter()
        .filter_map(|path| {
            Some(path.strip_prefix("examples/")?.split('/').next()?.trim_end_matches(".rs").into())
        })
        .filter(|example: &String| !readme.contains(example.as_str()))
        .collect();
    assert_none("README.md names every example", &missing);
    Ok(())
}

#[test]
fn changelog_begins_with_this_version() -> Result<()> {
    let changelog = read("CHANGELOG.md")?;
    let version = workspace_value("version")?;
    // Keep a Changelog: `## [1.2.3] - 2026-01-31`, and before a release `## [Unreleased]`.
    let headings: Vec<_> = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## ["))
        .filter_map(|line| line.split(']').next())
        .collect();
    let released = headings.iter().find(|heading| **heading != "Unreleased");
    assert!(!headings.is_empty(), "CHANGELOG.md has no `## [...]` heading");
    assert!(
        released.is_none_or(|newest| **newest == version),
        "the newest release in CHANGELOG.md is {released:?}, the workspace is {version}"
    );
    Ok(())
}

#[test]
fn ci_builds_with_the_oldest_supported_rust() -> Result<()> {
    let rust_version = workspace_value("rust-version")?;
    let workflow = read(".github/workflows/ci.yml")?;
    assert!(workflow.contains(&format!("cargo +{rust_version} build")), "not {rust_version}");
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let mut violations = Vec::new();
    for (path, text) in tracked_texts("md")? {
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_external = link.contains("://") || link.starts_with("mailto:");
            if !is_external && !root().join(folder).join(target).exists() {
                violations.push(format!("{path}: {link}"));
            }
        }
    }
    assert_none("a relative link names a file of the repository", &violations);
    Ok(())
}

#[test]
fn no_file_names_a_folder_of_one_machine() -> Result<()> {
    // Split, so that this file does not find itself.
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let continues_a_path =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '*' | '>');

    let mut violations = Vec::new();
    for path in tracked_files()? {
        let Ok(text) = String::from_utf8(std::fs::read(root().join(&path))?) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            let is_absolute = |folder: &str| {
                line.match_indices(folder)
                    .any(|(start, _)| !line[..start].ends_with(continues_a_path))
            };
            if folders.into_iter().any(is_absolute) {
                violations.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert_none("an absolute path works on one machine only", &violations);
    Ok(())
}
