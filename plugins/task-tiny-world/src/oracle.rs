//! Exact points of an answer, on the same five points as the additive rubric.

use std::collections::BTreeMap;

/// The five points, each of which needs the ones before it (so the sum is the number of points in a row):
///
/// 1. relevant: there is an answer, and at least half of its words (fillers not counted) are words of the prompt's
///    list or of the right answer;
/// 2. a substantial portion: at least half of the right answer's words are there;
/// 3. the basic elements: exactly the right words, whatever their order;
/// 4. clear and organised: in the right order;
/// 5. impeccable: nothing superfluous, which means no filler words.
///
/// Words are what stands between white space. `fillers` are the words that say nothing.
pub(crate) fn points(list: &[String], right: &[String], fillers: &[String], response: &str) -> u32 {
    let words: Vec<&str> = response.split_whitespace().collect();
    let said: Vec<&str> = words.iter().copied().filter(|word| !fillers.iter().any(|filler| filler == word)).collect();
    let relevant = said.iter().filter(|word| list.iter().chain(right).any(|known| known == *word)).count();
    if said.is_empty() || relevant * 2 < said.len() {
        return 0;
    }
    let shared = shared(&said, right);
    if shared * 2 < right.len() {
        return 1;
    }
    if shared != right.len() || shared != said.len() {
        return 2;
    }
    if said.iter().zip(right).any(|(said, right)| said != right) {
        return 3;
    }
    if words.len() != said.len() { 4 } else { 5 }
}

/// Number of words that both have, each as often as in the one that has it less often.
fn shared(said: &[&str], right: &[String]) -> usize {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in right {
        *left.entry(word).or_default() += 1;
    }
    said.iter()
        .filter(|word| match left.get_mut(**word) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
        .count()
}
