//! Dependencies point downward only, and every crate is built, linted and tested.

use crate::{Result, assert_none, read, root};

/// Every crate with the crates of this workspace that it may depend on, top down.
///
/// The column `knows` of the code map in ARCHITECTURE.md says the same: a new crate must be put into
/// both.
const CRATES: &[(&str, &[&str])] = &[
    ("r1seg-cli", &["r1seg-server", "r1seg-mcp", "r1seg-results", "r1seg-metrics", "r1seg"]),
    ("r1seg-python", &["r1seg-results", "r1seg"]),
    ("r1seg-server", &["r1seg-mcp", "r1seg-results", "r1seg", "r1seg-diagnostic", "r1seg-viewers"]),
    ("r1seg-mcp", &["r1seg-results", "r1seg", "r1seg-diagnostic"]),
    ("r1seg-results", &["r1seg", "r1seg-diagnostic"]),
    (
        "r1seg",
        &[
            "r1seg-diagnostic",
            "r1seg-files",
            "r1seg-volume",
            "r1seg-tokenizer",
            "r1seg-checkpoint",
            "r1seg-convert",
            "r1seg-hub",
            "r1seg-vit3d",
            "r1seg-projector",
            "r1seg-llm",
            "r1seg-text-encoder",
            "r1seg-segresnet",
            "r1seg-mask-decoder",
            "r1seg-phantom",
            "r1seg-nn",
        ],
    ),
    ("r1seg-diagnostic", &[]),
    ("r1seg-files", &[]),
    ("r1seg-metrics", &["r1seg-diagnostic", "r1seg-volume"]),
    ("r1seg-volume", &["r1seg-diagnostic", "r1seg-files"]),
    ("r1seg-tokenizer", &["r1seg-diagnostic", "r1seg-files"]),
    ("r1seg-checkpoint", &["r1seg-diagnostic", "r1seg-files"]),
    ("r1seg-convert", &["r1seg-diagnostic", "r1seg-files", "r1seg-checkpoint"]),
    ("r1seg-hub", &["r1seg-diagnostic", "r1seg-files"]),
    ("r1seg-phantom", &[]),
    ("r1seg-viewers", &[]),
    ("r1seg-vit3d", &["r1seg-nn"]),
    ("r1seg-projector", &["r1seg-nn"]),
    ("r1seg-llm", &["r1seg-nn"]),
    ("r1seg-text-encoder", &["r1seg-nn"]),
    ("r1seg-segresnet", &["r1seg-nn"]),
    ("r1seg-mask-decoder", &["r1seg-nn"]),
    ("r1seg-nn", &["r1seg-kernels"]),
    ("r1seg-kernels", &[]),
];

/// Crates that know no tensors. Not among them is `r1seg-convert`: candle quantizes for it.
const WITHOUT_CANDLE: &[&str] = &[
    "r1seg-diagnostic",
    "r1seg-files",
    "r1seg-volume",
    "r1seg-metrics",
    "r1seg-tokenizer",
    "r1seg-checkpoint",
    "r1seg-hub",
    "r1seg-phantom",
    "r1seg-viewers",
    "r1seg-kernels",
];

/// Crates that are parts of a model.
const MODEL_CRATES: &[&str] = &[
    "r1seg-vit3d",
    "r1seg-projector",
    "r1seg-llm",
    "r1seg-text-encoder",
    "r1seg-segresnet",
    "r1seg-mask-decoder",
];

/// What a part of a model may use. Nothing here opens a file, prints or picks a device.
const MODEL_DEPENDENCIES: &[&str] = &[
    "candle-core",
    "candle-nn",
    "half",
    "rand",
    "rand_chacha",
    "rayon",
    "serde",
    "serde_json",
    "thiserror",
    "tracing",
];

struct Manifest {
    path: String,
    /// (section, line), without comments and blank lines.
    lines: Vec<(String, String)>,
}

struct Dependency {
    name: String,
    is_dev: bool,
}

