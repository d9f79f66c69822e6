//! The page that the program carries is the one that its sources build, without node.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the build hashes (page/build/source-hashes.ts).
const SOURCES: &[&str] = &[
    "src",
    "public",
    "build",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
];

/// The whole page must stay small enough to be carried in the program.
const MAX_BYTES: u64 = 3_500_000;

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// All files below a path, or the path itself where it is one.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        found.extend(files(&entry?.path())?);
    }
    Ok(found)
}

fn hash(path: &Path) -> Result<String> {
    // Git may write other line ends on other systems.
    let bytes = String::from_utf8(fs::read(path)?)?.replace("\r\n", "\n");
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn the_page_was_built_from_the_sources_beside_it() -> Result<()> {
    let listed: BTreeMap<String, String> = fs::read_to_string(page().join("dist/sources.sha256"))?
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, path)| (path.to_string(), hash.to_string()))
        .collect();
    let mut found = BTreeMap::new();
    for source in SOURCES {
        for path in files(&page().join(source))? {
            let name: Vec<_> =
                path.strip_prefix(page())?.iter().map(|part| part.to_string_lossy()).collect();
            found.insert(name.join("/"), hash(&path)?);
        }
    }
    let stale: Vec<_> = found
        .iter()
        .filter(|(path, hash)| listed.get(*path) != Some(*hash))
        .map(|(path, _)| path)
        .chain(listed.keys().filter(|path| !found.contains_key(*path)))
        .collect();
    assert!(
        stale.is_empty(),
        "changed since dist/ was built: {stale:?}; `npm run build` in crates/r1seg-server/page"
    );
    Ok(())
}

#[test]
fn the_page_runs_nothing_inline_and_fetches_nothing_from_elsewhere() -> Result<()> {
    let html = fs::read_to_string(page().join("dist/index.html"))?;
    for forbidden in ["<script>", "<style", " style=", " onload=", "http:", "https:"] {
        assert!(!html.contains(forbidden), "{forbidden} in index.html");
    }
    for name in html.split('"').filter(|part| part.starts_with("./")) {
        assert!(page().join("dist").join(name).is_file(), "{name} is not there");
    }
    Ok(())
}

#[test]
fn the_page_is_small_and_says_whose_work_it_is() -> Result<()> {
    let mut bytes = 0;
    for path in files(&page().join("dist"))? {
        bytes += fs::metadata(path)?.len();
    }
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
    let licenses = fs::read_to_string(page().join("dist/licenses.txt"))?;
    for package in ["@niivue/niivue", "gl-matrix", "preact"] {
        assert!(licenses.contains(package), "{package} is missing in licenses.txt");
    }
    Ok(())
}
