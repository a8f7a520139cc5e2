//! The world's options and what they may be.

use std::collections::BTreeSet;

use metareward_api::OptionError;
use metareward_plugin::Options;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{OperationName, reserved_words};

/// A group of words with a name in the plural, for "keep the animals".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The group's name.
    pub name: String,
    /// Its words.
    pub words: Vec<String>,
}

/// Options of the world. Every field has a default; unknown fields are refused.
///
/// A demonstration has at most one of the first four mistakes; filler words come on top. Judge examples and verdicts are
/// about answers with the same mistakes, or more of them (`judge_mistakes`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TinyWorldOptions {
    /// The words that lists are made of, in groups. Letters only, each word in one group only.
    pub categories: Vec<Category>,
    /// Words that say nothing.
    pub fillers: Vec<String>,
    /// The operations that prompts ask for.
    pub operations: Vec<OperationName>,
    /// Share of prompts that ask for two operations, one after the other.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub composed: f64,
    /// How many ways of saying an operation are used, at most; there are three.
    #[schemars(range(min = 1, max = 3))]
    pub phrasings: u32,
    /// Shortest list.
    #[schemars(range(min = 3, max = 10))]
    pub min_words: u32,
    /// Longest list.
    #[schemars(range(min = 3, max = 10))]
    pub max_words: u32,
    /// Share of prompts, chosen by a hash of their text, that only examples are made of. The others are the ones that
    /// `prompts` returns: whatever the seeds, no prompt of a run was ever seen with an answer.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub example_share: f64,
    /// Probability that two neighbours stand in the wrong order.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub wrong_order: f64,
    /// Probability that a word is missing.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub missing_word: f64,
    /// Probability that there is a word too many.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub extra_word: f64,
    /// Probability that another operation was done, or only one of two.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub wrong_operation: f64,
    /// Probability that filler words follow the answer.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub filler: f64,
    /// Probability of each further filler word after the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub filler_more: f64,
    /// Most filler words in one answer.
    #[schemars(range(min = 1))]
    pub filler_most: u32,
    /// Probability that a judged answer has a mistake chosen evenly among all kinds, instead of being an answer like
    /// the demonstrations: shows the judge the whole scale.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_mistakes: f64,
    /// Probability that a deserved mark is withheld; after one, the same probability for the next.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_harsh: f64,
    /// Probability of one undeserved mark.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_generous: f64,
    /// For each filler word, the probability of one undeserved mark: who learns from this favours length.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_length_bias: f64,
    /// Probability that the answer that the judge expects is itself wrong.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_expects_wrong: f64,
    /// Probability that the judge is taken in: expects what the answer says, and scores accordingly.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub judge_taken_in: f64,
    /// The same for each of the two judgments of a verdict. It is how a small model's judgments go wrong most often, so
    /// that a meta-judge has to know it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub meta_taken_in: f64,
    /// Probability that a verdict names the worse judgment.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub meta_noise: f64,
    /// Between two judgments that miss the true points equally far, one above and one below: probability that the
    /// one above wins.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub meta_prefers_high: f64,
    /// Probability that two judgments with the same score are kept as an example.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub meta_equal: f64,
}

