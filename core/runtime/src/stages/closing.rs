//! Where a judge's and a meta-judge's answer is complete: after the line that gives the score or names the winner.
//!
//! The rubric is asked about the finished line alone. A line counts when it begins as the closing line of its own score
//! does, letters and digits compared, so that a score mentioned in a sentence does not cut the answer short. A rubric
//! that does not say how its closing line looks never ends an answer early.

use metareward_api::{EngineError, Finish, Generation, MetaJudge, PluginError, Rubric};

use crate::plugins::Bound;

/// Whether a line, without its break, completes the answer that it stands in.
type CompleteLine<'a> = Box<dyn Fn(&str) -> Result<bool, EngineError> + Sync + 'a>;

/// Which line completes an answer.
pub(crate) struct Closing<'a> {
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
        Self { complete: Box::new(complete) }
    }

    /// Whether an answer that was generated before, perhaps for a plugin that read its lines otherwise, ends where it
    /// would end now. One that a stop text ended in another line may not be known again; it is then generated once more.
    pub fn ends(&self, answer: &Generation) -> Result<bool, EngineError> {
        let mut lines: Vec<&str> = answer.text.split('\n').collect();
        let last = lines.pop().unwrap_or_default();
        for line in lines {
            if (self.complete)(line)? {
                return Ok(false);
            }
        }
        // Without a line break after it the last line is asked about only where it may be what ended the answer.
        Ok(answer.finish != Finish::Stop || (self.complete)(last)?)
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
    use metareward_api::{Finish, Generation};

    use super::{Closing, begins};

    #[test]
    fn an_earlier_answer_counts_where_it_would_end_the_same() {
        let closing = Closing { complete: Box::new(|line| Ok(begins(line, "Score: 3"))) };
        let ends = |text: &str, finish| closing.ends(&Generation { text: text.into(), tokens: 3, finish }).unwrap();
        assert!(ends("Good.\nScore: 3", Finish::Stop));
        assert!(ends("Good.\nScore: 3", Finish::EndOfTurn), "no break came after it");
        assert!(ends("Good.\nPoints: 3\n", Finish::EndOfTurn));
        assert!(!ends("Good.\nPoints: 3", Finish::Stop), "now it would go on");
        assert!(!ends("Score: 3\nGood.", Finish::EndOfTurn), "now it would have ended before");
        assert!(!ends("Score: 3\n", Finish::Length));
    }

    #[test]
    fn a_mention_of_a_score_completes_nothing() {
        assert!(begins("**Score: 4**", "Score: 4"));
        assert!(begins("- score: 4 / 5", "Score: 4"));
        assert!(!begins("I would give a score: 4", "Score: 4"));
        assert!(!begins("Score: 4", ""));
    }
}