impl Manifest {
    fn read(path: &str) -> Result<Manifest> {
        let (mut section, mut lines) = (String::new(), Vec::new());
        for line in read(path)?.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A header stands alone; `[` also opens nested arrays.
            if line.starts_with('[') && line.ends_with(']') && !line.contains(',') {
                section = line.trim_matches(['[', ']']).to_owned();
            }
            lines.push((section.clone(), line.to_owned()));
        }
        Ok(Manifest { path: path.to_owned(), lines })
    }

    fn has(&self, section: &str, line: &str) -> bool {
        self.lines.iter().any(|(s, l)| s == section && l == line)
    }

    /// The string at `key`, for example `version = "0.1.0"`.
    fn string(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.lines.iter().filter(|(s, _)| s == section).find_map(|(_, line)| {
            let (found, value) = line.split_once('=')?;
            (found.trim() == key).then_some(value.trim())
        })?;
        value.strip_prefix('"')?.strip_suffix('"')
    }

    /// Every crate under any `[...dependencies]`, by its own name.
    fn dependencies(&self) -> Vec<Dependency> {
        let of_line = |(section, line): &(String, String)| {
            let (before, after) = section.split_once("dependencies")?;
            if before == "workspace." {
                return None;
            }
            let is_dev = before.ends_with("dev-");
            let name = if let Some(name) = after.strip_prefix('.') {
                line.starts_with('[').then_some(name)?
            } else {
                let (key, value) = line.split_once('=')?;
                let package = value.split_once("package = \"").and_then(|(_, p)| p.split_once('"'));
                package.map_or(key.split('.').next()?, |(name, _)| name)
            };
            Some(Dependency { name: name.trim().to_owned(), is_dev })
        };
        self.lines.iter().filter_map(of_line).collect()
    }
}

/// Every crate by name, with its manifest.
fn packages() -> Result<Vec<(String, Manifest)>> {
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(root().join("crates"))? {
        let folder = entry?.file_name().to_string_lossy().into_owned();
        let manifest = Manifest::read(&format!("crates/{folder}/Cargo.toml"))?;
        let name = manifest.string("package", "name").unwrap_or_default().to_owned();
        assert_eq!(name, folder, "{}: a crate has the name of its folder", manifest.path);
        packages.push((name, manifest));
    }
    packages.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(packages)
}

#[test]
fn crates_depend_only_on_crates_below() -> Result<()> {
    let mut violations = Vec::new();
    for (name, manifest) in packages()? {
        let Some((_, below)) = CRATES.iter().find(|(known, _)| *known == name) else {
            violations.push(format!("`{name}` is missing in CRATES of this test"));
            continue;
        };
        for Dependency { name: used, .. } in manifest.dependencies() {
            if used.starts_with("r1seg") && !below.contains(&used.as_str()) {
                violations.push(format!("`{name}` uses `{used}`"));
            }
        }
    }
    assert_none("a crate of the workspace uses only the crates below it", &violations);
    Ok(())
}

#[test]
fn crates_that_need_no_tensors_know_none() -> Result<()> {
    let mut violations = Vec::new();
    for (name, manifest) in packages()? {
        for Dependency { name: used, is_dev } in manifest.dependencies() {
            // Tests may hold a crate against candle.
            let counts = WITHOUT_CANDLE.contains(&name.as_str()) && !is_dev;
            if counts && used.starts_with("candle") {
                violations.push(format!("`{name}` uses `{used}`"));
            }
        }
    }
    assert_none("these crates are usable without candle", &violations);
    Ok(())
}

#[test]
fn model_crates_use_tensors_and_nothing_else() -> Result<()> {
    let mut violations = Vec::new();
    for (name, manifest) in packages()? {
        for Dependency { name: used, is_dev } in manifest.dependencies() {
            let allowed = MODEL_DEPENDENCIES.contains(&used.as_str()) || used == "r1seg-nn";
            if MODEL_CRATES.contains(&name.as_str()) && !is_dev && !allowed {
                violations.push(format!("`{name}` uses `{used}`"));
            }
        }
    }
    assert_none("the parts of a model compute; the facade reads files", &violations);
    Ok(())
}

