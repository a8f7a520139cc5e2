//! Laws of meta-judges.

use std::collections::BTreeSet;

use metareward_api::{
    Battle, BattleMatrix, Kind, Match, MetaJudge, MetaJudgeItem, PluginError, PositionWins, RankingProblem, Unreadable,
    VerdictSet, Weighed, Winner,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    all_kinds::{self, ABOUT, PURE, TRACELESS},
    generators::{text, verdicts, words},
    outcome::{LawOutcome, Plan, ensure, equal, law, near, only},
    place::{break_out, conversation, inserted},
};

const PAIRS: &str = "every pair meets in both orders, exactly once each";
const WHOLE: &str = "question, response and both judgments are in what the meta-judge is asked, in their order";
const FIRST_PLACE: &str = "the first judgment cannot end its place";
const SECOND_PLACE: &str = "the second judgment cannot end its place";
const RESPONSE_PLACE: &str = "the response cannot end its place";
const BACK: &str = "a well-formed verdict parses back to its winner";
const SPELLINGS: &str = "judgment and judgement are read alike";
const MISSING: &str = "a verdict without a closing line has no winner";
const BATTLES: &str = "battles are between two judgments that exist, with weights from 0";
const NOTHING: &str = "a judgment that won nothing has no weight, and ties weigh no win";
const MIRRORED: &str = "reversing all positions mirrors the weights and keeps the battles";
const PAPER: &str = "weights and battles are the paper's";
const REFUSED: &str = "a verdict on a judgment that is not there is refused";

pub(crate) const LAWS: &[&str] = &[
    ABOUT,
    PAIRS,
    WHOLE,
    FIRST_PLACE,
    SECOND_PLACE,
    RESPONSE_PLACE,
    BACK,
    SPELLINGS,
    MISSING,
    BATTLES,
    NOTHING,
    MIRRORED,
    PAPER,
    REFUSED,
    PURE,
    TRACELESS,
];

