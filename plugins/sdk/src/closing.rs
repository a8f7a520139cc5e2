//! Closing lines: finds `Score: 4` or `**Winner: A**` in what a model wrote.
//!
//! Both sides, pattern and text, are read as words and punctuation, so that case, blanks and markdown emphasis make no
//! difference. What the value means is the plugin's business.

use std::ops::Range;

/// What is wrong with a closing-line pattern. Fits "option `score_line`: …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The placeholder does not occur exactly once.
    #[error("expected `{{{{{name}}}}}` exactly once, as in `{example}`")]
    Placeholder {
        /// The placeholder's name.
        name: String,
        /// A pattern that would do.
        example: String,
    },
    /// Nothing stands before the placeholder.
    #[error("expected a word before `{{{{{name}}}}}`, as in `{example}`")]
    NoWord {
        /// The placeholder's name.
        name: String,
        /// A pattern that would do.
        example: String,
    },
}

/// A word (letters and digits; a number keeps its decimal point) or one punctuation character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text as written.
    pub text: String,
    /// Whether it is a word.
    pub word: bool,
    /// Its place in the text, in bytes.
    pub span: Range<usize>,
}

impl Token {
    /// Whether both are the same word or sign, without regard to case.
    pub fn is(&self, other: &str) -> bool {
        self.text == other || self.text.to_lowercase() == other.to_lowercase()
    }
}

/// A place in a text where the pattern occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What follows the pattern on its line: up to what the pattern has after the placeholder, else to the end of the
    /// line or to the pattern's next occurrence on it.
    pub value: Vec<Token>,
    /// Whether the line begins with the pattern, list markers and headings aside.
    pub starts_line: bool,
    /// The place of pattern and value in the text, in bytes.
    pub span: Range<usize>,
    /// The place of the whole line, in bytes.
    pub line: Range<usize>,
}

/// A pattern such as `Score: {{score}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingLine {
    before: String,
    after: String,
    prefix: Vec<Token>,
    suffix: Vec<Token>,
}

