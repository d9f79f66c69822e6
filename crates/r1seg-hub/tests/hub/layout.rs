use std::fs;
use std::path::Path;

use r1seg_hub::{Cancel, DownloadOptions, Hub};

use crate::client::{config, hub, id};
use crate::download::download;
use crate::server::{COMMIT, MODEL, Server, weights};

const FOLDER: &str = "models--lihao0011--R1Seg-3D-SAM";

fn all_files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                files.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[cfg(unix)]
#[test]
fn cache_has_the_layout_of_huggingface_hub() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    download(&hub, &id(MODEL)).unwrap();
    let hash = |name: &str| server.file(name).hash();
    let mut expected =
        vec![format!("{FOLDER}/.r1seg/{COMMIT}.json"), format!("{FOLDER}/refs/main")];
    for name in ["README.md", "config.json", "model.safetensors"] {
        expected.push(format!(".locks/{FOLDER}/{}.lock", hash(name)));
        expected.push(format!("{FOLDER}/blobs/{}", hash(name)));
        expected.push(format!("{FOLDER}/snapshots/{COMMIT}/{name}"));
        let link = folder.path().join(format!("{FOLDER}/snapshots/{COMMIT}/{name}"));
        let target = fs::read_link(link).unwrap();
        assert_eq!(target, Path::new(&format!("../../blobs/{}", hash(name))));
    }
    expected.sort();
    assert_eq!(all_files(folder.path()), expected);
    let branch = fs::read_to_string(folder.path().join(FOLDER).join("refs/main")).unwrap();
    assert_eq!(branch, COMMIT);
    // Others who share the cache may read all of it.
    use std::os::unix::fs::PermissionsExt;
    for file in
        ["refs/main", &format!(".r1seg/{COMMIT}.json"), &format!("blobs/{}", hash("config.json"))]
    {
        let mode =
            fs::metadata(folder.path().join(FOLDER).join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o044, 0o044, "{file}: {mode:o}");
    }
}

#[test]
fn another_rust_client_finds_the_files() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    download(&hub, &id(MODEL)).unwrap();
    let cache = hf_hub::Cache::new(folder.path().to_path_buf());
    let found = cache.model(MODEL.to_owned()).get("model.safetensors").unwrap();
    assert_eq!(fs::read(found).unwrap(), weights());
}

#[cfg(unix)]
#[test]
fn snapshot_that_another_tool_made_is_found_and_judged_by_its_weights() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let model = folder.path().join(FOLDER);
    let snapshot = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::create_dir_all(model.join("blobs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    let add = |name: &str| {
        let file = server.file(name);
        fs::write(model.join("blobs").join(file.hash()), &file.bytes).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{}", file.hash()), snapshot.join(name))
            .unwrap();
    };
    add("config.json");
    let error = hub.resolve(&id(MODEL)).unwrap_err();
    assert!(
        error.code() == "R-HUB-03" && error.message().ends_with("are missing: model.safetensors"),
        "{error}"
    );
    add("model.safetensors");
    assert_eq!(hub.resolve(&id(MODEL)).unwrap().files, ["config.json", "model.safetensors"]);
    assert_eq!(server.connections(), 0);
    // Only what is missing comes.
    download(&hub, &id(MODEL)).unwrap();
    assert_eq!(server.requests_of("/resolve/").len(), 1);
    assert_eq!(server.requests_of("README.md").len(), 1);
}

#[test]
fn cache_without_links_holds_the_files_themselves() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    config.symlinks = false;
    let hub = Hub::new(config);
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    let file = snapshot.path.join("model.safetensors");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(fs::read(&file).unwrap(), weights());
    let checks = hub.verify(&snapshot, &Cancel::default(), &mut |_| {}).unwrap();
    assert!(checks.iter().all(|check| !check.is_bad()) && checks.len() == 3);
    assert_eq!(hub.list().unwrap()[0].bytes, weights().len() as u64 + 27);
    // Where hard links are not possible either, the blob becomes the file.
    fs::remove_dir_all(folder.path().join(FOLDER).join("blobs")).unwrap();
    assert_eq!(hub.resolve(&id(MODEL)).unwrap(), snapshot);
    let before = server.requests_of("/resolve/").len();
    download(&hub, &id(MODEL)).unwrap();
    assert_eq!(server.requests_of("/resolve/").len(), before);
    assert_eq!(hub.remove(&id(MODEL)).unwrap(), weights().len() as u64 + 27);
}