/// Checks all laws of meta-judges. What it promises ([`MetaJudge::promises`]) is checked, and nothing else of that.
pub fn check_meta_judge(judge: &dyn MetaJudge, plan: Plan) -> Vec<LawOutcome> {
    let promises = judge.promises().unwrap_or_default();
    let case = || (verdicts(), wins());
    let lines: Vec<(Winner, String)> = [Winner::First, Winner::Second, Winner::Tie]
        .into_iter()
        .filter_map(|winner| Some((winner, judge.closing_line(winner).ok()??)))
        .collect();
    let no_line = "the meta-judge states no closing line";
    vec![
        all_kinds::about(plan, Kind::MetaJudge, judge, || {
            judge.promises()?;
            judge.scope()?;
            judge.closing_line(Winner::First)?;
            Ok(())
        }),
        law(PAIRS, plan, 0u32..13, |players| {
            let matches = only(judge.schedule(&[players]))?;
            let expected: BTreeSet<Match> = (0..players)
                .flat_map(|first| (0..players).map(move |second| Match { first, second }))
                .filter(|game| game.first != game.second)
                .collect();
            equal("number of matches", &matches.len(), &expected.len())?;
            equal("matches", &matches.into_iter().collect(), &expected)
        }),
        if promises.shows_judgments_whole {
            law(WHOLE, plan, (words(), words()), |(a, b)| {
                let (first, second) = (format!("one {a} end"), format!("two {b} end"));
                let item = MetaJudgeItem { first: &first, second: &second, ..ITEM };
                let asked = conversation(judge.render(&[item]))?;
                let place = |text: &str| asked.find(text).ok_or(format!("{text:?} is missing in {asked:?}"));
                place(ITEM.prompt)?;
                place(ITEM.response)?;
                ensure(place(&first)? < place(&second)?, || "second comes before first".to_owned())
            })
        } else {
            LawOutcome::not_checked(WHOLE, plan, "the meta-judge does not promise to show judgments whole")
        },
        place_law(FIRST_PLACE, judge, plan, &lines, |first| MetaJudgeItem { first, ..ITEM }),
        place_law(SECOND_PLACE, judge, plan, &lines, |second| MetaJudgeItem { second, ..ITEM }),
        place_law(RESPONSE_PLACE, judge, plan, &lines, |response| MetaJudgeItem { response, ..ITEM }),
        if lines.is_empty() {
            LawOutcome::not_checked(BACK, plan, no_line)
        } else {
            law(BACK, plan, (words(), select(lines.clone())), |(reasons, (winner, line))| {
                equal("winner", &only(judge.parse(&[&format!("{reasons}\n{line}")]))?, &Ok(winner))
            })
        },
        if lines.is_empty() {
            LawOutcome::not_checked(SPELLINGS, plan, no_line)
        } else {
            law(SPELLINGS, plan, (words(), select(spelled(&lines))), |(reasons, (one, other))| {
                let [one, other] = [one, other].map(|line| format!("{reasons}\n{line}"));
                equal(&format!("winner in {one:?}"), &only(judge.parse(&[&one]))?, &only(judge.parse(&[&other]))?)
            })
        },
        law(MISSING, plan, words(), |verdict| {
            equal("winner", &only(judge.parse(&[&verdict]))?, &Err(Unreadable::Missing))
        }),
        law(BATTLES, plan, case(), |(set, wins)| {
            let Weighed { battles, weights } = weigh(judge, &set, wins)?;
            let fair = |weight: &f64| weight.is_finite() && *weight >= 0.0;
            let good = |battle: &Battle| {
                battle.left != battle.right
                    && battle.left.max(battle.right) < set.players
                    && [battle.left_wins, battle.right_wins, battle.ties].iter().all(fair)
            };
            ensure(weights.iter().all(fair) && battles.iter().all(good), || format!("{weights:?}, {battles:?}"))
        }),
        law(NOTHING, plan, case(), |(set, wins)| {
            let battles = matrix(&set, &weigh(judge, &set, wins)?, 0.0);
            for row in 0..set.players {
                for column in 0..set.players {
                    let won = set.verdicts.iter().any(|(game, winner)| beat(*game, *winner) == Some((row, column)));
                    let weight = battles.get(row as usize, column as usize);
                    ensure(won || weight == 0.0, || format!("{row} never beat {column}, and has weight {weight}"))?;
                }
            }
            Ok(())
        }),
        law(MIRRORED, plan, case(), |(set, wins)| {
            let reversed = VerdictSet {
                players: set.players,
                verdicts: set.verdicts.iter().map(|(game, winner)| reverse(*game, *winner)).collect(),
            };
            let before = weigh(judge, &set, wins)?;
            let after = weigh(judge, &reversed, PositionWins { first: wins.second, second: wins.first })?;
            near("w1", after.weights[0], before.weights[1], 1e-12)?;
            near("w2", after.weights[1], before.weights[0], 1e-12)?;
            for tie_share in [0.0, 0.5] {
                let (after, before) = (matrix(&set, &after, tie_share), matrix(&set, &before, tie_share));
                let mut cells = after.wins.iter().zip(&before.wins);
                cells.try_for_each(|(after, before)| near("battle", *after, *before, 1e-12))?;
            }
            Ok(())
        }),
        if promises.paper_weights {
            law(PAPER, plan, case(), |(set, wins)| papers(&set, wins, &weigh(judge, &set, wins)?))
        } else {
            LawOutcome::not_checked(PAPER, plan, "the meta-judge does not promise them")
        },
        law(REFUSED, plan, (spoiled(), wins()), |(set, wins)| {
            ensure(judge.weigh(&[set], &[wins]).is_err(), || "it was weighed".to_owned())
        }),
        all_kinds::pure(plan, vec((verdicts(), wins(), text(), text()), 0..4), |cases| all_calls(judge, cases)),
        all_kinds::traceless(
            plan,
            vec((verdicts(), wins(), text(), text()), 0..4),
            vec((prop_oneof![verdicts(), spoiled()], wins(), text(), text()), 0..4),
            |cases| all_calls(judge, cases),
        ),
    ]
}

/// How often each position won.
pub(crate) fn wins() -> impl Strategy<Value = PositionWins> {
    (0u64..200, 0u64..200).prop_map(|(first, second)| PositionWins { first, second })
}

/// Verdicts of which one names a judgment that is not there.
pub(crate) fn spoiled() -> impl Strategy<Value = VerdictSet> {
    (verdicts(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut set, place, first)| {
        let game =
            if first { Match { first: set.players, second: 0 } } else { Match { first: 0, second: set.players + 1 } };
        set.verdicts.insert(place.index(set.verdicts.len() + 1), (game, Winner::First));
        set
    })
}

