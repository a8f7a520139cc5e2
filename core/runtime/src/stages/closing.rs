//! Where a judge's and a meta-judge's answer is complete: after the line that gives the score or names the winner.
//!
//! The rubric is asked about the finished line alone. A line counts when it begins as the closing line of its own score
//! does, letters and digits compared, so that a score mentioned in a sentence does not cut the answer short. A rubric
//! that does not say how its closing line looks never ends an answer early.

use metareward_api::{EngineError, MetaJudge, PluginError, Rubric};
use serde_json::{Value, json};

use crate::plugins::Bound;

/// Whether a line, without its break, completes the answer that it stands in.
type CompleteLine<'a> = Box<dyn Fn(&str) -> Result<bool, EngineError> + Sync + 'a>;

/// Whether a line completes an answer, and what that depends on.
pub(crate) struct Closing<'a> {
    pub identity: Value,
    pub complete: CompleteLine<'a>,
}

impl<'a> Closing<'a> {
    /// The line that gives a score.
    pub fn score(rubric: &'a Bound<dyn Rubric>) -> Self {
        Self::new(rubric, |line| {
            let read = rubric.plugin.parse(&[line])?;
            let Some(Ok(score)) = read.first() else { return Ok(None) };
            rubric.plugin.closing_line(*score)
        })
    }

    /// The line that names the winner.
    pub fn winner(judge: &'a Bound<dyn MetaJudge>) -> Self {
        Self::new(judge, |line| {
            let read = judge.plugin.parse(&[line])?;
            let Some(Ok(winner)) = read.first() else { return Ok(None) };
            judge.plugin.closing_line(*winner)
        })
    }

    /// `expected`: the closing line of what a line says, where it says something.
    fn new<P: ?Sized + Sync>(
        of: &'a Bound<P>,
        expected: impl Fn(&str) -> Result<Option<String>, PluginError> + Sync + 'a,
    ) -> Self {
        let complete = move |line: &str| match expected(line) {
            Ok(expected) => Ok(expected.is_some_and(|expected| begins(line, &expected))),
            Err(PluginError { message, .. }) => {
                Err(EngineError::Plugin { plugin: of.record.info.name.clone(), message })
            }
        };
        Self { identity: json!(["first closing line", of.identity()]), complete: Box::new(complete) }
    }
}

/// Whether the letters and digits of `line` begin with those of `closing`, whatever their case.
fn begins(line: &str, closing: &str) -> bool {
    let plain =
        |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    let closing = plain(closing);
    !closing.is_empty() && plain(line).starts_with(&closing)
}

#[cfg(test)]
mod tests {
    use super::begins;

    #[test]
    fn a_mention_of_a_score_completes_nothing() {
        assert!(begins("**Score: 4**", "Score: 4"));
        assert!(begins("- score: 4 / 5", "Score: 4"));
        assert!(!begins("I would give a score: 4", "Score: 4"));
        assert!(!begins("Score: 4", ""));
    }
}
