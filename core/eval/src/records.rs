//! Reads records from JSON: one array, or one object per line.

use serde::de::DeserializeOwned;

use crate::error::{EvalError, record};

/// All records of a text: a JSON array, or JSON lines (empty ones are skipped). `file` names it in errors.
///
/// # Errors
/// When the text is not JSON of the expected form, and when it holds no record.
pub(crate) fn records<T: DeserializeOwned>(
    file: &str,
    text: &str,
    expected: &'static str,
) -> Result<Vec<T>, EvalError> {
    let text = text.trim_start_matches('\u{feff}');
    let bare_nan = |error: &serde_json::Error, text: &str| {
        // Python writes NaN and Infinity bare, which JSON does not know.
        let names_nan = text.lines().nth(error.line().saturating_sub(1)).is_some_and(|line| line.contains("NaN"));
        if names_nan { " (NaN is not JSON: write null)" } else { "" }
    };
    let items: Vec<T> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| EvalError::Form {
            place: file.to_string(),
            message: format!("{error}{}", bare_nan(&error, text)),
        })?
    } else {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
        let items = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| EvalError::Form {
                place: record(file, index),
                message: format!("{error}{}", bare_nan(&error, line)),
            })
        });
        items.collect::<Result<_, _>>()?
    };
    if items.is_empty() {
        return Err(EvalError::Empty { place: file.to_string(), expected });
    }
    Ok(items)
}
