//! The hard cases, kind by kind. Every strategy shrinks towards the simple case.

use metareward_api::{BattleMatrix, Candidate, Match, PairLogProbs, SamplerItem, VerdictSet, Winner};
use proptest::{collection::vec, prelude::*, sample::select};

/// A battle matrix of 0 to 7 players: none, one, no battles, ties, undefeated, winless, disconnected, huge counts.
pub fn battles() -> impl Strategy<Value = BattleMatrix> {
    let weights = || select(vec![0.0, 0.0, 0.0, 1.0, 0.5, 0.3125, 3.0, 40.0, 1e6]);
    (0usize..8)
        .prop_flat_map(move |players| {
            let shape = select(vec![Shape::Any, Shape::Ties, Shape::Ladder, Shape::Parts, Shape::RoundRobin]);
            (Just(players), vec(weights(), players * players), shape)
        })
        .prop_map(|(players, cells, shape)| {
            let mut battles = BattleMatrix::new(players);
            for row in 0..players {
                for column in (0..players).filter(|column| *column != row) {
                    let own = cells.get(row * players + column).copied().unwrap_or(0.0);
                    let upper = cells.get(row.min(column) * players + row.max(column)).copied().unwrap_or(0.0);
                    battles.add(
                        row,
                        column,
                        match shape {
                            Shape::Any => own,
                            // Every battle a tie.
                            Shape::Ties => upper,
                            // Nobody ever loses to a later player.
                            Shape::Ladder if row < column => own,
                            Shape::Ladder => 0.0,
                            // The even and the odd never meet.
                            Shape::Parts if row % 2 == column % 2 => own,
                            Shape::Parts => 0.0,
                            // Everyone has beaten everyone.
                            Shape::RoundRobin => own.min(40.0) + 0.25,
                        },
                    );
                }
            }
            battles
        })
}

/// What [`battles`] are like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Any,
    Ties,
    Ladder,
    Parts,
    RoundRobin,
}

/// A permutation of `0..n`.
pub fn permutation(n: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..n).collect::<Vec<_>>()).prop_shuffle()
}

/// 0 to 8 candidates with equal and unequal scores and lengths, empty texts, and scores at the ends of the scale.
/// Their tie breaks differ.
pub fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let score = select(vec![5.0, 0.0, 4.5, 4.75, 2.5, 3.4, 1.6, 1000.0 / 3.0, -2.25]);
    let one = (score, select(vec![10u32, 0, 11, 250, 2500, 4000]), select(vec![3u32, 0, 4, 90]), any::<u32>());
    vec(one, 0..9).prop_map(|all| {
        let distinct = |index: usize, random: u32| (u64::from(random) << 8) | index as u64;
        let candidate = |(index, (score, characters, tokens, random))| Candidate {
            score,
            characters,
            tokens,
            tie_break: distinct(index, random),
        };
        all.into_iter().enumerate().map(candidate).collect()
    })
}

/// A text: empty, plain, unicode, with line breaks, with what templates and models treat specially.
pub fn text() -> impl Strategy<Value = String> {
    let part = select(vec![
        "word",
        " ",
        "\n",
        "\r\n",
        "",
        "é",
        "日本語",
        "🦀",
        "\u{202e}",
        "{{response}}",
        "{{prompt}}",
        "}}",
        "{{",
        "<b>",
        "\\",
        "\"",
        "5",
        "4.5",
        "<|eot_id|>",
        "\0",
    ]);
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// Plain words that no closing line is made of.
pub fn words() -> impl Strategy<Value = String> {
    vec(select(vec!["lantern", "quiet", "river", "été", "seven", "and"]), 0..6).prop_map(|words| words.join(" "))
}

/// Verdicts on 0 to 5 judgments: any match, any winner, repetitions and gaps included.
pub fn verdicts() -> impl Strategy<Value = VerdictSet> {
    (0u32..6).prop_flat_map(|players| {
        let winner = select(vec![Winner::Tie, Winner::First, Winner::Second]);
        let count = if players < 2 { 0..1 } else { 0..25 };
        let one = (0..players.max(1), 1..players.max(2), winner).prop_map(move |(first, apart, winner)| {
            (Match { first, second: (first + apart) % players.max(1) }, winner)
        });
        vec(one, count).prop_map(move |verdicts| VerdictSet { players, verdicts })
    })
}

/// A pair with ordinary log-probabilities.
pub fn pair() -> impl Strategy<Value = PairLogProbs> {
    let log_prob = || (0i32..4000).prop_map(|hundredths| -f64::from(hundredths) / 100.0);
    let tokens = || 1u32..200;
    (log_prob(), log_prob(), log_prob(), log_prob(), tokens(), tokens(), select(vec![1.0, 0.25, 2.0])).prop_map(
        |(
            policy_chosen,
            policy_rejected,
            reference_chosen,
            reference_rejected,
            chosen_tokens,
            rejected_tokens,
            weight,
        )| {
            PairLogProbs {
                policy_chosen,
                policy_rejected,
                reference_chosen,
                reference_rejected,
                chosen_tokens,
                rejected_tokens,
                weight,
            }
        },
    )
}

/// A pair with extreme log-probabilities: near 0 and down to minus a million, whose margins overflow a careless exp.
pub fn extreme_pair() -> impl Strategy<Value = PairLogProbs> {
    let log_prob = || select(vec![0.0, -1e-12, -1.0, -745.0, -1e4, -1e6]);
    (pair(), log_prob(), log_prob(), log_prob(), log_prob()).prop_map(|(pair, a, b, c, d)| PairLogProbs {
        policy_chosen: a,
        policy_rejected: b,
        reference_chosen: c,
        reference_rejected: d,
        ..pair
    })
}

/// What a sampler is asked: empty prompts, no draws, the paper's 7 and 11.
pub fn sampler_item() -> impl Strategy<Value = SamplerItem> {
    (select(vec![0u32, 1, 300, 100_000]), select(vec![0u32, 1, 7, 11]))
        .prop_map(|(characters, draws)| SamplerItem { characters, draws })
}
