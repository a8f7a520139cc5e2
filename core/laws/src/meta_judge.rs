//! Laws of meta-judges.

use std::collections::BTreeSet;

use metareward_api::{Match, MetaJudge, MetaJudgeItem, PositionWins, Unreadable, VerdictSet, Weighed, Winner};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    generators::{text, verdicts, words},
    outcome::{LawOutcome, Plan, ensure, equal, failed, law, near, only, pure_law},
    place::{break_out, conversation, inserted},
};

/// What not every honest meta-judge promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaJudgePromises {
    /// Weights and battle matrix as in the paper's section 3, steps 4 and 5.
    pub paper_weights: bool,
    /// Judgments are shown whole.
    pub shows_judgments_whole: bool,
}

/// Checks all laws of meta-judges.
pub fn check_meta_judge(judge: &dyn MetaJudge, promises: MetaJudgePromises, plan: Plan) -> Vec<LawOutcome> {
    let wins = || (0u64..200, 0u64..200).prop_map(|(first, second)| PositionWins { first, second });
    let paper = "weights and battles are the paper's";
    let whole = "question, response and both judgments are in what the meta-judge is asked, in their order";
    let back = "a well-formed verdict parses back to its winner";
    let winners = [Winner::First, Winner::Second, Winner::Tie];
    let stated: Vec<Winner> =
        winners.into_iter().filter(|winner| matches!(judge.closing_line(*winner), Ok(Some(_)))).collect();
    vec![
        law("every pair meets in both orders, exactly once each", plan, 0u32..13, |players| {
            let matches = only(judge.schedule(&[players]))?;
            let expected: BTreeSet<Match> = (0..players)
                .flat_map(|first| (0..players).map(move |second| Match { first, second }))
                .filter(|game| game.first != game.second)
                .collect();
            equal("number of matches", &matches.len(), &expected.len())?;
            equal("matches", &matches.into_iter().collect(), &expected)
        }),
        if promises.shows_judgments_whole {
            law(whole, plan, (words(), words()), |(a, b)| {
                let (first, second) = (format!("one {a} end"), format!("two {b} end"));
                let item = MetaJudgeItem { first: &first, second: &second, ..ITEM };
                let asked = conversation(judge.render(&[item]))?;
                let place = |text: &str| asked.find(text).ok_or(format!("{text:?} is missing in {asked:?}"));
                place(ITEM.prompt)?;
                place(ITEM.response)?;
                ensure(place(&first)? < place(&second)?, || "second comes before first".to_owned())
            })
        } else {
            LawOutcome::not_checked(whole, plan, "the meta-judge does not promise to show judgments whole")
        },
        place_law("the first judgment cannot end its place", judge, plan, |first| MetaJudgeItem { first, ..ITEM }),
        place_law("the second judgment cannot end its place", judge, plan, |second| MetaJudgeItem { second, ..ITEM }),
        place_law("the response cannot end its place", judge, plan, |response| MetaJudgeItem { response, ..ITEM }),
        if stated.is_empty() {
            LawOutcome::not_checked(back, plan, "the meta-judge states no closing line")
        } else {
            law(back, plan, (words(), select(stated)), |(reasons, winner)| {
                let line = judge.closing_line(winner).map_err(failed)?.unwrap_or_default();
                equal("winner", &only(judge.parse(&[&format!("{reasons}\n{line}")]))?, &Ok(winner))
            })
        },
        law("a verdict without a closing line has no winner", plan, words(), |verdict| {
            equal("winner", &only(judge.parse(&[&verdict]))?, &Err(Unreadable::Missing))
        }),
        law(
            "battles are finite weights, not negative, of nobody against itself",
            plan,
            (verdicts(), wins()),
            |(set, wins)| {
                let Weighed { battles, weights } = weigh(judge, &set, wins)?;
                equal("players", &(battles.players, battles.wins.len()), &size(&set))?;
                let good = battles.wins.iter().chain(&weights).all(|weight| weight.is_finite() && *weight >= 0.0);
                let diagonal = (0..battles.players).all(|player| battles.get(player, player) == 0.0);
                ensure(good && diagonal, || format!("{battles:?}"))
            },
        ),
        law(
            "a judgment that wins nothing has no weight, and ties weigh nothing",
            plan,
            (verdicts(), wins()),
            |(set, wins)| {
                let battles = weigh(judge, &set, wins)?.battles;
                for row in 0..set.players {
                    for column in 0..set.players {
                        let won = set.verdicts.iter().any(|(game, winner)| beat(*game, *winner) == Some((row, column)));
                        let weight = battles.get(row as usize, column as usize);
                        ensure(won || weight == 0.0, || format!("{row} never beat {column}, and has weight {weight}"))?;
                    }
                }
                Ok(())
            },
        ),
        law(
            "reversing all positions mirrors the weights and keeps the battles",
            plan,
            (verdicts(), wins()),
            |(set, wins)| {
                let reversed = VerdictSet {
                    players: set.players,
                    verdicts: set.verdicts.iter().map(|(game, winner)| reverse(*game, *winner)).collect(),
                };
                let before = weigh(judge, &set, wins)?;
                let after = weigh(judge, &reversed, PositionWins { first: wins.second, second: wins.first })?;
                near("w1", after.weights[0], before.weights[1], 1e-12)?;
                near("w2", after.weights[1], before.weights[0], 1e-12)?;
                let cells = after.battles.wins.iter().zip(&before.battles.wins);
                cells.into_iter().try_for_each(|(after, before)| near("battle", *after, *before, 1e-12))
            },
        ),
        if promises.paper_weights {
            law(paper, plan, (verdicts(), wins()), |(set, wins)| papers(&set, wins, &weigh(judge, &set, wins)?))
        } else {
            LawOutcome::not_checked(paper, plan, "the meta-judge does not promise them")
        },
        pure_law(plan, vec((verdicts(), wins()), 0..4), |cases| {
            let (sets, wins): (Vec<_>, Vec<_>) = cases.iter().cloned().unzip();
            judge.weigh(&sets, &wins)
        }),
        pure_law(plan, vec((text(), text()), 0..4), |pairs| {
            let items: Vec<MetaJudgeItem<'_>> =
                pairs.iter().map(|(first, second)| MetaJudgeItem { first, second, ..ITEM }).collect();
            let texts: Vec<&str> = pairs.iter().map(|(_, text)| text.as_str()).collect();
            Ok(judge.render(&items)?.into_iter().zip(judge.parse(&texts)?).collect::<Vec<_>>())
        }),
    ]
}

