//! What can be asked for, how it is said, and what it does to a list.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{draws::Draws, options::TinyWorldOptions};

/// Name of an operation, as in the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationName {
    /// Last word first.
    Reverse,
    /// Alphabetical order.
    Sort,
    /// Only the words of a category.
    Keep,
    /// All words but those of a category.
    Drop,
    /// Every word twice.
    Double,
    /// The first n words.
    First,
    /// The last n words.
    Last,
    /// First and last word change places.
    Swap,
    /// One word becomes another.
    Replace,
    /// The first word goes to the end.
    Rotate,
    /// The first, third, fifth … word.
    Alternate,
    /// The list, followed by its length as a word.
    Count,
}

impl OperationName {
    /// All operations.
    pub const ALL: [Self; 12] = [
        Self::Reverse,
        Self::Sort,
        Self::Keep,
        Self::Drop,
        Self::Double,
        Self::First,
        Self::Last,
        Self::Swap,
        Self::Replace,
        Self::Rotate,
        Self::Alternate,
        Self::Count,
    ];

    /// The ways of saying it. `C`, `N`, `X` and `Y` stand for a category, a number and two words.
    fn phrases(self) -> &'static [&'static str] {
        match self {
            Self::Reverse => &["reverse", "say backwards", "turn around"],
            Self::Sort => &["sort", "order by letter", "put in order"],
            Self::Keep => &["keep the C", "only the C", "pick the C"],
            Self::Drop => &["drop the C", "leave out the C", "no C"],
            Self::Double => &["double", "say each twice", "repeat each word"],
            Self::First => &["first N", "take the first N", "begin with N"],
            Self::Last => &["last N", "take the last N", "end with N"],
            Self::Swap => &["swap the ends", "swap first and last", "trade the ends"],
            Self::Replace => &["replace X by Y", "say Y for X", "change X to Y"],
            Self::Rotate => &["move first to end", "first word last", "rotate"],
            Self::Alternate => &["every other word", "drop every second", "skip each second"],
            Self::Count => &["add the count", "say how many", "count at end"],
        }
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reverse => "reverse",
            Self::Sort => "sort",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Double => "double",
            Self::First => "first",
            Self::Last => "last",
            Self::Swap => "swap",
            Self::Replace => "replace",
            Self::Rotate => "rotate",
            Self::Alternate => "alternate",
            Self::Count => "count",
        })
    }
}

/// Numbers as words, from one.
const NUMBERS: [&str; 20] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Stands between two operations of one prompt.
pub(crate) const THEN: &str = "then";
/// Stands between the instruction and the list.
pub(crate) const COLON: &str = ":";

/// Stands in a judgment where a list has no more words.
pub(crate) const NONE: &str = "none";

/// Words that may not be words of a list: those of the instructions, of judgments and of verdicts, and the numbers.
pub(crate) fn reserved_words() -> BTreeSet<String> {
    let phrases = OperationName::ALL.iter().flat_map(|name| name.phrases().iter()).flat_map(|p| p.split(' '));
    let others = ["want", "yes", "no", "score", "points", "winner", "tie", THEN, NONE];
    phrases.chain(NUMBERS).chain(others).map(str::to_owned).collect()
}

/// An operation with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) name: OperationName,
    /// Category (index), for keep and drop.
    category: usize,
    /// How many, for first and last.
    number: usize,
    /// The word that goes and the one that comes, for replace.
    words: [String; 2],
}

impl Operation {
    fn plain(name: OperationName) -> Self {
        Self { name, category: 0, number: 0, words: [String::new(), String::new()] }
    }

    /// An operation of this name that fits `list`, at random; `None` when there is none.
    pub(crate) fn draw(
        name: OperationName,
        list: &[String],
        options: &TinyWorldOptions,
        draws: &mut Draws,
    ) -> Option<Self> {
        let mut operation = Self::plain(name);
        match name {
            OperationName::Keep | OperationName::Drop => {
                // The category of one of the list's words, so that there is something to keep or to drop.
                let word = draws.pick(list)?;
                operation.category = options.categories.iter().position(|c| c.words.contains(word))?;
            }
            OperationName::First | OperationName::Last => {
                let most = list.len().checked_sub(2)?;
                operation.number = 2 + draws.below(most);
            }
            OperationName::Replace => {
                let from = draws.pick(list)?.clone();
                let to = draws.pick(&draws.clone().pick(&options.categories)?.words)?.clone();
                operation.words = [from, to];
            }
            _ => {}
        }
        let result = operation.apply(list, options);
        (result != list && (2..=12).contains(&result.len()) && !repeats(name, list, &operation)).then_some(operation)
    }

