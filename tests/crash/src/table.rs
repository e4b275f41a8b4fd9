//! What came out of it, as rows of a Markdown table with what was wrong below it.

use std::fmt::Write;

/// One kind of thing that was tried.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What.
    pub what: String,
    /// How many different disturbances there are.
    pub points: usize,
    /// How often it was tried.
    pub runs: usize,
    /// In words, what came of it beside what must hold.
    pub remark: String,
    /// Each time that something did not hold: what, and when.
    pub violations: Vec<String>,
}

impl Row {
    /// A row without points.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }
}

/// The table.
pub fn render(title: &str, rows: &[Row]) -> String {
    let mut text = format!("\n### {title}\n\n| what | points | runs | violations | |\n");
    text += "| --- | ---: | ---: | ---: | --- |\n";
    for row in rows {
        let Row { what, points, runs, remark, violations } = row;
        let _ = writeln!(text, "| {what} | {points} | {runs} | {} | {remark} |", violations.len());
    }
    let (points, runs): (usize, usize) =
        rows.iter().fold((0, 0), |sum, row| (sum.0 + row.points, sum.1 + row.runs));
    let violations: usize = rows.iter().map(|row| row.violations.len()).sum();
    let _ = writeln!(text, "| **all** | {points} | {runs} | {violations} | |");
    for row in rows.iter().filter(|row| !row.violations.is_empty()) {
        let _ = writeln!(text, "\n{}:", row.what);
        for violation in row.violations.iter().take(12) {
            let _ = writeln!(text, "- {violation}");
        }
        if row.violations.len() > 12 {
            let _ = writeln!(text, "- and {} more", row.violations.len() - 12);
        }
    }
    text
}

/// Whether everything held.
pub fn is_well(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.violations.is_empty())
}
