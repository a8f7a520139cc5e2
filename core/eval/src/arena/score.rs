//! Scores from judgments: the statistics of both versions of Arena-Hard, with bootstrap intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use metareward_api::{Battle, RankingProblem};
use metareward_plugin::ranking::{BradleyTerry, Meetings, Solver, Ties};
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::judgments::{Judgment, Judgments};
use crate::bracketed::Unread;
use crate::error::EvalError;
use crate::logistic::sigmoid;
use crate::random::Random;
use crate::show::{number, share};
use crate::{Bootstrap, Figure, Interval, mean, quantile};

/// Which published statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Of version 0.1 (2024), the paper's: Bradley–Terry ratings of all models together, and from them the chance of
    /// winning against the anchor. A game without a label is left out, the other game of its judgment stays.
    BradleyTerry,
    /// Of version 2.0 (2025): the model's mean points. A judgment in which either game has no label is left out.
    MeanPoints,
}

/// What is drawn when an interval is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draws {
    /// Single games, a strong win being three of them, as the public tool does. The interval comes out too narrow,
    /// since both games on a question are alike.
    Games,
    /// Questions, with all games on them.
    Questions,
}

/// How scores are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaOptions {
    /// The model that the score is a win rate against.
    pub anchor: String,
    /// The statistic.
    pub statistic: Statistic,
    /// How many times a strong win counts.
    pub strong_weight: u32,
    /// Rounds (`draws`), level and seed of the intervals.
    pub bootstrap: Bootstrap,
    /// What is drawn.
    pub draws: Draws,
}

impl ArenaOptions {
    /// As version 0.1 publishes: 100 rounds of single games, 95 %.
    pub fn version_0_1(anchor: &str) -> ArenaOptions {
        ArenaOptions {
            anchor: anchor.to_string(),
            statistic: Statistic::BradleyTerry,
            strong_weight: 3,
            bootstrap: Bootstrap { draws: 100, level: 0.95, seed: 1 },
            draws: Draws::Games,
        }
    }

    /// As version 2.0 publishes: 100 rounds of single games, 90 %.
    pub fn version_2_0(anchor: &str) -> ArenaOptions {
        let bootstrap = Bootstrap { draws: 100, level: 0.90, seed: 1 };
        ArenaOptions { statistic: Statistic::MeanPoints, bootstrap, ..ArenaOptions::version_0_1(anchor) }
    }
}

/// One model's score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaRow {
    /// The model.
    pub model: String,
    /// Chance of winning against the anchor, from 0 to 1. `n` counts games, a strong one once.
    pub score: Figure,
    /// The same on an Elo scale, the anchor at 1000 and 400 points a factor of ten in the odds. `None` where every game
    /// was won, or none.
    pub elo: Option<f64>,
    /// Games that were won, tied and lost, a strong one once.
    pub games: [usize; 3],
    /// Games without a label, by why.
    pub unread: BTreeMap<Unread, usize>,
    /// Share of games in which the answer shown first won, of those that were not tied.
    pub first_wins: Option<f64>,
    /// Mean length of its answers in characters; `None` until [`ArenaReport::add_lengths`] is given answers of it.
    pub length: Option<Figure>,
}

/// Scores of all models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaReport {
    /// Who judged, where given.
    pub judge: Option<String>,
    /// How the scores were made.
    pub options: ArenaOptions,
    /// The models, the best first.
    pub rows: Vec<ArenaRow>,
}

/// One readable game: who played, the first player's points and how often it counts.
#[derive(Clone, Copy)]
struct Played {
    model: u32,
    opponent: u32,
    points: f64,
    weight: u32,
    question: usize,
}

