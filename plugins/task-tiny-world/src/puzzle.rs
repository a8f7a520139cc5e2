//! A prompt as it is meant: a list and what to do with it.

use crate::{
    draws::{Draws, mix},
    operation::{COLON, Operation, OperationName, THEN},
    options::TinyWorldOptions,
};

/// A list and one or two operations on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Puzzle {
    /// The list.
    pub(crate) list: Vec<String>,
    /// The operations, in order.
    pub(crate) operations: Vec<Operation>,
    /// The prompt's text.
    pub(crate) text: String,
}

/// Attempts at a fitting operation before a puzzle is given up and the next index is tried.
const ATTEMPTS: usize = 20;

impl Puzzle {
    /// A puzzle; `None` when the draw led nowhere.
    pub(crate) fn draw(options: &TinyWorldOptions, draws: &mut Draws) -> Option<Self> {
        let span = (options.max_words - options.min_words + 1) as usize;
        let length = options.min_words as usize + draws.below(span);
        let mut words: Vec<&String> = options.categories.iter().flat_map(|c| &c.words).collect();
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            let index = draws.below(words.len());
            list.push(words.swap_remove(index).clone());
        }
        let mut operations = Vec::new();
        let mut now = list.clone();
        let steps = if draws.chance(options.composed) { 2 } else { 1 };
        let mut said = Vec::new();
        for step in 0..steps {
            let operation = (0..ATTEMPTS).find_map(|_| {
                let name = *draws.pick(&options.operations)?;
                // A count ends the answer: nothing can follow it.
                let fits = name != OperationName::Count || step + 1 == steps;
                let new = operations.iter().all(|o: &Operation| o.name != name);
                if fits && new { Operation::draw(name, &now, options, draws) } else { None }
            })?;
            now = operation.apply(&now, options);
            said.push(operation.say(draws.below(options.phrasings as usize), options));
            operations.push(operation);
        }
        if now == list {
            return None;
        }
        let text = format!("{} {COLON} {}", said.join(&format!(" {THEN} ")), list.join(" "));
        Some(Self { list, operations, text })
    }

    /// Reads a prompt's text; `None` when it is none of this world's.
    pub(crate) fn read(text: &str, options: &TinyWorldOptions) -> Option<Self> {
        let (instruction, list) = text.split_once(&format!(" {COLON} "))?;
        let list: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        let known = |word: &String| options.categories.iter().any(|c| c.words.contains(word));
        if list.is_empty() || !list.iter().all(known) {
            return None;
        }
        let words: Vec<&str> = instruction.split_whitespace().collect();
        let operations: Option<Vec<Operation>> =
            words.split(|word| *word == THEN).map(|part| Operation::read(part, options)).collect();
        let operations = operations.filter(|o| !o.is_empty() && o.len() <= 2)?;
        Some(Self { list, operations, text: text.to_owned() })
    }

    /// The answer: what the operations make of the list.
    pub(crate) fn answer(&self, options: &TinyWorldOptions) -> Vec<String> {
        self.operations.iter().fold(self.list.clone(), |list, operation| operation.apply(&list, options))
    }

    /// A number that depends on the text only.
    pub(crate) fn hash(&self) -> u64 {
        // FNV-1a, then mixed so that every bit depends on the whole text.
        let fnv = self
            .text
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        mix(fnv)
    }

    /// Whether only examples are made of this prompt.
    pub(crate) fn for_examples(&self, options: &TinyWorldOptions) -> bool {
        let place = (mix(self.hash() ^ 0x5EED) >> 11) as f64 / (1_u64 << 53) as f64;
        place < options.example_share
    }

    /// Names of the operations, joined by a plus sign: the prompt's category.
    pub(crate) fn category(&self) -> String {
        self.operations.iter().map(|o| o.name.to_string()).collect::<Vec<_>>().join("+")
    }
}