    /// What the operation makes of a list.
    pub(crate) fn apply(&self, list: &[String], options: &TinyWorldOptions) -> Vec<String> {
        let inside = |word: &String| options.categories.get(self.category).is_some_and(|c| c.words.contains(word));
        let mut result = list.to_vec();
        match self.name {
            OperationName::Reverse => result.reverse(),
            OperationName::Sort => result.sort(),
            OperationName::Keep => result.retain(inside),
            OperationName::Drop => result.retain(|word| !inside(word)),
            OperationName::Double => result = list.iter().flat_map(|word| [word.clone(), word.clone()]).collect(),
            OperationName::First => result.truncate(self.number),
            OperationName::Last => {
                result.drain(..list.len().saturating_sub(self.number));
            }
            OperationName::Swap => {
                if let Some(last) = list.len().checked_sub(1) {
                    result.swap(0, last);
                }
            }
            OperationName::Replace => {
                for word in &mut result {
                    if *word == self.words[0] {
                        word.clone_from(&self.words[1]);
                    }
                }
            }
            OperationName::Rotate => {
                if !result.is_empty() {
                    result.rotate_left(1);
                }
            }
            OperationName::Alternate => result = list.iter().step_by(2).cloned().collect(),
            OperationName::Count => {
                if let Some(number) = list.len().checked_sub(1).and_then(|n| NUMBERS.get(n)) {
                    result.push((*number).to_owned());
                }
            }
        }
        result
    }

    /// The operation in words; `phrase` chooses one of the ways of saying it.
    pub(crate) fn say(&self, phrase: usize, options: &TinyWorldOptions) -> String {
        let phrases = self.name.phrases();
        let said = phrases.get(phrase % phrases.len()).copied().unwrap_or_default();
        let slot = |word: &str| match word {
            "C" => options.categories.get(self.category).map_or(String::new(), |c| c.name.clone()),
            "N" => self.number.checked_sub(1).and_then(|n| NUMBERS.get(n)).map_or(String::new(), |n| (*n).to_owned()),
            "X" => self.words[0].clone(),
            "Y" => self.words[1].clone(),
            word => word.to_owned(),
        };
        said.split(' ').map(slot).collect::<Vec<_>>().join(" ")
    }

    /// The operation that these words ask for; `None` when they ask for none.
    pub(crate) fn read(words: &[&str], options: &TinyWorldOptions) -> Option<Self> {
        OperationName::ALL
            .iter()
            .find_map(|&name| name.phrases().iter().find_map(|phrase| Self::read_phrase(name, phrase, words, options)))
    }

    fn read_phrase(name: OperationName, phrase: &str, words: &[&str], options: &TinyWorldOptions) -> Option<Self> {
        let mut operation = Self::plain(name);
        let mut slots = phrase.split(' ');
        for word in words {
            match slots.next()? {
                "C" => operation.category = options.categories.iter().position(|c| c.name == *word)?,
                "N" => operation.number = NUMBERS.iter().position(|n| n == word)? + 1,
                "X" => operation.words[0] = known(word, options)?,
                "Y" => operation.words[1] = known(word, options)?,
                literal if literal == *word => {}
                _ => return None,
            }
        }
        slots.next().is_none().then_some(operation)
    }
}

fn known(word: &str, options: &TinyWorldOptions) -> Option<String> {
    options.categories.iter().flat_map(|c| &c.words).find(|w| *w == word).cloned()
}

/// Whether a replacement would bring in a word that the list already has.
fn repeats(name: OperationName, list: &[String], operation: &Operation) -> bool {
    name == OperationName::Replace && list.contains(&operation.words[1])
}
