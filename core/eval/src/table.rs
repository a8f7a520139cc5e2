//! A table of figures: a row per model, a column per kind of figure, every cell with its interval and number of
//! measurements. As plain text, Markdown or JSON.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{Figure, Interval};

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name for programs, as in `win_rate`.
    pub key: String,
    /// Name for people, as in "win rate against seed".
    pub heading: String,
    /// Unit of the shown numbers, as in `%` or `characters`; empty for a bare number.
    pub unit: String,
    /// What a value is multiplied with to be shown: 100 for a share shown in per cent.
    pub scale: f64,
    /// Digits shown after the point.
    pub digits: usize,
}

/// A model's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub name: String,
    /// A figure per column; `None` where it cannot be had.
    pub cells: Vec<Option<Figure>>,
    /// The same minus the base row's, measured on the same prompts; `None` in the base row and where there is none.
    pub changes: Vec<Option<Figure>>,
}

/// What the intervals of a table are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intervals {
    /// Bootstrap over the prompts of one run.
    #[default]
    Prompts,
    /// Student's t over runs with different seeds; a figure's `n` counts seeds.
    Seeds,
}

/// Figures of several models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What it shows, in a line.
    pub title: String,
    /// Share of draws inside each interval, from 0 to 1.
    pub level: f64,
    /// The columns.
    pub columns: Vec<Column>,
    /// The models, in the order in which they were made.
    pub rows: Vec<Row>,
    /// Place of the row that the others are compared with.
    pub base: usize,
    /// What the intervals are over.
    #[serde(default)]
    pub intervals: Intervals,
    /// What a reader must know to read it, a sentence each.
    pub notes: Vec<String>,
}

impl Column {
    /// A number as shown, without its unit.
    pub fn show(&self, value: f64) -> String {
        let text = format!("{:.*}", self.digits, value * self.scale);
        // A negative number that is rounded to zero is zero.
        if text.starts_with('-') && text.chars().all(|letter| "-0.".contains(letter)) {
            text[1..].to_string()
        } else {
            text
        }
    }

    /// A number with its sign.
    pub fn show_signed(&self, value: f64) -> String {
        let text = self.show(value);
        if text.starts_with('-') || text.chars().all(|letter| "0.".contains(letter)) {
            text
        } else {
            format!("+{text}")
        }
    }

    /// Both bounds, as in `61.0 to 74.2`.
    pub fn show_interval(&self, interval: &Interval) -> String {
        format!("{} to {}", self.show(interval.low), self.show(interval.high))
    }
}

/// Figures in the rows of a table, and how they are shown.
struct Shown<'t> {
    rows: Vec<(&'t str, &'t [Option<Figure>])>,
    signed: bool,
}

impl Shown<'_> {
    /// The number of measurements, if it is the same in every row that has one.
    fn common_n(&self, place: usize) -> Option<usize> {
        let mut counts =
            self.rows.iter().filter_map(|(_, figures)| figures.get(place)?.as_ref()).map(|figure| figure.n);
        let first = counts.next()?;
        counts.all(|n| n == first).then_some(first)
    }

    fn value(&self, column: &Column, value: f64) -> String {
        if self.signed { column.show_signed(value) } else { column.show(value) }
    }
}

