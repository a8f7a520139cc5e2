//! The hard cases, kind by kind. Every strategy shrinks towards the simple case.

use metareward_api::{
    Battle, Candidate, Match, NextTokens, PairLogProbs, RankingProblem, SamplerItem, VerdictSet, Winner,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// A problem of 0 to 7 players: none, one, no battles, ties, undefeated, winless, disconnected, huge counts, players
/// who meet again and again in either place.
pub fn ranking_problem() -> impl Strategy<Value = RankingProblem> {
    let weight = || select(vec![0.0, 0.0, 1.0, 0.5, 0.3125, 3.0, 40.0, 1e6]);
    let tie = || select(vec![0.0, 0.0, 0.0, 1.0, 0.5, 2.0]);
    let shape = select(vec![Shape::Any, Shape::Ties, Shape::Ladder, Shape::Parts, Shape::RoundRobin]);
    (0u32..8, shape).prop_flat_map(move |(players, shape)| {
        let count = if players < 2 { 0..1 } else { 0..18 };
        let one = (0..players.max(1), 1..players.max(2), weight(), weight(), tie()).prop_map(
            move |(left, apart, left_wins, right_wins, ties)| {
                let right = (left + apart) % players.max(1);
                Battle { left, right, left_wins, right_wins, ties }
            },
        );
        vec(one, count).prop_map(move |battles| RankingProblem { players, battles: shape.bend(players, battles) })
    })
}

/// What a [`ranking_problem`] is like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// As it comes.
    Any,
    /// Nobody ever wins.
    Ties,
    /// Nobody ever loses to a later player.
    Ladder,
    /// The even and the odd never meet.
    Parts,
    /// Everyone has beaten everyone.
    RoundRobin,
}

impl Shape {
    fn bend(self, players: u32, battles: Vec<Battle>) -> Vec<Battle> {
        let each = |change: fn(Battle) -> Battle| battles.iter().copied().map(change).collect();
        match self {
            Shape::Any => battles,
            Shape::Ties => each(|battle| Battle { left_wins: 0.0, right_wins: 0.0, ties: battle.ties + 1.0, ..battle }),
            Shape::Ladder => each(|battle| {
                let won = battle.left_wins.max(battle.right_wins);
                let (left_wins, right_wins) = if battle.left < battle.right { (won, 0.0) } else { (0.0, won) };
                Battle { left_wins, right_wins, ties: 0.0, ..battle }
            }),
            Shape::Parts => battles.into_iter().filter(|battle| battle.left % 2 == battle.right % 2).collect(),
            Shape::RoundRobin => {
                let all = (0..players).flat_map(|left| (left + 1..players).map(move |right| (left, right)));
                let meet = |(left, right)| Battle { left, right, left_wins: 0.25, right_wins: 0.25, ties: 0.0 };
                all.map(meet).chain(battles).collect()
            }
        }
    }
}

/// A problem that no ranker may rate: one battle names a player that is not there, one player twice, or a weight that is
/// negative or not finite.
pub fn unratable_problem() -> impl Strategy<Value = RankingProblem> {
    let bad = select(vec![f64::NAN, f64::INFINITY, -1.0]);
    (ranking_problem(), any::<prop::sample::Index>(), 0usize..6, bad).prop_map(|(mut problem, place, fault, bad)| {
        let place = place.index(problem.battles.len() + 1);
        let battle =
            Battle { left: 0, right: problem.players.saturating_sub(1).min(1), left_wins: 1.0, ..Battle::default() };
        problem.battles.insert(place, battle);
        if let Some(battle) = problem.battles.get_mut(place) {
            match fault {
                0 => battle.left_wins = bad,
                1 => battle.right_wins = bad,
                2 => battle.ties = bad,
                3 => battle.left = problem.players,
                4 => battle.right = u32::MAX,
                _ => battle.right = battle.left,
            }
        }
        problem
    })
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
    let log_prob = || (0i32..4000).prop_map(|hundredths| 0.0 - f64::from(hundredths) / 100.0);
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

/// Logits of 1 to 11 tokens: ordinary, equal, far apart, at the ends of what f32 holds.
pub fn logits() -> impl Strategy<Value = Vec<f64>> {
    let ordinary = || (-4000i32..4000).prop_map(|thousandths| f64::from(thousandths) / 1000.0);
    let one = prop_oneof![4 => ordinary(), 2 => select(vec![0.0, 1.0, -1.0, 2.5]), 1 => select(vec![-80.0, 80.0, 3e4, -3e38, 3e38])];
    vec(one, 1..12)
}

/// An answer's most probable next tokens, as a sampler that reshapes is shown them: up to `most`, most probable first.
pub fn next_tokens(most: usize) -> impl Strategy<Value = NextTokens> {
    (logits(), 0u32..4, select(vec![0u32, 1, 700]), 0u32..1000).prop_map(move |(mut logits, draw, position, first)| {
        logits.sort_by(|a, b| b.total_cmp(a));
        logits.truncate(most.max(1));
        // Ids without order, all different.
        let tokens = (0u32..).take(logits.len()).map(|index| first + (index * 7) % 13).collect();
        NextTokens { draw, position, tokens, logits }
    })
}
