//! Reads the winner from a verdict. Never guesses.

use metareward_api::{Unreadable, Winner};
use metareward_plugin::{ClosingLine, Hit, Token};

/// The winner in `text`.
///
/// Lines that begin with the closing line's words come before mentions in running text. All that name somebody must
/// name the same one; the last must name somebody.
pub(crate) fn read(closing: &ClosingLine, text: &str, labels: &[String; 2]) -> Result<Winner, Unreadable> {
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
