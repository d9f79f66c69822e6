use tempfile::TempDir;

use super::*;

fn model(id: &str) -> (ModelName, CheckpointSource) {
    (ModelName { id: id.to_string(), revision: None }, CheckpointSource::demo())
}

fn file(folder: &TempDir) -> AnswerFile {
    let (name, source) = model("demo");
    AnswerFile::new(folder.path(), &name, &source)
}

fn answers(file: &AnswerFile) -> Vec<(Vec<u32>, u32)> {
    file.read().collect()
}

#[test]
fn an_answer_is_kept_once_it_was_given_twice_and_is_counted_up_to_nine() {
    let desk = tempfile::tempdir().unwrap();
    let file = file(&desk);
    file.add(&[5, 6, 7]);
    assert!(answers(&file).is_empty());
    for times in [2, 3, 4, 5, 6, 7, 8, 9, 9] {
        file.add(&[5, 6, 7]);
        assert_eq!(answers(&file), [(vec![5, 6, 7], times)]);
    }
    file.add(&[1, 2]);
    file.add(&[1, 2]);
    assert_eq!(answers(&file), [(vec![1, 2], 2), (vec![5, 6, 7], 9)]);
    // Another handle, as of another process, finds the same.
    assert_eq!(answers(&super::tests::file(&desk)).len(), 2);
    let left: Vec<_> = fs::read_dir(desk.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn nothing_can_be_read_of_what_was_given_once_or_is_long() {
    let desk = tempfile::tempdir().unwrap();
    let file = file(&desk);
    let (secret, long) = ([40_001, 40_002, 40_003], [40_004; MAX_TOKENS + 1]);
    file.add(&secret);
    for _ in 0..3 {
        file.add(&long);
    }
    let text = fs::read_to_string(&file.path).unwrap();
    assert!(!text.contains("4000"), "{text}");
    let written: Written = serde_json::from_str(&text).unwrap();
    assert_eq!((written.answers.len(), written.once.len()), (0, 1));
    // Its beginning has no hash of its own, by which one could find it word for word.
    for len in 1..secret.len() {
        assert!(!written.once.contains(&file.hash(&secret[..len])));
    }
}

#[test]
fn the_order_of_answers_is_that_of_their_ids() {
    let both = [[3, 4], [1, 9]].map(|first| {
        let desk = tempfile::tempdir().unwrap();
        let file = file(&desk);
        let second = if first == [3, 4] { [1, 9] } else { [3, 4] };
        for ids in [first, second, second, first] {
            file.add(&ids);
        }
        fs::read_to_string(&file.path).unwrap()
    });
    assert_eq!(both[0], both[1]);
}

#[test]
fn damaged_files_and_those_of_other_models_count_as_empty_and_are_replaced() {
    let desk = tempfile::tempdir().unwrap();
    let ours = file(&desk);
    let (name, source) = model("other");
    let other = AnswerFile::new(desk.path(), &name, &source);
    assert_ne!(ours.path, other.path);
    for _ in 0..2 {
        other.add(&[1, 2]);
    }
    let foreign = fs::read(&other.path).unwrap();
    let large = vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1];
    let wrong = br#"{"format":"r1seg answers 1","model":1,"answers":7}"#;
    for damage in [&b""[..], b"{", b"\xff\xfe", b"[1]", wrong, &foreign, &large] {
        fs::write(&ours.path, damage).unwrap();
        assert!(answers(&ours).is_empty());
        ours.add(&[8, 9]);
        ours.add(&[8, 9]);
        assert_eq!(answers(&ours), [(vec![8, 9], 2)]);
    }
}

#[test]
fn a_file_of_another_version_is_left_as_it_is() {
    let desk = tempfile::tempdir().unwrap();
    let file = file(&desk);
    let later = r#"{"format":"r1seg answers 2","forms":[]}"#;
    fs::write(&file.path, later).unwrap();
    file.add(&[8, 9]);
    file.add(&[8, 9]);
    assert!(answers(&file).is_empty());
    assert_eq!(fs::read_to_string(&file.path).unwrap(), later);
}

#[test]
fn a_place_that_cannot_be_written_is_left_alone() {
    let desk = tempfile::tempdir().unwrap();
    let taken = desk.path().join("taken");
    fs::write(&taken, "a file, not a folder").unwrap();
    let (name, source) = model("demo");
    let file = AnswerFile::new(&taken, &name, &source);
    file.add(&[1, 2]);
    file.add(&[1, 2]);
    assert!(answers(&file).is_empty());
}

#[test]
fn files_are_forgotten_by_the_name_of_their_model_and_others_stay() {
    let desk = tempfile::tempdir().unwrap();
    for id in ["org/a", "org/a-b", ".hidden"] {
        let (name, source) = model(id);
        AnswerFile::new(desk.path(), &name, &source).add(&[1, 2]);
    }
    for other in ["notes.json", "org-a-0123456789abcdef.txt", "0123456789abcdef.json"] {
        fs::write(desk.path().join(other), "mine").unwrap();
    }
    let (name, source) = model("org/a");
    let file = AnswerFile::new(desk.path(), &name, &source);
    let prefix = part_prefix(file.path.file_name().unwrap());
    drop(part_file(desk.path(), &prefix).unwrap().keep().unwrap());
    let left = || fs::read_dir(desk.path()).unwrap().count();
    assert_eq!(left(), 7);
    assert_eq!((forget(desk.path(), Some("org/a")).unwrap(), left()), (1, 5));
    // Of a writer that was killed after that.
    drop(part_file(desk.path(), &prefix).unwrap().keep().unwrap());
    assert_eq!((forget(desk.path(), Some("org/a")).unwrap(), left()), (0, 5));
    assert_eq!((forget(desk.path(), None).unwrap(), left()), (2, 3));
    assert_eq!(forget(&desk.path().join("absent"), None).unwrap(), 0);
    assert!(forget(&desk.path().join("notes.json"), None).is_err());
}

#[test]
fn the_file_stays_small_and_keeps_what_was_given_most() {
    let desk = tempfile::tempdir().unwrap();
    let file = file(&desk);
    let mut content = Content::default();
    let mut add = |ids: &[u32]| content.add(ids, file.hash(ids));
    for _ in 0..4 {
        add(&[7, 7]);
    }
    for i in 0..2 * MAX_ANSWERS as u32 {
        add(&[1_000_000 + i; MAX_TOKENS]);
        add(&[1_000_000 + i; MAX_TOKENS]);
    }
    for i in 0..2 * MAX_ONCE as u32 + 1 {
        add(&[i, 1]);
    }
    assert_eq!(content.answers.len(), MAX_ANSWERS);
    assert_eq!(content.answers[&vec![7, 7]], 4);
    assert_eq!(content.once.len(), 1);
    content.once = (0..MAX_ONCE as u32).map(|i| u32::MAX - i).collect();
    file.write(content).unwrap();
    let bytes = fs::metadata(&file.path).unwrap().len();
    assert!(bytes < MAX_BYTES / 2, "{bytes}");
    assert_eq!(answers(&file).len(), MAX_ANSWERS);
}