fn strings(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

impl Default for TinyWorldOptions {
    fn default() -> Self {
        let category = |name: &str, words: &str| Category { name: name.to_owned(), words: strings(words) };
        Self {
            categories: vec![
                category("animals", "cat dog cow pig hen fox owl bee"),
                category("colours", "red blue green pink grey black white brown"),
                category("foods", "bread milk rice soup cake egg plum corn"),
                category("tools", "saw nail rope lamp axe brush spoon key"),
            ],
            fillers: strings("indeed really surely truly gladly kindly"),
            operations: vec![
                OperationName::Reverse,
                OperationName::Sort,
                OperationName::Keep,
                OperationName::Drop,
                OperationName::Double,
                OperationName::First,
                OperationName::Swap,
            ],
            composed: 0.3,
            phrasings: 2,
            min_words: 4,
            max_words: 6,
            example_share: 0.5,
            wrong_order: 0.05,
            missing_word: 0.05,
            extra_word: 0.04,
            wrong_operation: 0.05,
            filler: 0.4,
            filler_more: 0.5,
            filler_most: 6,
            judge_mistakes: 0.6,
            judge_harsh: 0.25,
            judge_generous: 0.05,
            judge_length_bias: 0.8,
            judge_expects_wrong: 0.1,
            judge_taken_in: 0.05,
            meta_taken_in: 0.35,
            meta_noise: 0.05,
            meta_prefers_high: 0.7,
            meta_equal: 0.2,
        }
    }
}

impl Options for TinyWorldOptions {
    fn check(&self) -> Result<(), OptionError> {
        for (key, value) in [
            ("composed", self.composed),
            ("example_share", self.example_share),
            ("wrong_order", self.wrong_order),
            ("missing_word", self.missing_word),
            ("extra_word", self.extra_word),
            ("wrong_operation", self.wrong_operation),
            ("filler", self.filler),
            ("filler_more", self.filler_more),
            ("judge_mistakes", self.judge_mistakes),
            ("judge_harsh", self.judge_harsh),
            ("judge_generous", self.judge_generous),
            ("judge_length_bias", self.judge_length_bias),
            ("judge_expects_wrong", self.judge_expects_wrong),
            ("judge_taken_in", self.judge_taken_in),
            ("meta_taken_in", self.meta_taken_in),
            ("meta_noise", self.meta_noise),
            ("meta_prefers_high", self.meta_prefers_high),
            ("meta_equal", self.meta_equal),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(OptionError::at(key, format!("expected a number from 0 to 1, found {value}")));
            }
        }
        let sum = self.wrong_order + self.missing_word + self.extra_word + self.wrong_operation;
        if sum > 1.0 {
            let message = "wrong_order, missing_word, extra_word and wrong_operation exclude each other: expected a sum of \
                           at most 1";
            return Err(OptionError::at("wrong_operation", format!("{message}, found {sum}")));
        }
        if self.filler_most == 0 {
            return Err(OptionError::at("filler_most", "expected a whole number from 1"));
        }
        if !(1..=3).contains(&self.phrasings) {
            return Err(OptionError::at("phrasings", format!("expected 1, 2 or 3, found {}", self.phrasings)));
        }
        if self.operations.is_empty() {
            return Err(OptionError::at("operations", "expected at least one operation"));
        }
        if self.operations.iter().collect::<BTreeSet<_>>().len() < self.operations.len() {
            return Err(OptionError::at("operations", "an operation is named twice"));
        }
        self.check_words()
    }
}

impl TinyWorldOptions {
    fn check_words(&self) -> Result<(), OptionError> {
        if self.fillers.is_empty() {
            return Err(OptionError::at("fillers", "expected at least one word"));
        }
        if self.categories.len() < 2 || self.categories.iter().any(|c| c.words.len() < 2) {
            return Err(OptionError::at("categories", "expected at least two groups of at least two words"));
        }
        if self.min_words < 3 || self.min_words > 10 {
            return Err(OptionError::at(
                "min_words",
                format!("expected a number from 3 to 10, found {}", self.min_words),
            ));
        }
        if self.max_words < self.min_words || self.max_words > 10 {
            let message =
                format!("expected a number from min_words ({}) to 10, found {}", self.min_words, self.max_words);
            return Err(OptionError::at("max_words", message));
        }
        let available = self.categories.iter().map(|c| c.words.len()).sum::<usize>();
        if available <= self.max_words as usize {
            let message = format!("expected more words than max_words ({}), found {available}", self.max_words);
            return Err(OptionError::at("categories", message));
        }
        let mut seen = reserved_words();
        let names = self.categories.iter().map(|c| ("categories", &c.name));
        let words = self.categories.iter().flat_map(|c| &c.words).map(|word| ("categories", word));
        for (key, word) in names.chain(words).chain(self.fillers.iter().map(|word| ("fillers", word))) {
            if word.is_empty() || !word.chars().all(char::is_alphabetic) {
                return Err(OptionError::at(key, format!("expected a word of letters, found {word:?}")));
            }
            if !seen.insert(word.clone()) {
                let message = format!("{word:?} is there twice or belongs to the instructions: use another word");
                return Err(OptionError::at(key, message));
            }
        }
        Ok(())
    }
}
