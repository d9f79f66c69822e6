use std::collections::{BTreeMap, BTreeSet};

use crate::{Result, assert_none, read, tracked_texts};

/// The ids that the name of a test begins with, as `d2` or `quirk 16`.
fn ids(name: &str) -> Vec<String> {
    /// `f32_..` speaks of a number, not of a row.
    const NUMBERS: [&str; 9] = ["f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16"];
    let mut parts = name.split('_');
    if let Some(number) = name.strip_prefix("quirk_").and_then(|rest| rest.split('_').next()) {
        return vec![format!("quirk {number}")];
    }
    let is_id = |part: &&str| {
        let digits = part.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or_default();
        matches!(digits.len(), 1 | 2)
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && !NUMBERS.contains(part)
    };
    std::iter::from_fn(|| parts.next().filter(is_id)).map(str::to_owned).collect()
}

/// The names of the tests of all sources, each with its file.
fn tests() -> Result<BTreeMap<String, String>> {
    let mut names = BTreeMap::new();
    for (path, text) in tracked_texts("rs")? {
        let tests = text.split("#[test]").skip(1);
        for name in tests.filter_map(|rest| rest.split_once("fn ")?.1.split_once('(')) {
            names.insert(name.0.to_owned(), path.clone());
        }
    }
    Ok(names)
}

/// The first cell of every row of the tables.
fn rows() -> Result<BTreeSet<String>> {
    let text = read("docs/faults.md")?;
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    Ok(cells.filter(|id| *id != "id").map(str::to_lowercase).collect())
}

#[test]
fn every_test_that_is_named_for_a_fault_has_its_row() -> Result<()> {
    let rows = rows()?;
    let mut violations = Vec::new();
    for (name, path) in tests()? {
        for id in ids(&name).into_iter().filter(|id| !rows.contains(id)) {
            violations.push(format!("{path}: {name}: no row {id}"));
        }
    }
    assert_none("docs/faults.md has a row for every fault that tests are named for", &violations);
    Ok(())
}

#[test]
fn every_fault_has_a_test_that_is_named_for_it() -> Result<()> {
    let held: BTreeSet<String> = tests()?.keys().flat_map(|name| ids(name)).collect();
    let violations: Vec<String> = rows()?.difference(&held).cloned().collect();
    assert_none("every row of docs/faults.md has a test", &violations);
    Ok(())
}

#[test]
fn ids_are_what_a_name_begins_with() {
    assert_eq!(ids("d2_missing_slice"), ["d2"]);
    assert_eq!(ids("t3_t4_values_out_of_range"), ["t3", "t4"]);
    assert_eq!(ids("quirk_16_points"), ["quirk 16"]);
    assert!(ids("f32_sums_of_d2_are_exact").is_empty());
    assert!(ids("bf16_weights").is_empty() && ids("d_2").is_empty());
}
