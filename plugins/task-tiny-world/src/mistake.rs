//! Imperfect answers.

use crate::{draws::Draws, operation::Operation, options::TinyWorldOptions, puzzle::Puzzle};

/// What is wrong with an answer, filler words aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Order,
    Missing,
    Extra,
    WrongOperation,
    /// Words that have nothing to do with the prompt.
    Unrelated,
}

/// The kinds in the order in which an even choice is made among them.
pub(crate) const MISTAKES: [Mistake; 5] =
    [Mistake::Order, Mistake::Missing, Mistake::Extra, Mistake::WrongOperation, Mistake::Unrelated];

/// An answer as the demonstrations give it: perfect, or with a mistake, or with filler words, or both.
pub(crate) fn imperfect_answer(puzzle: &Puzzle, options: &TinyWorldOptions, draws: &mut Draws) -> Vec<String> {
    let at = draws.unit();
    let mut edge = 0.0;
    let mut mistake = None;
    for (kind, probability) in [
        (Mistake::Order, options.wrong_order),
        (Mistake::Missing, options.missing_word),
        (Mistake::Extra, options.extra_word),
        (Mistake::WrongOperation, options.wrong_operation),
    ] {
        edge += probability;
        if mistake.is_none() && at < edge {
            mistake = Some(kind);
        }
    }
    let mut answer = match mistake {
        Some(mistake) => mistaken_answer(puzzle, mistake, options, draws),
        None => puzzle.answer(options),
    };
    if draws.chance(options.filler) {
        add_fillers(&mut answer, options, draws);
    }
    answer
}

/// The right answer with one mistake of this kind, no filler words. It is never the right answer.
pub(crate) fn mistaken_answer(
    puzzle: &Puzzle,
    mistake: Mistake,
    options: &TinyWorldOptions,
    draws: &mut Draws,
) -> Vec<String> {
    let right = puzzle.answer(options);
    let mut answer = right.clone();
    match mistake {
        Mistake::Order => {
            let places: Vec<usize> = (1..right.len()).filter(|&i| right[i] != right[i - 1]).collect();
            match draws.pick(&places) {
                Some(&place) => answer.swap(place, place - 1),
                // Nothing to swap in an answer of equal words.
                None => add_word(&mut answer, options, draws),
            }
        }
        Mistake::Missing => {
            answer.remove(draws.below(right.len()));
        }
        Mistake::Extra => add_word(&mut answer, options, draws),
        Mistake::WrongOperation => match other_operation(puzzle, options, draws).filter(|other| *other != right) {
            Some(other) => answer = other,
            None => answer.clone_from(&puzzle.list),
        },
        Mistake::Unrelated => {
            let foreign: Vec<&String> = options
                .categories
                .iter()
                .flat_map(|c| &c.words)
                .filter(|word| !puzzle.list.contains(word) && !right.contains(word))
                .collect();
            answer = (0..right.len()).filter_map(|_| draws.pick(&foreign).map(|word| (*word).clone())).collect();
        }
    }
    answer
}

/// Puts a word of the world somewhere into the answer.
fn add_word(answer: &mut Vec<String>, options: &TinyWorldOptions, draws: &mut Draws) {
    let words: Vec<&String> = options.categories.iter().flat_map(|c| &c.words).collect();
    if let Some(word) = draws.pick(&words) {
        answer.insert(draws.below(answer.len() + 1), (*word).clone());
    }
}

/// One of two operations alone, or another operation instead of the one asked for.
fn other_operation(puzzle: &Puzzle, options: &TinyWorldOptions, draws: &mut Draws) -> Option<Vec<String>> {
    if let [_, _] = puzzle.operations.as_slice() {
        return draws.pick(&puzzle.operations).map(|operation| operation.apply(&puzzle.list, options));
    }
    let name = *draws.pick(&options.operations)?;
    Operation::draw(name, &puzzle.list, options, draws).map(|operation| operation.apply(&puzzle.list, options))
}

/// Appends one filler word or more.
pub(crate) fn add_fillers(answer: &mut Vec<String>, options: &TinyWorldOptions, draws: &mut Draws) {
    let mut count = 1;
    while count < options.filler_most && draws.chance(options.filler_more) {
        count += 1;
    }
    answer.extend((0..count).filter_map(|_| draws.pick(&options.fillers).cloned()));
}