/// Scores models from judgments.
///
/// # Errors
/// When there is no judgment, no model has a readable game, a model has no games that lead to the anchor, or an option
/// makes no sense.
pub fn score(judgments: &Judgments, options: &ArenaOptions) -> Result<ArenaReport, EvalError> {
    let anchor = options.anchor.as_str();
    if options.strong_weight == 0 {
        let message = "must be at least 1".to_string();
        return Err(EvalError::Option { option: "strong_weight", message });
    }
    let against = |judgment: &Judgment| judgment.opponent.clone().unwrap_or_else(|| anchor.to_string());
    let names: BTreeSet<String> = judgments
        .items
        .iter()
        .flat_map(|item| [item.model.clone(), against(item)])
        .chain([anchor.to_string()])
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let place = |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).unwrap_or_default() as u32;
    let questions: BTreeSet<&str> = judgments.items.iter().map(|item| item.question.as_str()).collect();
    let questions: Vec<&str> = questions.into_iter().collect();

    let mut played = Vec::new();
    let mut rows: BTreeMap<u32, (ArenaRow, [usize; 2], BTreeSet<usize>)> = BTreeMap::new();
    for item in &judgments.items {
        let opponent = against(item);
        if opponent == item.model {
            continue;
        }
        let (model, opponent) = (place(&item.model), place(&opponent));
        let question = questions.binary_search(&item.question.as_str()).unwrap_or_default();
        let (row, decided, seen) =
            rows.entry(model).or_insert_with(|| (empty_row(&item.model), [0; 2], BTreeSet::new()));
        let labels = [&item.first.label, &item.second.label];
        for label in labels {
            if let Err(why) = label {
                *row.unread.entry(why.clone()).or_default() += 1;
            }
        }
        if options.statistic == Statistic::MeanPoints && labels.iter().any(|label| label.is_err()) {
            continue;
        }
        for (label, model_is_first) in [(labels[0], false), (labels[1], true)] {
            let Ok(label) = label else { continue };
            let (first_points, weight) = label.points(options.strong_weight);
            let points = if model_is_first { first_points } else { 1.0 - first_points };
            let outcome = if points > 0.5 {
                0
            } else if points < 0.5 {
                2
            } else {
                1
            };
            row.games[outcome] += 1;
            if first_points != 0.5 {
                decided[usize::from(first_points < 0.5)] += 1;
            }
            seen.insert(question);
            played.push(Played { model, opponent, points, weight, question });
        }
    }
    if played.is_empty() {
        return Err(EvalError::Empty { place: "the judgments".to_string(), expected: "expected games with a label" });
    }
    let models: Vec<u32> = rows.keys().copied().collect();
    let anchor_place = place(anchor);
    let mut rate = Rate::new(names.len(), anchor_place, options.statistic);
    let scores = rate.scores(&mut played.iter().copied().map(|game| (game, game.weight)), &models);
    let intervals = intervals(&played, questions.len(), options, &models, &mut rate);
    let mut found = Vec::new();
    for ((model, (mut row, decided, seen)), (score, interval)) in
        rows.into_iter().zip(scores.into_iter().zip(intervals))
    {
        let n: usize = row.games.iter().sum();
        if model == anchor_place {
            continue;
        }
        let value = score.ok_or_else(|| EvalError::Form {
            place: row.model.clone(),
            message: format!("no readable game leads from it to {anchor}, so it has no score"),
        })?;
        row.score = Figure { value, interval, n, prompts: seen.len() };
        let odds = value / (1.0 - value);
        row.elo = (value > 0.0 && value < 1.0).then(|| 1000.0 + 400.0 * libm::log10(odds));
        let all = decided[0] + decided[1];
        row.first_wins = (all > 0).then(|| decided[0] as f64 / all as f64);
        found.push(row);
    }
    found.sort_by(|a, b| b.score.value.total_cmp(&a.score.value).then_with(|| a.model.cmp(&b.model)));
    Ok(ArenaReport { judge: judgments.judge.clone(), options: options.clone(), rows: found })
}

fn empty_row(model: &str) -> ArenaRow {
    ArenaRow {
        model: model.to_string(),
        score: Figure { value: 0.0, interval: None, n: 0, prompts: 0 },
        elo: None,
        games: [0; 3],
        unread: BTreeMap::new(),
        first_wins: None,
        length: None,
    }
}

/// Computes every model's score from games again and again, without new memory.
struct Rate {
    players: usize,
    anchor: u32,
    statistic: Statistic,
    /// Points and weight of each player against each other, row against column.
    points: Vec<f64>,
    weights: Vec<f64>,
    solver: Solver,
}

impl Rate {
    fn new(players: usize, anchor: u32, statistic: Statistic) -> Rate {
        let cells = players * players;
        Rate {
            players,
            anchor,
            statistic,
            points: vec![0.0; cells],
            weights: vec![0.0; cells],
            solver: Solver::default(),
        }
    }

    /// Scores of `models`, from games with their weights. `None` for a model whose games do not lead to the anchor.
    fn scores(&mut self, games: &mut dyn Iterator<Item = (Played, u32)>, models: &[u32]) -> Vec<Option<f64>> {
        self.points.fill(0.0);
        self.weights.fill(0.0);
        for (game, weight) in games {
            let cell = game.model as usize * self.players + game.opponent as usize;
            self.points[cell] += f64::from(weight) * game.points;
            self.weights[cell] += f64::from(weight);
        }
        let mean = |model: &u32| {
            let row = *model as usize * self.players..(*model as usize + 1) * self.players;
            let weight: f64 = self.weights[row.clone()].iter().sum();
            (weight > 0.0).then(|| self.points[row].iter().sum::<f64>() / weight)
        };
        // Where everyone has met the anchor and nobody else, the maximum of the likelihood is each one's share of
        // points.
        let star = (0..self.players * self.players)
            .all(|cell| self.weights[cell] == 0.0 || (cell % self.players) as u32 == self.anchor);
        if self.statistic == Statistic::MeanPoints || star {
            return models.iter().map(mean).collect();
        }
        self.bradley_terry(models)
    }

