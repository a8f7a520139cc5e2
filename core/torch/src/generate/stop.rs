//! Stop texts.
//!
//! Looking for a text after every token would mean to decode after every token. A stop text can only become complete
//! with a token that brings its last character, so only then the answer is decoded and searched.

use std::{collections::BTreeMap, ops::Range};

use crate::{Result, TextTokenizer};

/// What ends a line.
pub(crate) const LINE_BREAK: &str = "\n";

/// The stop texts of a call and the tokens that may complete them.
#[derive(Debug, Default)]
pub(crate) struct StopTexts {
    texts: BTreeMap<String, Vec<bool>>,
}

impl StopTexts {
    /// Finds the tokens for each of `texts`; empty texts stop nothing.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = &'a str>, tokenizer: &TextTokenizer, vocabulary: usize) -> Self {
        let mut found: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        let mut pieces: Option<Vec<String>> = None;
        for text in texts {
            let Some(last) = text.chars().next_back() else { continue };
            if found.contains_key(text) {
                continue;
            }
            let pieces =
                pieces.get_or_insert_with(|| (0..vocabulary as i64).map(|id| tokenizer.token_text(id)).collect());
            // A blank may come from between two tokens; � is part of a character.
            let anywhere = last == ' ';
            let completes = |piece: &String| anywhere || piece.contains(last) || piece.contains('\u{FFFD}');
            found.insert(text.to_owned(), pieces.iter().map(completes).collect());
        }
        StopTexts { texts: found }
    }

    /// Whether `token` may end a line. Lines are among the stop texts when [`LINE_BREAK`] was.
    pub(crate) fn may_end_line(&self, token: u32) -> bool {
        self.texts.get(LINE_BREAK).is_none_or(|tokens| tokens.get(token as usize).copied().unwrap_or(true))
    }

    /// Whether `token` may complete one of `stop`.
    pub(crate) fn may_end(&self, stop: &[String], token: u32) -> bool {
        stop.iter().any(|s| self.texts.get(s).is_some_and(|tokens| tokens.get(token as usize).copied().unwrap_or(true)))
    }
}

/// `text` up to the first of `stop` in it; `None` when there is none.
pub(crate) fn cut<'a>(text: &'a str, stop: &[String]) -> Option<&'a str> {
    stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min().map(|at| &text[..at])
}

/// Where the last line that a line break ends lies in `text`, blank lines aside and without the break; `None` when there
/// is none.
pub(crate) fn finished_line(text: &str) -> Option<Range<usize>> {
    let finished = text[..text.rfind('\n')?].trim_end();
    let start = finished.rfind('\n').map_or(0, |at| at + 1);
    if start == finished.len() { None } else { Some(start..finished.len()) }
}

/// How many of the tokens the first `length` bytes of their text take.
pub(crate) fn kept_tokens(tokenizer: &TextTokenizer, tokens: &[u32], length: usize) -> Result<usize> {
    let mut count = tokens.len();
    while count > 0 && text(tokenizer, &tokens[..count - 1])?.len() >= length {
        count -= 1;
    }
    Ok(count)
}

/// Tokens as text, special ones left out.
pub(crate) fn text(tokenizer: &TextTokenizer, tokens: &[u32]) -> Result<String> {
    let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
    tokenizer.decode(&ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_text_counts() {
        let stop = ["\n\n".to_owned(), "END".to_owned(), String::new()];
        assert_eq!(cut("a END b\n\n", &stop), Some("a "));
        assert_eq!(cut("a\n\nEND", &stop), Some("a"));
        assert_eq!(cut("nothing", &stop), None);
    }

    #[test]
    fn a_line_is_finished_by_its_break() {
        let line = |text: &'static str| finished_line(text).map(|line| &text[line]);
        assert_eq!(line("Score: 4"), None);
        assert_eq!(line("good\nScore: 4\n"), Some("Score: 4"));
        assert_eq!(line("good\nScore: 4 \r\n\nand"), Some("Score: 4"));
        assert_eq!(line("\n\n"), None);
    }
}