#[test]
fn anyhow_is_for_the_command_line_only() -> Result<()> {
    let uses_anyhow =
        |manifest: &Manifest| manifest.dependencies().iter().any(|used| used.name == "anyhow");
    let violations: Vec<_> = packages()?
        .into_iter()
        .filter(|(name, manifest)| name != "r1seg-cli" && uses_anyhow(manifest))
        .map(|(name, _)| name)
        .collect();
    assert_none("a library has typed errors", &violations);
    Ok(())
}

#[test]
fn results_know_neither_arguments_nor_terminals() -> Result<()> {
    let used = ["clap", "indicatif", "anyhow"];
    let violations: Vec<_> = packages()?
        .into_iter()
        .filter(|(name, _)| name == "r1seg-results")
        .flat_map(|(_, manifest)| manifest.dependencies())
        .filter(|dependency| used.contains(&dependency.name.as_str()))
        .map(|dependency| dependency.name)
        .collect();
    assert_none("a server and a command line write the same results", &violations);
    Ok(())
}

#[test]
fn every_crate_takes_lints_and_versions_from_the_workspace() -> Result<()> {
    let mut violations = Vec::new();
    for (_, manifest) in packages()? {
        if !manifest.has("lints", "workspace = true") {
            violations.push(format!("{}: no `[lints] workspace = true`", manifest.path));
        }
        for key in ["version", "edition", "rust-version", "license", "repository"] {
            if !manifest.has("package", &format!("{key}.workspace = true")) {
                violations.push(format!("{}: no `{key}.workspace = true`", manifest.path));
            }
        }
        // Otherwise libtest answers the flags that are meant for criterion.
        if !["lib", "bin"].iter().any(|target| manifest.has(target, "bench = false")) {
            violations.push(format!("{}: no `bench = false`", manifest.path));
        }
    }
    assert_none("a manifest says only what is its own", &violations);
    Ok(())
}

#[test]
fn every_crate_is_a_member_of_a_virtual_workspace() -> Result<()> {
    let manifest = Manifest::read("Cargo.toml")?;
    assert!(manifest.has("workspace", r#"members = ["crates/*"]"#));
    // Either would let `cargo test` at the root skip crates.
    assert!(!manifest.lines.iter().any(|(section, _)| section == "package"));
    assert!(!manifest.lines.iter().any(|(_, line)| line.starts_with("default-members")));
    Ok(())
}

#[test]
fn every_target_at_the_root_is_listed_by_the_facade() -> Result<()> {
    let manifest = Manifest::read("crates/r1seg/Cargo.toml")?;
    let listed: Vec<_> =
        manifest.lines.iter().filter_map(|(_, line)| line.strip_prefix("path = ")).collect();
    let mut violations = Vec::new();
    for folder in ["tests", "examples", "benches"] {
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = match path.join("main.rs").is_file() {
                true => format!("{folder}/{name}/main.rs"),
                false if name.ends_with(".rs") => format!("{folder}/{name}"),
                false => continue,
            };
            if !listed.contains(&format!("\"../../{target}\"").as_str()) {
                violations.push(target);
            }
        }
    }
    assert_none("a target at the root stands in crates/r1seg/Cargo.toml", &violations);
    Ok(())
}

#[test]
fn workspace_dependencies_have_the_version_of_the_workspace() -> Result<()> {
    let manifest = Manifest::read("Cargo.toml")?;
    let version = manifest.string("workspace.package", "version").ok_or("no version")?;
    let expected = format!("version = \"{version}\"");
    let violations: Vec<_> = manifest
        .lines
        .iter()
        .filter(|(section, line)| section == "workspace.dependencies" && line.contains("path ="))
        .filter(|(_, line)| !line.contains(&expected))
        .map(|(_, line)| line)
        .collect();
    assert_none("crates of the workspace are released together", &violations);
    Ok(())
}
