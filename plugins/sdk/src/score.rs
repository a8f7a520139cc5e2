//! Scores of a rubric: read from a judgment, and made into a reward.

use metareward_api::{PluginError, Scale, Unreadable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ClosingLine, Hit, Token};

/// How a reward is made of a response's valid scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Their mean, as in the paper.
    Mean,
    /// Their median; the mean of the two in the middle where their number is even.
    Median,
}

/// What is made of closing lines with different scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// The judgment is unreadable.
    Refuse,
    /// The last one counts.
    Last,
}

/// The score in `text`. Never guesses: what is not clearly a number on the scale is no score.
///
/// Lines that begin with the closing line's words come before mentions in running text. Of several, the last decides; where
/// an earlier one holds another number the judgment contradicts itself, and is refused unless `conflict` says
/// otherwise.
///
/// # Errors
/// Why there is no score.
pub fn read_score(closing: &ClosingLine, text: &str, scale: Scale, conflict: Conflict) -> Result<f64, Unreadable> {
    let mut hits = closing.hits(text);
    if hits.iter().any(|hit| hit.starts_line) {
        hits.retain(|hit| hit.starts_line);
    }
    let Some((last, earlier)) = hits.split_last() else { return Err(Unreadable::Missing) };
    let score = number(last, scale)?;
    let differs = |hit: &Hit| match number(hit, scale) {
        Ok(other) => other != score,
        Err(Unreadable::OffScale) => true,
        // Words there are no number that could contradict.
        Err(_) => false,
    };
    if conflict == Conflict::Refuse && earlier.iter().any(differs) {
        return Err(Unreadable::Contradiction);
    }
    Ok(score)
}

/// The number that follows the closing line's words.
fn number(hit: &Hit, scale: Scale) -> Result<f64, Unreadable> {
    // Brackets and quotes around the number mean nothing.
    let mut tokens = hit.value.iter().skip_while(|token| is_wrapping(token)).peekable();
    let negative = tokens.next_if(|token| matches!(token.text.as_str(), "-" | "−" | "–")).is_some();
    let value = tokens.next().and_then(decimal).ok_or(Unreadable::NotANumber)?;
    let rest: Vec<&Token> = tokens.filter(|token| !is_wrapping(token)).collect();
    let word = |index: usize| rest.get(index).map_or("", |token| token.text.as_str());
    // "4/5" and "4 out of 5" name the scale that the number is on.
    let of = match (word(0), word(1)) {
        ("/", _) => Some(1),
        (out, of) if out.eq_ignore_ascii_case("out") && of.eq_ignore_ascii_case("of") => Some(2),
        _ => None,
    };
    if let Some(at) = of {
        let end = rest.get(at).and_then(|token| decimal(token)).ok_or(Unreadable::NotANumber)?;
        if end != scale.max {
            return Err(Unreadable::OffScale);
        }
    } else if is_range(&rest) {
        return Err(Unreadable::NotANumber);
    }
    let score = if negative { -value } else { value };
    if !scale.contains(score) {
        return Err(Unreadable::OffScale);
    }
    // No −0 in records.
    Ok(score + 0.0)
}

/// "4-5", "4 to 5", "4 or 5", "4,5", "80 %": more than one number, or another kind of number.
fn is_range(rest: &[&Token]) -> bool {
    let Some(first) = rest.first() else { return false };
    let number_follows = rest.get(1).is_some_and(|token| decimal(token).is_some());
    match first.text.to_lowercase().as_str() {
        "%" => true,
        "-" | "–" | "—" | "−" | "~" | "," | "." | "+" | "to" | "or" | "and" | "&" => number_follows,
        "½" | "¼" | "¾" => true,
        other => other.starts_with(|c: char| c.is_ascii_digit()),
    }
}

fn is_wrapping(token: &Token) -> bool {
    matches!(token.text.as_str(), "[" | "]" | "(" | ")" | "<" | "{" | "}" | "\"" | "'" | "“" | "”" | "$" | "\\")
}

/// A number in plain decimal digits.
fn decimal(token: &Token) -> Option<f64> {
    if token.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') { token.text.parse().ok() } else { None }
}

impl Aggregate {
    /// The reward of each response from its valid scores: `None` where there are none.
    ///
    /// # Errors
    /// When a score is not finite.
    pub fn rewards(self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        let reward = |(item, scores): (usize, &Vec<f64>)| match scores.iter().find(|score| !score.is_finite()) {
            Some(score) => Err(PluginError::at(item, format!("score {score}"))),
            None => Ok(match self {
                Aggregate::Mean => mean(scores),
                Aggregate::Median => median(scores),
            }),
        };
        scores.iter().enumerate().map(reward).collect()
    }
}

/// The mean, kept between the least and the greatest score: rounding may leave it just outside.
fn mean(scores: &[f64]) -> Option<f64> {
    let least = scores.iter().copied().reduce(f64::min)?;
    let greatest = scores.iter().copied().reduce(f64::max)?;
    Some((scores.iter().sum::<f64>() / scores.len() as f64).clamp(least, greatest))
}

fn median(scores: &[f64]) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some((lower + (upper - lower) / 2.0).clamp(lower, upper))
}