const ITEM: MetaJudgeItem<'static> = MetaJudgeItem {
    prompt: "what is asked",
    response: "what is answered",
    criteria: "how it is scored",
    first: "the first opinion",
    second: "the second opinion",
};

fn place_law(
    words: &'static str,
    judge: &dyn MetaJudge,
    plan: Plan,
    item: impl for<'a> Fn(&'a str) -> MetaJudgeItem<'a>,
) -> LawOutcome {
    law(words, plan, (text(), text()), |(before, after)| {
        let render = |text: &str| conversation(judge.render(&[item(text)]));
        inserted(&render, &break_out(&render, &before, &after)?)
    })
}

fn weigh(judge: &dyn MetaJudge, set: &VerdictSet, wins: PositionWins) -> Result<Weighed, String> {
    let weighed = only(judge.weigh(std::slice::from_ref(set), &[wins]))?;
    equal("players", &(weighed.battles.players, weighed.battles.wins.len()), &size(set))?;
    Ok(weighed)
}

fn size(set: &VerdictSet) -> (usize, usize) {
    let players = set.players as usize;
    (players, players * players)
}

/// Winner and loser.
fn beat(game: Match, winner: Winner) -> Option<(u32, u32)> {
    match winner {
        Winner::First => Some((game.first, game.second)),
        Winner::Second => Some((game.second, game.first)),
        Winner::Tie => None,
    }
}

fn reverse(game: Match, winner: Winner) -> (Match, Winner) {
    let winner = match winner {
        Winner::First => Winner::Second,
        Winner::Second => Winner::First,
        Winner::Tie => Winner::Tie,
    };
    (Match { first: game.second, second: game.first }, winner)
}

fn papers(set: &VerdictSet, wins: PositionWins, weighed: &Weighed) -> Result<(), String> {
    let total = (wins.first + wins.second) as f64;
    let [w1, w2] = if total == 0.0 { [0.5, 0.5] } else { [wins.second as f64 / total, wins.first as f64 / total] };
    near("w1", weighed.weights[0], w1, 1e-12)?;
    near("w2", weighed.weights[1], w2, 1e-12)?;
    for m in 0..set.players {
        for n in 0..set.players {
            let count = |game: Match, winner: Winner| {
                set.verdicts.iter().filter(|verdict| **verdict == (game, winner)).count() as f64
            };
            let expected = w1 * count(Match { first: m, second: n }, Winner::First)
                + w2 * count(Match { first: n, second: m }, Winner::Second);
            near(&format!("B of {m} over {n}"), weighed.battles.get(m as usize, n as usize), expected, 1e-12)?;
        }
    }
    Ok(())
}