impl Table {
    /// Place of a column, by its key.
    pub fn column(&self, key: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.key == key)
    }

    /// Aligned plain text: under each value its interval, and its `n` where the rows differ in it.
    pub fn to_text(&self) -> String {
        let rows = self.rows.iter().map(|row| (row.name.as_str(), row.cells.as_slice())).collect();
        self.aligned(&self.title, &Shown { rows, signed: false })
    }

    /// The changes from the base row in the same form, with signs and without that row. Empty where there is no other.
    pub fn changes_to_text(&self, title: &str) -> String {
        let others = self.rows.iter().enumerate().filter(|(place, _)| *place != self.base);
        let rows: Vec<_> = others.map(|(_, row)| (row.name.as_str(), row.changes.as_slice())).collect();
        if rows.is_empty() { String::new() } else { self.aligned(title, &Shown { rows, signed: true }) }
    }

    fn aligned(&self, title: &str, shown: &Shown<'_>) -> String {
        let mut grid: Vec<Vec<Vec<String>>> = Vec::new();
        let mut heading = vec![vec!["model".to_string()]];
        for (place, column) in self.columns.iter().enumerate() {
            let mut lines = wrap(&column.heading, 14);
            if !column.unit.is_empty() {
                lines.push(column.unit.clone());
            }
            lines.extend(shown.common_n(place).map(|n| format!("n = {n}")));
            heading.push(lines);
        }
        grid.push(heading);
        for (name, figures) in &shown.rows {
            let cells = self.columns.iter().enumerate().map(|(place, column)| {
                let Some(figure) = figures.get(place).and_then(Option::as_ref) else {
                    return vec!["–".to_string()];
                };
                let bounds = |interval: &Interval| {
                    format!("{} to {}", shown.value(column, interval.low), shown.value(column, interval.high))
                };
                let mut lines = vec![shown.value(column, figure.value)];
                lines.extend(figure.interval.as_ref().map(bounds));
                if shown.common_n(place).is_none() {
                    lines.push(format!("n = {}", figure.n));
                }
                lines
            });
            grid.push([vec![(*name).to_string()]].into_iter().chain(cells).collect());
        }
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|place| grid.iter().flat_map(|row| &row[place]).map(|line| width(line)).max().unwrap_or(0))
            .collect();
        let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * self.columns.len());
        let mut text = format!("{title}\n{rule}\n");
        for (number, row) in grid.iter().enumerate() {
            for line in 0..row.iter().map(Vec::len).max().unwrap_or(0) {
                let cells = row.iter().zip(&widths).enumerate().map(|(place, (cell, wide))| {
                    let part = cell.get(line).map_or("", String::as_str);
                    let blank = " ".repeat(wide - width(part));
                    if place == 0 { format!("{part}{blank}") } else { format!("{blank}{part}") }
                });
                text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
                text.push('\n');
            }
            if number == 0 {
                let _ = writeln!(text, "{rule}");
            }
        }
        let _ = writeln!(text, "{rule}");
        // Changes are read as the table beside them is.
        if !shown.signed {
            for note in self.all_notes() {
                let _ = writeln!(text, "{note}");
            }
        }
        text
    }

    /// A Markdown table: value, interval and `n` in each cell.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("**{}**\n\n| model |", self.title);
        for column in &self.columns {
            let unit = if column.unit.is_empty() { String::new() } else { format!(" ({})", column.unit) };
            let _ = write!(text, " {}{unit} |", escape(&column.heading));
        }
        let _ = writeln!(text, "\n|---|{}", "--:|".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = write!(text, "| {} |", escape(&row.name));
            for (place, column) in self.columns.iter().enumerate() {
                match row.cells.get(place).and_then(Option::as_ref) {
                    None => text.push_str(" – |"),
                    Some(figure) => {
                        let interval =
                            figure.interval.as_ref().map(|interval| format!(" [{}]", column.show_interval(interval)));
                        let _ = write!(
                            text,
                            " {}{}, n {} |",
                            column.show(figure.value),
                            interval.unwrap_or_default(),
                            figure.n
                        );
                    }
                }
            }
            text.push('\n');
        }
        text.push('\n');
        for note in self.all_notes() {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// The table as JSON, with unrounded numbers.
    ///
    /// # Errors
    /// None that a table of finite numbers gives.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// How to read the intervals, then the table's own notes.
    fn all_notes(&self) -> impl Iterator<Item = String> {
        let level = self.level * 100.0;
        let intervals = match self.intervals {
            Intervals::Prompts => format!(
                "Intervals: {level} % bootstrap over prompts. They cover the choice of prompts, not another training run with \
                 another seed."
            ),
            Intervals::Seeds => format!(
                "Intervals: {level} % Student's t over seeds; n counts seeds. They cover everything that a run's seed decides, not \
                 another seed model."
            ),
        };
        [intervals].into_iter().chain(self.notes.iter().cloned())
    }
}

/// Letters of a line. Every letter in a table is one column wide.
fn width(line: &str) -> usize {
    line.chars().count()
}

/// Breaks a heading into lines of about `letters`, at blanks.
fn wrap(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Keeps a bar from ending a Markdown cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
