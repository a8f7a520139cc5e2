//! The winner of a comparison, read from what a judge or meta-judge wrote.

use metareward_api::{OptionError, Unreadable, Winner};

use crate::{ClosingLine, Hit, Token};

/// Checks that what two texts are called are two different words.
///
/// # Errors
/// Names the option `labels`.
pub fn check_labels([first, second]: &[String; 2]) -> Result<(), OptionError> {
    let word = |label: &str| !label.is_empty() && label.chars().all(char::is_alphanumeric);
    if !(word(first) && word(second)) || first.to_lowercase() == second.to_lowercase() {
        let message = format!("expected two different words of letters and digits, found {first:?} and {second:?}");
        return Err(OptionError::at("labels", message));
    }
    Ok(())
}

/// The winner in `text`, by what the text shown first and the one shown second are called. Never guesses.
///
/// Lines that begin with the closing line's words come before mentions in running text. All that name somebody must
/// name the same one; the last must name somebody.
///
/// # Errors
/// Why there is no winner.
pub fn read_winner(closing: &ClosingLine, text: &str, labels: &[String; 2]) -> Result<Winner, Unreadable> {
    let mut hits = closing.hits(text);
    if hits.iter().any(|hit| hit.starts_line) {
        hits.retain(|hit| hit.starts_line);
    }
    let Some((last, earlier)) = hits.split_last() else { return Err(Unreadable::Missing) };
    let winner = named(last, labels).ok_or(Unreadable::NotANumber)?;
    if earlier.iter().filter_map(|hit| named(hit, labels)).any(|other| other != winner) {
        return Err(Unreadable::Contradiction);
    }
    Ok(winner)
}

/// Whom the words after the closing line's own name.
fn named(hit: &Hit, labels: &[String; 2]) -> Option<Winner> {
    let [first, second] = labels;
    // Either spelling of the noun, the article and the verb say nothing.
    let filler = |token: &Token| {
        ["judgment", "judgement", "is", "the", "option"].iter().any(|word| token.is(word))
            && !labels.iter().any(|label| token.is(label))
    };
    let words: Vec<&Token> = hit.value.iter().filter(|token| token.word && !filler(token)).collect();
    let tie = |token: &&Token| ["tie", "tied", "draw", "neither", "both", "equal"].iter().any(|word| token.is(word));
    let (name, rest) = words.split_first()?;
    // "a tie" is not judgment A.
    if tie(name) || (name.text == "a" && rest.first().is_some_and(tie)) {
        return Some(Winner::Tie);
    }
    let winner = match (name.is(first), name.is(second)) {
        (true, _) => Winner::First,
        (_, true) => Winner::Second,
        _ => return None,
    };
    // "A and B", "A or B", "A/B" name nobody, and a small "a" before another word is an article.
    let exact = |token: &Token| token.text == *first || token.text == *second;
    let other = if winner == Winner::First { second } else { first };
    let joined = rest.first().is_some_and(|next| ["and", "or"].iter().any(|word| next.is(word)) || next.is(other));
    let article = !exact(name) && !rest.is_empty();
    (!joined && !article).then_some(winner)
}
