//! Who computes what: a call's requests in shares of similar work, one per rank.
//!
//! What begins the same is computed once by a rank that has all of it, so requests stay together along their common
//! beginnings: all questions about one response, all responses to one prompt. A group that is too much work for a share
//! is taken apart where its members have least in common. Then the largest group goes to the rank with the least work,
//! and so on (longest processing time first): no share is larger than the mean by more than one group.
//!
//! Work is estimated from lengths of texts, without a tokenizer, and the same everywhere. What comes out of a call does not
//! depend on it.

use std::{cmp::Reverse, ops::Range};

use metareward_api::{Example, GenerationRequest, Message};

/// Bytes of text that a token stands for, about.
const TOKEN_BYTES: u64 = 4;

/// A group of more than this part of a share is taken apart: smaller ones balance better and compute more beginnings
/// twice.
const GROUPS_PER_SHARE: u64 = 8;

/// Some of the draws of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the request.
    pub request: usize,
    /// Indices of its draws.
    pub draws: Range<usize>,
}

/// Who draws what: a list of pieces per rank, in the order of the requests. Every draw is in one of them.
///
/// Half of an answer's largest length counts as its work: nothing better is known before it is drawn.
pub fn share_requests(requests: &[GenerationRequest], ranks: usize) -> Vec<Vec<Piece>> {
    let items = requests.iter().map(|request| Item {
        text: text(&request.messages, ""),
        parts: request.draws.iter().map(|draw| 1 + u64::from(draw.sampling.max_tokens) / 2).collect(),
    });
    share(&items.collect::<Vec<_>>(), ranks)
}

/// Who measures what: a list of indices per rank, in order. Every example is in one of them.
pub fn share_examples(examples: &[Example], ranks: usize) -> Vec<Vec<usize>> {
    let items = examples.iter().map(|it| Item { text: text(&it.messages, &it.completion), parts: vec![1] });
    let shares = share(&items.collect::<Vec<_>>(), ranks);
    shares.into_iter().map(|pieces| pieces.into_iter().map(|piece| piece.request).collect()).collect()
}