impl ClosingLine {
    /// Parses a pattern that holds `{{name}}` once, with a word before it.
    ///
    /// # Errors
    /// When the placeholder is missing or repeated, or nothing stands before it.
    pub fn new(pattern: &str, name: &str) -> Result<Self, ClosingError> {
        let example = || {
            format!(
                "{}: {{{{{name}}}}}",
                name.chars().next().map_or('X', |c| c.to_ascii_uppercase()).to_string() + name.get(1..).unwrap_or("")
            )
        };
        let wrong = || ClosingError::Placeholder { name: name.to_owned(), example: example() };
        let (before, after) = pattern.split_once("{{").ok_or_else(wrong)?;
        let (inner, after) = after.split_once("}}").ok_or_else(wrong)?;
        if inner.trim() != name || after.contains("{{") {
            return Err(wrong());
        }
        let prefix = tokens(before, 0);
        if !prefix.iter().any(|token| token.word) {
            return Err(ClosingError::NoWord { name: name.to_owned(), example: example() });
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned(), prefix, suffix: tokens(after, 0) })
    }

    /// The line with `value` in it, as a model should write it.
    pub fn write(&self, value: &str) -> String {
        format!("{}{value}{}", self.before, self.after)
    }

    /// Every place where the pattern occurs, in order.
    pub fn hits(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut offset = 0;
        for line in text.split_inclusive(['\n', '\r']) {
            let body = line.trim_end_matches(['\n', '\r']);
            self.hits_in_line(&tokens(body, offset), offset..offset + body.len(), &mut hits);
            offset += line.len();
        }
        hits
    }

    fn hits_in_line(&self, line: &[Token], place: Range<usize>, hits: &mut Vec<Hit>) {
        let starts: Vec<usize> =
            (0..line.len()).filter(|start| begins_with(line.get(*start..).unwrap_or(&[]), &self.prefix)).collect();
        for (index, start) in starts.iter().enumerate() {
            let from = start + self.prefix.len();
            let to = starts.get(index + 1).copied().unwrap_or(line.len());
            let Some(rest) = line.get(from..to) else { continue };
            let length = if self.suffix.is_empty() {
                rest.len()
            } else {
                let found = (0..rest.len()).find(|at| begins_with(rest.get(*at..).unwrap_or(&[]), &self.suffix));
                found.unwrap_or(rest.len())
            };
            let value: Vec<Token> = rest.get(..length).unwrap_or(&[]).to_vec();
            let last = rest.get(length..).and_then(|tail| tail.get(self.suffix.len().saturating_sub(1)));
            let last = if self.suffix.is_empty() { None } else { last };
            let first_byte = line.get(*start).map_or(place.start, |token| token.span.start);
            let last_byte = last.or(value.last()).or(line.get(from - 1)).map_or(place.end, |token| token.span.end);
            hits.push(Hit {
                value,
                starts_line: line.iter().take(*start).all(|token| !token.word),
                span: first_byte..last_byte,
                line: place.clone(),
            });
        }
    }

    /// The text without the lines that begin with the pattern, and without its other occurrences up to the end of their
    /// value's first word. No occurrence is left, also none that a removal has joined.
    pub fn strip(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Each round takes at least the pattern's word out, so this ends.
        while let Some(hit) = self.hits(&text).into_iter().next_back() {
            let place = if hit.starts_line {
                // With the line goes its line break.
                hit.line.start..(hit.line.end + 1).min(text.len())
            } else {
                let end = hit.value.iter().find(|token| token.word).map_or(hit.span.end, |token| token.span.end);
                hit.span.start..end
            };
            text.replace_range(place, "");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn begins_with(line: &[Token], pattern: &[Token]) -> bool {
    line.len() >= pattern.len() && line.iter().zip(pattern).all(|(a, b)| a.is(&b.text))
}

/// Words and punctuation of one line. Markdown emphasis, headings and quote signs are left out.
fn tokens(line: &str, offset: usize) -> Vec<Token> {
    let chars: Vec<(usize, char)> = line.char_indices().collect();
    let at = |index: usize| chars.get(index).map(|(_, c)| *c);
    let mut out = Vec::new();
    let mut index = 0;
    while let Some((byte, c)) = chars.get(index).copied() {
        let mut end = index + 1;
        if c.is_alphanumeric() {
            while let Some(next) = at(end) {
                let decimal = next == '.'
                    && at(end - 1).is_some_and(|c| c.is_ascii_digit())
                    && at(end + 1).is_some_and(|c| c.is_ascii_digit());
                if !next.is_alphanumeric() && !decimal {
                    break;
                }
                end += 1;
            }
        }
        if !c.is_whitespace() && !matches!(c, '*' | '_' | '`' | '#' | '>') {
            let last = chars.get(end).map_or(line.len(), |(byte, _)| *byte);
            // A colon is a colon, however wide.
            let text = if c == '：' { ":" } else { line.get(byte..last).unwrap_or("") };
            out.push(Token { text: text.to_owned(), word: c.is_alphanumeric(), span: offset + byte..offset + last });
        }
        index = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score() -> ClosingLine {
        ClosingLine::new("Score: {{score}}", "score").unwrap()
    }

    fn values(line: &ClosingLine, text: &str) -> Vec<String> {
        let join = |hit: Hit| hit.value.iter().map(|token| token.text.clone()).collect::<Vec<_>>().join(" ");
        line.hits(text).into_iter().map(join).collect()
    }

    #[test]
    fn case_blanks_and_emphasis_make_no_difference() {
        for text in
            ["Score: 4", "score:4", "  SCORE :  4 ", "**Score: 4**", "**Score:** 4", "## Score: `4`", "Score： 4"]
        {
            assert_eq!(values(&score(), text), ["4"], "{text}");
        }
        assert_eq!(values(&score(), "Scores: 4"), [""; 0]);
        assert_eq!(values(&score(), "The underscore: 4"), [""; 0]);
        assert_eq!(values(&score(), "Score: 4.5/5."), ["4.5 / 5 ."]);
    }

    #[test]
    fn several_hits_on_a_line_and_in_a_text() {
        let text = "so score: 3, no, score: 4\r\n- Score: 5";
        assert_eq!(values(&score(), text), ["3 , no ,", "4", "5"]);
        assert_eq!(score().hits(text).iter().map(|hit| hit.starts_line).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_follows_the_placeholder_ends_the_value() {
        let line = ClosingLine::new("Winner [[{{winner}}]]", "winner").unwrap();
        assert_eq!(values(&line, "winner [[A]] of two"), ["A"]);
        assert_eq!(line.write("B"), "Winner [[B]]");
    }

    #[test]
    fn bad_patterns_are_named() {
        let new = |text: &str| ClosingLine::new(text, "score").unwrap_err().to_string();
        assert_eq!(new("Score:"), "expected `{{score}}` exactly once, as in `Score: {{score}}`");
        assert_eq!(new("{{score}} points"), "expected a word before `{{score}}`, as in `Score: {{score}}`");
        assert_eq!(new("Score: {{score}} {{score}}"), new("Score: {{mark}}"));
    }

    #[test]
    fn strip_takes_the_line_or_the_words() {
        assert_eq!(score().strip("good\n**Score: 4**\n"), "good");
        assert_eq!(score().strip("I say score: 4 because"), "I say  because");
        assert_eq!(score().strip("nothing here"), "nothing here");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn strip_leaves_no_closing_line(parts in prop::collection::vec(
            prop::sample::select(vec!["Score", ":", " 4", "\n", "é ", "**", "x", "score: 2"]), 0..12,
        )) {
            let stripped = score().strip(&parts.concat());
            prop_assert!(score().hits(&stripped).is_empty(), "{stripped:?}");
        }
    }
}