/// What weighing, rendering and parsing make of these.
fn all_calls(
    judge: &dyn MetaJudge,
    cases: &[(VerdictSet, PositionWins, String, String)],
) -> Result<Vec<impl std::fmt::Debug + use<>>, PluginError> {
    let items: Vec<MetaJudgeItem<'_>> =
        cases.iter().map(|(_, _, first, second)| MetaJudgeItem { first, second, ..ITEM }).collect();
    let texts: Vec<&str> = cases.iter().map(|(_, _, _, text)| text.as_str()).collect();
    let sets: Vec<VerdictSet> = cases.iter().map(|(set, ..)| set.clone()).collect();
    let wins: Vec<PositionWins> = cases.iter().map(|(_, wins, ..)| *wins).collect();
    let players: Vec<u32> = sets.iter().map(|set| set.players).collect();
    let asked = judge.render(&items)?.into_iter().zip(judge.parse(&texts)?);
    Ok(asked.zip(judge.schedule(&players)?).zip(judge.weigh(&sets, &wins)?).collect())
}

/// Closing lines in both spellings: the noun that stands in them, else one put before what names the winner.
fn spelled(lines: &[(Winner, String)]) -> Vec<(String, String)> {
    let nouns = [["judgment", "judgement"], ["Judgment", "Judgement"]];
    let both = |(_, line): &(Winner, String)| {
        if let Some([one, other]) = nouns.iter().find(|nouns| nouns.iter().any(|noun| line.contains(noun))) {
            let one_way = line.replace(other, one);
            return (one_way.clone(), one_way.replace(one, other));
        }
        let differs = |(_, other): &(Winner, String)| line.bytes().zip(other.bytes()).position(|(a, b)| a != b);
        let at = lines.iter().filter_map(differs).min().unwrap_or(0);
        // Back to where the word begins.
        let before = line.get(..at).unwrap_or("");
        let word = before.trim_end_matches(char::is_alphanumeric).len();
        let (before, name) = line.split_at(word);
        (format!("{before}Judgment {name}"), format!("{before}Judgement {name}"))
    };
    lines.iter().filter(|(winner, _)| *winner != Winner::Tie).map(both).collect()
}

const ITEM: MetaJudgeItem<'static> = MetaJudgeItem {
    prompt: "what is asked",
    response: "what is answered",
    criteria: "how it is scored",
    first: "the first opinion",
    second: "the second opinion",
};

/// A text that holds closing lines and what ends its own place still ends neither.
fn place_law(
    words: &'static str,
    judge: &dyn MetaJudge,
    plan: Plan,
    lines: &[(Winner, String)],
    item: impl for<'a> Fn(&'a str) -> MetaJudgeItem<'a>,
) -> LawOutcome {
    let lines = std::iter::once(String::new()).chain(lines.iter().map(|(_, line)| line.clone())).collect::<Vec<_>>();
    law(words, plan, (text(), text(), select(lines)), |(before, after, line)| {
        let render = |text: &str| conversation(judge.render(&[item(text)]));
        inserted(&render, &break_out(&render, &format!("{before}\n{line}"), &format!("{line}\n{after}"))?)
    })
}

fn weigh(judge: &dyn MetaJudge, set: &VerdictSet, wins: PositionWins) -> Result<Weighed, String> {
    only(judge.weigh(std::slice::from_ref(set), &[wins]))
}

/// The battles added up, with this share of every tie for either side.
fn matrix(set: &VerdictSet, weighed: &Weighed, tie_share: f64) -> BattleMatrix {
    BattleMatrix::of(&RankingProblem { players: set.players, battles: weighed.battles.clone() }, tie_share)
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
    let battles = matrix(set, weighed, 0.0);
    for m in 0..set.players {
        for n in 0..set.players {
            let count = |game: Match, winner: Winner| {
                set.verdicts.iter().filter(|verdict| **verdict == (game, winner)).count() as f64
            };
            let expected = w1 * count(Match { first: m, second: n }, Winner::First)
                + w2 * count(Match { first: n, second: m }, Winner::Second);
            near(&format!("B of {m} over {n}"), battles.get(m as usize, n as usize), expected, 1e-12)?;
        }
    }
    Ok(())
}