/// A conversation as bytes; two that begin the same have bytes that begin the same.
fn text(messages: &[Message], completion: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Message { role, content } in messages {
        bytes.push(*role as u8);
        bytes.extend_from_slice(content.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(completion.as_bytes());
    bytes
}

/// A text and what is computed from it.
#[derive(Debug)]
struct Item {
    text: Vec<u8>,
    /// Work of each part, in tokens.
    parts: Vec<u64>,
}

/// Pieces that belong together, and their work in tokens.
struct Group {
    pieces: Vec<Piece>,
    work: u64,
}

fn share(items: &[Item], ranks: usize) -> Vec<Vec<Piece>> {
    let mut groups = groups(items, ranks.max(1) as u64);
    // Stable: equal work keeps the order of the texts.
    groups.sort_by_key(|group| Reverse(group.work));
    let mut shares: Vec<(u64, Vec<Piece>)> = (0..ranks.max(1)).map(|_| (0, Vec::new())).collect();
    for group in groups {
        if let Some((work, pieces)) = shares.iter_mut().min_by_key(|(work, _)| *work) {
            *work += group.work;
            pieces.extend(group.pieces);
        }
    }
    let sorted = |(_, mut pieces): (u64, Vec<Piece>)| {
        pieces.sort_by_key(|piece| (piece.request, piece.draws.start));
        pieces
    };
    shares.into_iter().map(sorted).collect()
}

/// All pieces in groups of neighbours.
fn groups(items: &[Item], ranks: u64) -> Vec<Group> {
    let mut order: Vec<usize> = (0..items.len()).filter(|item| parts(items, *item) > 0).collect();
    order.sort_by(|a, b| (bytes(items, *a), a).cmp(&(bytes(items, *b), b)));
    // What each has in common with the one before it.
    let common: Vec<u64> = (0..order.len())
        .map(|at| match (at.checked_sub(1).and_then(|before| order.get(before)), order.get(at)) {
            (Some(a), Some(b)) => {
                bytes(items, *a).iter().zip(bytes(items, *b)).take_while(|(a, b)| a == b).count() as u64
            }
            _ => 0,
        })
        .collect();
    let shared = |at: usize| common.get(at).copied().unwrap_or_default();
    let work = |range: &Range<usize>| -> u64 {
        let own = |at: usize| {
            let Some(item) = order.get(at).and_then(|item| items.get(*item)) else { return 0 };
            let new = item.text.len() as u64 - if at == range.start { 0 } else { shared(at) };
            new / TOKEN_BYTES + item.parts.iter().sum::<u64>()
        };
        range.clone().map(own).sum()
    };
    let whole = 0..order.len();
    let limit = (work(&whole) / (ranks * GROUPS_PER_SHARE)).max(1);
    let (mut groups, mut open) = (Vec::new(), vec![whole]);
    while let Some(range) = open.pop() {
        let work = work(&range);
        if work <= limit && !range.is_empty() {
            let pieces = range.filter_map(|at| order.get(at));
            let pieces = pieces.map(|item| Piece { request: *item, draws: 0..parts(items, *item) }).collect();
            groups.push(Group { pieces, work });
            continue;
        }
        let Some(least) = (range.start + 1..range.end).map(shared).min() else {
            groups.extend(
                order
                    .get(range.start)
                    .and_then(|item| Some(apart(*item, items.get(*item)?, limit)))
                    .into_iter()
                    .flatten(),
            );
            continue;
        };
        let mut end = range.end;
        for cut in (range.start + 1..range.end).rev().filter(|at| shared(*at) == least) {
            open.push(cut..end);
            end = cut;
        }
        open.push(range.start..end);
    }
    groups
}

/// One item in groups of its parts.
fn apart(request: usize, item: &Item, limit: u64) -> Vec<Group> {
    let text = item.text.len() as u64 / TOKEN_BYTES;
    let (mut groups, mut start, mut work) = (Vec::new(), 0, text);
    for (at, part) in item.parts.iter().enumerate() {
        // The text is computed once more for every group: parts leave it only for as much work again.
        if at > start && work + part > limit.max(2 * text) {
            groups.push(Group { pieces: vec![Piece { request, draws: start..at }], work });
            (start, work) = (at, text);
        }
        work += part;
    }
    groups.push(Group { pieces: vec![Piece { request, draws: start..item.parts.len() }], work });
    groups
}

fn bytes(items: &[Item], item: usize) -> &[u8] {
    items.get(item).map_or(&[], |item| &item.text)
}

fn parts(items: &[Item], item: usize) -> usize {
    items.get(item).map_or(0, |item| item.parts.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let text = prop::collection::vec(0usize..3, 0..5).prop_map(|path| {
            // Texts that share beginnings: a path in a tree.
            path.iter().flat_map(|step| format!("{step}{}", "x".repeat(40)).into_bytes()).collect::<Vec<u8>>()
        });
        let item = (text, prop::collection::vec(1u64..200, 0..6)).prop_map(|(text, parts)| Item { text, parts });
        prop::collection::vec(item, 0..40)
    }

    proptest! {
        #[test]
        fn every_part_is_in_one_share_and_no_share_is_larger_by_more_than_a_group(items in items(), ranks in 1usize..7) {
            let shares = share(&items, ranks);
            prop_assert_eq!(shares.len(), ranks);
            let mut seen: Vec<(usize, usize)> =
                shares.iter().flatten().flat_map(|piece| piece.draws.clone().map(|draw| (piece.request, draw))).collect();
            seen.sort_unstable();
            let all: Vec<(usize, usize)> =
                items.iter().enumerate().flat_map(|(item, of)| (0..of.parts.len()).map(move |part| (item, part))).collect();
            prop_assert_eq!(seen, all);
            let groups = groups(&items, ranks as u64);
            let total: u64 = groups.iter().map(|group| group.work).sum();
            let largest = groups.iter().map(|group| group.work).max().unwrap_or_default();
            // The groups as they were given to the ranks, again.
            let mut loads = vec![0; ranks];
            let mut sorted: Vec<u64> = groups.iter().map(|group| group.work).collect();
            sorted.sort_unstable_by_key(|work| Reverse(*work));
            for work in sorted {
                *loads.iter_mut().min().unwrap() += work;
            }
            prop_assert!(loads.iter().all(|load| *load <= total / ranks as u64 + largest));
        }
    }

    fn request(question: usize, response: usize) -> Item {
        let text = format!("{}{question:03}{}{response:03}", "rubric ".repeat(50), "question ".repeat(20)).into_bytes();
        Item { text, parts: vec![20; 4] }
    }

    #[test]
    fn what_shares_a_beginning_stays_together() {
        // 64 questions with 5 responses each, on 4 ranks: no question is on two ranks.
        let items: Vec<Item> = (0..64).flat_map(|q| (0..5).map(move |r| request(q, r))).collect();
        let shares = share(&items, 4);
        let questions = |pieces: &[Piece]| {
            let mut all: Vec<usize> = pieces.iter().map(|piece| piece.request / 5).collect();
            all.dedup();
            all
        };
        let all: Vec<usize> = shares.iter().flat_map(|pieces| questions(pieces)).collect();
        assert_eq!(all.len(), 64);
        assert!(shares.iter().all(|pieces| questions(pieces).len() == 16), "{shares:?}");
    }

    #[test]
    fn one_request_with_many_draws_is_shared_too() {
        let shares = share(&[Item { text: b"Hello".to_vec(), parts: vec![50; 64] }], 4);
        let draws: Vec<usize> =
            shares.iter().map(|pieces| pieces.iter().map(|piece| piece.draws.len()).sum()).collect();
        assert_eq!(draws, [16; 4]);
        // Not where the prompt is most of the work.
        let shares = share(&[Item { text: vec![b'x'; 40_000], parts: vec![10; 4] }], 4);
        assert_eq!(shares.iter().filter(|pieces| !pieces.is_empty()).count(), 1);
    }
}