#[test]
fn revision_with_slashes_is_one_ref() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let pull_request = id(&format!("{MODEL}@refs/pr/1"));
    let snapshot = download(&hub, &pull_request).unwrap();
    assert!(server.requests()[0].path.contains("/revision/refs%2Fpr%2F1?"));
    let path = folder.path().join(FOLDER).join("refs/refs/pr/1");
    assert_eq!(fs::read_to_string(path).unwrap(), COMMIT);
    assert_eq!(hub.resolve(&pull_request).unwrap(), snapshot);
    assert_eq!(hub.list().unwrap()[0].revisions[0].refs, ["refs/pr/1"]);
}

#[test]
fn ref_that_is_no_commit_leads_nowhere() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let refs = folder.path().join(FOLDER).join("refs");
    fs::create_dir_all(&refs).unwrap();
    for text in ["", "../../../../etc", "main", &"x".repeat(1000)] {
        fs::write(refs.join("main"), text).unwrap();
        assert!(hub.resolve(&id(MODEL)).is_err_and(|e| e.code() == "R-HUB-02"), "{text}");
    }
    let options = DownloadOptions::default();
    assert!(hub.download(&id(MODEL), &options, &mut |_| {}).is_ok());
}

/// `R1SEG_PYTHON` names an interpreter with `huggingface_hub`.
#[cfg(unix)]
#[test]
fn python_reads_our_cache_and_we_read_pythons() {
    const SCRIPT: &str = "
import os, sys
from huggingface_hub import scan_cache_dir, snapshot_download
model, ours, theirs = sys.argv[1:]
path = snapshot_download(model, cache_dir=ours, local_files_only=True)
assert sorted(os.listdir(path)) == ['README.md', 'config.json', 'model.safetensors'], path
info = scan_cache_dir(ours)
assert not info.warnings, info.warnings
(repo,) = info.repos
(revision,) = repo.revisions
assert (repo.repo_id, revision.refs, len(revision.files)) == (model, {'main'}, 3), info
modified = os.stat(path + '/model.safetensors').st_mtime_ns
assert snapshot_download(model, cache_dir=ours, ignore_patterns='*.py') == path
assert os.stat(path + '/model.safetensors').st_mtime_ns == modified
snapshot_download(model, cache_dir=theirs, ignore_patterns='*.py')
";
    let Some(python) = std::env::var_os("R1SEG_PYTHON") else {
        eprintln!("skipped: R1SEG_PYTHON is not set");
        return;
    };
    let server = Server::start();
    let (ours, hub) = hub(&server);
    let theirs = tempfile::tempdir().unwrap();
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", server.port());
    let output = std::process::Command::new(python)
        .args(["-c", SCRIPT, MODEL])
        .args([ours.path(), theirs.path()])
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", theirs.path().join("home"))
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_XET", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let before = server.connections();
    let other = Hub::new(config(&server, theirs.path()));
    let found = other.resolve(&id(MODEL)).unwrap();
    assert_eq!((found.commit, found.files), (snapshot.commit, snapshot.files));
    let found = other.resolve(&id(MODEL)).unwrap();
    let checks = other.verify(&found, &Cancel::default(), &mut |_| {}).unwrap();
    let intact = checks.iter().filter(|c| matches!(c.state, r1seg_hub::FileState::Intact(_)));
    assert_eq!(intact.count(), 3);
    assert_eq!(server.connections(), before);

    let of_model = |folder: &Path| -> Vec<String> {
        let is_shared = |file: &String| !file.contains(".r1seg/") && file.contains(FOLDER);
        all_files(folder).into_iter().filter(is_shared).collect()
    };
    assert_eq!(of_model(ours.path()), of_model(theirs.path()));
}