    fn bradley_terry(&mut self, models: &[u32]) -> Vec<Option<f64>> {
        let cells = (0..self.players * self.players).filter(|cell| self.weights[*cell] > 0.0);
        let battles = cells.map(|cell| Battle {
            left: (cell / self.players) as u32,
            right: (cell % self.players) as u32,
            left_wins: self.points[cell],
            right_wins: self.weights[cell] - self.points[cell],
            ties: 0.0,
        });
        let problem = RankingProblem { players: self.players as u32, battles: battles.collect() };
        let Ok(meetings) = Meetings::of(&problem, Ties::Counted) else { return vec![None; models.len()] };
        // Where someone won everything or nothing, the solver holds its group with a small penalty, and the score stays
        // short of 0 or 1.
        let fit = self.solver.fit(&meetings, BradleyTerry { regularization: 0.0, tie_share: 0.5 });
        let home = meetings.groups().of(self.anchor);
        let anchor = fit.eps[self.anchor as usize];
        let score = |model: &u32| {
            let connected = meetings.groups().of(*model) == home && fit.converged;
            connected.then(|| sigmoid(fit.eps[*model as usize] - anchor))
        };
        models.iter().map(score).collect()
    }
}

/// An interval per model: games or questions are drawn with replacement, all models' together.
fn intervals(
    played: &[Played],
    questions: usize,
    options: &ArenaOptions,
    models: &[u32],
    rate: &mut Rate,
) -> Vec<Option<Interval>> {
    // A strong game is drawn as the several games that it counts as.
    let single: Vec<Played> = played.iter().flat_map(|game| std::iter::repeat_n(*game, game.weight as usize)).collect();
    let mut random = Random::new(options.bootstrap.seed);
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); models.len()];
    let units = match options.draws {
        Draws::Games => single.len(),
        Draws::Questions => questions,
    };
    let mut times = vec![0_u32; units];
    for _ in 0..options.bootstrap.draws {
        times.fill(0);
        for _ in 0..units {
            times[random.below(units)] += 1;
        }
        let mut drawn: Box<dyn Iterator<Item = (Played, u32)>> = match options.draws {
            Draws::Games => Box::new(single.iter().copied().zip(times.iter().copied())),
            Draws::Questions => Box::new(played.iter().map(|game| (*game, game.weight * times[game.question]))),
        };
        for (values, score) in values.iter_mut().zip(rate.scores(&mut drawn, models)) {
            values.extend(score);
        }
    }
    let tail = (1.0 - options.bootstrap.level.clamp(0.0, 1.0)) / 2.0;
    let interval = |mut values: Vec<f64>| {
        let enough = values.len() as f64 >= 0.95 * f64::from(options.bootstrap.draws);
        values.sort_by(f64::total_cmp);
        let bounds = Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? };
        (enough && units > 1).then_some(bounds)
    };
    values.into_iter().map(interval).collect()
}

impl ArenaReport {
    /// Adds the mean length of each model's answers.
    pub fn add_lengths(&mut self, answers: &Answers) {
        for row in &mut self.rows {
            row.length = answers.lengths.get(&row.model).and_then(|lengths| mean(lengths, &self.options.bootstrap));
        }
    }
}

impl fmt::Display for ArenaReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let options = &self.options;
        let statistic = match options.statistic {
            Statistic::BradleyTerry => "Bradley–Terry (version 0.1)",
            Statistic::MeanPoints => "mean points (version 2.0)",
        };
        let drawn = match options.draws {
            Draws::Games => "games",
            Draws::Questions => "questions",
        };
        let judge = self.judge.as_deref().unwrap_or("a judge without a name");
        writeln!(f, "Chance of winning against {}, judged by {judge}; {statistic}", options.anchor)?;
        let (rounds, weight) = (options.bootstrap.draws, options.strong_weight);
        writeln!(f, "strong wins count {weight} times; intervals from {rounds} draws of {drawn}; n counts games")?;
        for row in &self.rows {
            let [won, tied, lost] = row.games;
            write!(f, "{}: {}; {won} won, {tied} tied, {lost} lost", row.model, share(&row.score, &options.bootstrap))?;
            if let Some(first) = row.first_wins {
                write!(f, "; the answer shown first wins {:.1} % of decided games", 100.0 * first)?;
            }
            if let Some(length) = &row.length {
                write!(f, "; mean length {}", number(length, &self.options.bootstrap, 1, " characters"))?;
            }
            for (why, count) in &row.unread {
                write!(f, "; {count} not counted: {why}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
