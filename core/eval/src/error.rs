//! What can go wrong when records of an evaluation are read, or a figure is asked for that they do not give.

use std::path::Path;

/// Errors of this crate. A place is a file and a record in it, as in `answers.json, record 12`.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    File {
        /// The file, as given.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file or record does not have the expected form.
    #[error("{place}: {message}")]
    Form {
        /// Where.
        place: String,
        /// What was expected instead.
        message: String,
    },
    /// There is nothing to measure.
    #[error("{place}: no record; {expected}")]
    Empty {
        /// Where.
        place: String,
        /// What should be there.
        expected: &'static str,
    },
    /// A preference is missing (absent, null or not a number).
    #[error(
        "{place}: no preference for the instruction `{instruction}`; annotate it again, or allow missing preferences to leave it out"
    )]
    NoPreference {
        /// Where.
        place: String,
        /// Beginning of the instruction.
        instruction: String,
    },
    /// A preference off the scale.
    #[error(
        "{place}: the preference is {value}, but must lie between 1 (the baseline wins) and 2 (the model wins), or be 0 (a draw)"
    )]
    OffScale {
        /// Where.
        place: String,
        /// The preference.
        value: f64,
    },
    /// An output without text.
    #[error(
        "{place}: {whose} output is empty; generate it again, or allow empty outputs to count them as they are judged"
    )]
    EmptyOutput {
        /// Where.
        place: String,
        /// Whose it is, as in `the model's`.
        whose: &'static str,
    },
    /// Two files that must hold the same prompts in the same order do not.
    #[error("{place}: the instruction is `{found}` where {other} has `{expected}`; give the records in the same order")]
    Misaligned {
        /// Where.
        place: String,
        /// The file that it is compared with.
        other: String,
        /// Beginning of the instruction found.
        found: String,
        /// Beginning of the instruction expected.
        expected: String,
    },
    /// Two files that must hold the same prompts hold different numbers of them.
    #[error("{place} has {found} instructions, but {other} has {expected}: they do not belong together")]
    Count {
        /// The one file.
        place: String,
        /// Its number of instructions.
        found: usize,
        /// The other file.
        other: String,
        /// Its number.
        expected: usize,
    },
    /// A name is not in a table.
    #[error("`{name}` is not in {table}{}", hint(.nearest))]
    Unknown {
        /// The name.
        name: String,
        /// The table.
        table: String,
        /// A name that it may have been meant for.
        nearest: Option<String>,
    },
    /// A file mixes what must be kept apart.
    #[error("{place}: {what} is `{found}`, but `{expected}` before; give one file per {what}")]
    Mixed {
        /// Where.
        place: String,
        /// What must be one.
        what: &'static str,
        /// The new one.
        found: String,
        /// The earlier one.
        expected: String,
    },
    /// A model cannot be fitted to the data.
    #[error("no length-controlled figure: {0}")]
    Fit(#[from] crate::logistic::FitError),
    /// An option that makes no sense.
    #[error("{option}: {message}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<String, EvalError> {
    std::fs::read_to_string(path).map_err(|source| EvalError::File { file: path.display().to_string(), source })
}

/// A record's place.
pub(crate) fn record(file: &str, index: usize) -> String {
    format!("{file}, record {}", index + 1)
}

/// The beginning of a text, on one line, for a message.
pub(crate) fn beginning(text: &str) -> String {
    const LETTERS: usize = 60;
    let line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LETTERS).collect();
    if text.chars().nth(LETTERS).is_some() { format!("{}…", line.trim_end()) } else { line }
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
