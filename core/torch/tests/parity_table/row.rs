//! A row of the table: what was compared, with what, and how far apart the two were at most.

use std::fmt::Write as _;

/// What was compared with what.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    reference: String,
    unit: &'static str,
    limit: f64,
    cases: usize,
    largest: f64,
    at: String,
}

impl Row {
    /// A comparison without cases yet. `unit` says what the difference is a difference of.
    pub fn new(what: impl Into<String>, reference: impl Into<String>, unit: &'static str, limit: f64) -> Self {
        let (what, reference) = (what.into(), reference.into());
        Row { what, reference, unit, limit, cases: 0, largest: 0.0, at: String::new() }
    }

    /// Adds a case. A NaN is the largest difference of all.
    pub fn add(&mut self, at: &str, difference: f64) {
        self.cases += 1;
        let difference = difference.abs();
        if difference > self.largest || difference.is_nan() {
            (self.largest, self.at) = (difference, at.to_owned());
        }
    }

    /// Adds a case that is either equal or not; the difference counts the cases that are not.
    pub fn equal(&mut self, at: &str, equal: bool) {
        self.cases += 1;
        if !equal {
            self.largest += 1.0;
            self.at = at.to_owned();
        }
    }

    /// Whether there were cases, and none was over the limit.
    pub fn holds(&self) -> bool {
        self.cases > 0 && self.largest <= self.limit
    }
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| what | reference | cases | largest difference | limit | of | where |\n".to_owned();
    text.push_str("|---|---|---|---|---|---|---|\n");
    let number = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.2e}") };
    for row in rows {
        let mark = if row.holds() { "" } else { " **over**" };
        let (largest, limit) = (number(row.largest), number(row.limit));
        let Row { what, reference, cases, unit, at, .. } = row;
        writeln!(text, "| {what} | {reference} | {cases} | {largest}{mark} | {limit} | {unit} | {at} |").unwrap();
    }
    text
}
