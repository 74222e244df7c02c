//! [`ScanTable`]: what a finding of the scanner leads to, by stage, origin, hop, class and severity.
//!
//! The first row that covers a finding decides. One that no row covers is blocked: a class or severity that the table
//! does not know is not one to let pass.

use std::collections::BTreeSet;

use serde::Deserialize;
use sigil_types::{Action, Hop, Name, Origin, Stage};

/// The severities, weakest first.
const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// A compiled `scan.toml`.
#[derive(Debug, Clone)]
pub(crate) struct ScanTable {
    rows: Vec<Row>,
}

/// One row. Absent sets were turned into full ones.
#[derive(Debug, Clone)]
struct Row {
    stages: BTreeSet<Stage>,
    origins: BTreeSet<Origin>,
    hops: BTreeSet<Hop>,
    classes: BTreeSet<Name>,
    severities: BTreeSet<usize>,
    action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default)]
    row: Vec<RowForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowForm {
    stage: Option<BTreeSet<Stage>>,
    origin: Option<BTreeSet<Origin>>,
    hop: Option<BTreeSet<Hop>>,
    class: BTreeSet<Name>,
    severity: Option<BTreeSet<String>>,
    action: Action,
}

impl ScanTable {
    /// Reads a `scan.toml`, and checks that a graver finding never leads to a weaker action.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form: Form = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let rows = form.row.into_iter().enumerate().map(|(at, row)| Row::new(at + 1, row));
        let table = Self { rows: rows.collect::<Result<_, _>>()? };
        table.check_order()?;
        Ok(table)
    }

    /// What a finding leads to.
    pub(crate) fn action(&self, stage: Stage, origin: Origin, hop: Hop, class: &str, severity: &str) -> Action {
        let Some(severity) = SEVERITIES.iter().position(|known| *known == severity) else { return Action::Block };
        self.lookup(stage, origin, hop, class, severity)
    }

    fn lookup(&self, stage: Stage, origin: Origin, hop: Hop, class: &str, severity: usize) -> Action {
        let deciding = self.rows.iter().find(|row| {
            row.stages.contains(&stage)
                && row.origins.contains(&origin)
                && row.hops.contains(&hop)
                && row.severities.contains(&severity)
                && row.classes.iter().any(|known| known.as_str() == class)
        });
        deciding.map_or(Action::Block, |row| row.action)
    }

    fn check_order(&self) -> Result<(), String> {
        let classes: BTreeSet<&Name> = self.rows.iter().flat_map(|row| &row.classes).collect();
        for stage in Stage::ALL {
            for origin in Origin::ALL {
                for hop in Hop::ALL {
                    for class in &classes {
                        let actions = (0..SEVERITIES.len())
                            .map(|severity| self.lookup(*stage, *origin, *hop, class.as_str(), severity));
                        if !actions.is_sorted() {
                            return Err(format!(
                                "for stage {stage}, origin {origin}, hop {hop}, class {class} a graver finding would \
                                 lead to a weaker action"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn new(number: usize, form: RowForm) -> Result<Self, String> {
        fn all<T: Copy + Ord>(given: Option<BTreeSet<T>>, all: &[T]) -> BTreeSet<T> {
            given.unwrap_or_else(|| all.iter().copied().collect())
        }
        let severities = match form.severity {
            None => (0..SEVERITIES.len()).collect(),
            Some(words) => words
                .iter()
                .map(|word| {
                    SEVERITIES.iter().position(|known| known == word).ok_or_else(|| {
                        format!("row {number}: `{word}` is not a severity; they are {}", SEVERITIES.join(", "))
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        let row = Self {
            stages: all(form.stage, Stage::ALL),
            origins: all(form.origin, Origin::ALL),
            hops: all(form.hop, Hop::ALL),
            classes: form.class,
            severities,
            action: form.action,
        };
        let never = row.stages.is_empty()
            || row.origins.is_empty()
            || row.hops.is_empty()
            || row.classes.is_empty()
            || row.severities.is_empty();
        if never { Err(format!("row {number}: an empty list covers nothing")) } else { Ok(row) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(table: &ScanTable, class: &str, severity: &str) -> Action {
        table.action(Stage::Input, Origin::World, Hop::ToProvider, class, severity)
    }

    #[test]
    fn the_first_row_decides_and_none_blocks() {
        let table = ScanTable::parse(
            r#"
            [[row]]
            stage = ["input"]
            class = ["injection"]
            severity = ["low", "medium"]
            action = "flag"
            [[row]]
            class = ["injection", "hidden"]
            action = "redact"
            "#,
        )
        .expect("valid");
        assert_eq!(act(&table, "injection", "medium"), Action::Flag);
        assert_eq!(act(&table, "injection", "high"), Action::Redact);
        assert_eq!(act(&table, "hidden", "low"), Action::Redact);
        assert_eq!(act(&table, "unheard-of", "low"), Action::Block);
        assert_eq!(act(&table, "injection", "apocalyptic"), Action::Block);
        let empty = ScanTable::parse("").expect("valid");
        assert_eq!(act(&empty, "injection", "low"), Action::Block);
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        let cases = [
            ("[[row]]\nclass = [\"a\"]\nseverity = [\"huge\"]\naction = \"flag\"", "row 1"),
            ("[[row]]\nclass = []\naction = \"flag\"", "row 1"),
            ("[[row]]\naction = \"flag\"", "class"),
            ("[[row]]\nclass = [\"a\"]\naction = \"pass\"", "pass"),
            ("[[rows]]\nclass = [\"a\"]\naction = \"flag\"", "rows"),
            (
                "[[row]]\nclass = [\"a\"]\nseverity = [\"low\"]\naction = \"block\"\n[[row]]\nclass = [\"a\"]\naction = \"flag\"",
                "weaker",
            ),
        ];
        for (text, word) in cases {
            let error = ScanTable::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
