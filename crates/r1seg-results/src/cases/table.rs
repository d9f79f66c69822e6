//! Tables in CSV, whose columns are found by their names.

use super::{Cases, Fault};

/// The rows of a table.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<String>,
    rows: Vec<Result<(u64, csv::StringRecord), Fault>>,
}

/// A row, and where it is.
pub(super) struct Row<'a> {
    table: &'a Table,
    fields: &'a csv::StringRecord,
    line: u64,
}

impl Table {
    /// Reads a table with a line of names. `needed` are columns that it must have, whatever their case.
    pub(super) fn read(text: &str, needed: &[&str]) -> Result<Self, Fault> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let names = reader.headers().map_err(|e| Fault::new("", format!("not a table: {e}")))?;
        let names: Vec<String> = names.iter().map(|name| name.trim().to_lowercase()).collect();
        let missing: Vec<&str> = needed
            .iter()
            .filter(|needed| !names.contains(&needed.to_lowercase()))
            .copied()
            .collect();
        if !missing.is_empty() {
            let what = format!(
                "the columns {} are missing; there are {}",
                missing.join(", "),
                names.join(", ")
            );
            return Err(Fault::new("", what));
        }
        let width = names.len();
        let rows = reader.records().map(|record| {
            let place = |line: u64| format!("line {line}");
            let record = record.map_err(|e| {
                let line = e.position().map_or(0, csv::Position::line);
                Fault::new(place(line), "not a row of a table in UTF-8")
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            match record.len() == width {
                true => Ok((line, record)),
                false => {
                    let what = format!("{} fields, {width} are needed", record.len());
                    Err(Fault::new(place(line), what))
                }
            }
        });
        Ok(Self { rows: rows.collect(), names })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What `case` makes of each row.
    pub(super) fn cases<T>(&self, mut case: impl FnMut(&Row<'_>) -> Result<T, Fault>) -> Cases<T> {
        let mut cases = Cases::default();
        for row in &self.rows {
            cases.add(match row {
                Ok((line, fields)) => case(&Row { table: self, fields, line: *line }),
                Err(fault) => Err(fault.clone()),
            });
        }
        cases
    }
}

impl Row<'_> {
    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault::new(format!("line {}", self.line), what)
    }

    /// A field without spaces around it; empty where the table has no such column.
    pub(super) fn get(&self, name: &str) -> &str {
        let name = name.to_lowercase();
        let column = self.table.names.iter().position(|own| *own == name);
        column.and_then(|column| self.fields.get(column)).unwrap_or_default().trim()
    }

    /// A field that must not be empty.
    pub(super) fn needed(&self, name: &str) -> Result<String, Fault> {
        match self.get(name) {
            "" => Err(self.fault(format!("`{name}` is empty"))),
            value => Ok(value.to_owned()),
        }
    }

    /// All fields but the first.
    pub(super) fn rest(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().skip(1).map(str::trim)
    }
}
