//! One iteration of Meta-Rewarding, as in sections 2 and 3 of the paper.

use std::path::PathBuf;

use metareward_api::PositionWins;
use serde_json::json;

use crate::{
    Fingerprint, RunError,
    config::Reference as ReferenceModel,
    stages::{
        Context, Drawer,
        judge::Judge,
        meta::Compare,
        pairs::{Pairs, Sources, WithoutPair},
        prompts::{Pool, Prompts},
        rate::Rate,
        reference::Reference,
        respond::Respond,
        train::{Data, Training, max_length, train, whole},
    },
    statistics::{JudgmentStatistics, PairStatistics, PairSummary, RatingStatistics, ResponseStatistics},
    statistics::{Statistics, VerdictStatistics},
    store::{Model, Place, StageRecord},
};

/// What an iteration may need of those before it.
pub(crate) struct History {
    pub pool: Pool,
    /// The model of the first iteration.
    pub initial: Model,
    /// Pair stages so far.
    pub pairs: Vec<StageRecord>,
    /// Wins by position so far.
    pub wins: PositionWins,
}

/// M_t answers, judges its answers, judges its judgments, and is trained on the preferences that come out: M_{t+1}.
pub(crate) fn iterate(cx: &mut Context<'_>, t: u32, model: &Model, history: &mut History) -> Result<Model, RunError> {
    let config = cx.config().clone();
    let place = Place::Iteration(t);
    let shard_size = config.prompts.shard_size as usize;
    let own = Drawer { model: model.clone(), served: None, iteration: t, seeds: cx.seeds() };
    let of_role = |cx: &Context<'_>, role| drawer(cx, config.at(role, t)?, &own, history.initial.clone());
    let actor = of_role(cx, &config.roles.actor)?;
    let judge = of_role(cx, &config.roles.judge)?;
    let meta_judge = of_role(cx, &config.roles.meta_judge)?;

    // Section 2, step 1: K responses to every prompt.
    let (sample, again) = history.pool.iteration(&config, t)?;
    if again {
        cx.journal.warn(Some(&place), "the pool of prompts is used up; this iteration begins it again");
    }
    let prompts = &cx.stage(Prompts { place: place.clone(), prompts: sample, shard_size })?;
    let responses = &cx.stage(Respond {
        place: place.clone(),
        drawer: actor.clone(),
        prompts,
        k: *config.at(&config.actor.responses, t)?,
        statistics: ResponseStatistics::default(),
    })?;

    // Section 2, step 2: N judgments of every response.
    let judgments = &cx.stage(Judge {
        place: place.clone(),
        drawer: judge.clone(),
        prompts,
        responses,
        n: *config.at(&config.judge.judgments, t)?,
        limit: None,
        shard_size,
        statistics: JudgmentStatistics::default(),
    })?;
    if let Statistics::Judgments(figures) = &judgments.statistics
        && let Some(warning) = figures.saturation()
    {
        cx.journal.warn(Some(&place), warning);
    }

    // Section 3, steps 1 to 6: the widest response's judgments meet, verdicts, weights, ratings.
    let ratings = match *config.at(&config.meta_judge.pairs, t)? {
        false => None,
        true => {
            let verdicts = &cx.stage(Compare {
                place: place.clone(),
                drawer: meta_judge,
                prompts,
                responses,
                judgments,
                statistics: VerdictStatistics::default(),
            })?;
            let iteration_wins = position_wins(verdicts);
            history.wins.first += iteration_wins.first;
            history.wins.second += iteration_wins.second;
            Some(cx.stage(Rate {
                place: place.clone(),
                iteration: t,
                seeds: own.seeds,
                prompts,
                judgments,
                verdicts,
                iteration_wins,
                run_wins: history.wins,
                statistics: RatingStatistics::default(),
            })?)
        }
    };

    // Section 2, steps 3 and 4, and section 3, step 7: rewards and ratings choose the pairs.
    let actor_pairs = *config.at(&config.actor.pairs, t)?;
    let sources = Sources {
        place: place.clone(),
        drawer: actor,
        judge: judge.model,
        prompts,
        responses,
        judgments,
        ratings: ratings.as_ref(),
        actor_pairs,
    };
    let pairs = cx.stage(Pairs { sources: sources.clone(), statistics: PairStatistics::default() })?;
    cx.stage(WithoutPair { sources })?;
    if pairs.records == 0 {
        return Err(RunError::NoPairs { iteration: t, reasons: reasons(&pairs.statistics) });
    }

    // Reference log-probabilities, once; then training, started from M_t.
    let carried = *config.at(&config.pairs.carry_over, t)? as usize;
    history.pairs.push(pairs);
    let trained_on: Vec<(&StageRecord, usize)> =
        history.pairs.iter().rev().take(carried + 1).rev().flat_map(whole).collect();
    let optimizer = &cx.plugins.at(t)?.optimizer;
    let reference = match optimizer.ask(|optimizer| optimizer.needs_reference(), |_| String::new())? {
        false => None,
        true => Some(cx.stage(Reference {
            place: place.clone(),
            model: drawer(cx, config.at(&config.pairs.reference, t)?, &own, history.initial.clone())?.model,
            pairs: &trained_on,
            max_length: max_length(cx, &config.train),
        })?),
    };
    train(
        cx,
        &Training {
            place,
            iteration: t,
            name: format!("M{t}"),
            from: model.clone(),
            section: config.train.clone(),
            judge_share: *config.at(&config.pairs.judge_share, t)?,
            data: Data::Preference { pairs: &trained_on, reference: reference.as_ref(), optimizer },
        },
    )
}

/// The model that a config means, where `own` is the one that is being trained.
fn drawer(cx: &Context<'_>, name: &ReferenceModel, own: &Drawer, initial: Model) -> Result<Drawer, RunError> {
    Ok(match name {
        ReferenceModel::DataModel => own.clone(),
        ReferenceModel::Initial => Drawer { model: initial, ..own.clone() },
        ReferenceModel::Folder(path) => {
            Drawer { model: crate::run::named_model(&cx.loaded.folder.join(path))?, ..own.clone() }
        }
        ReferenceModel::Servers(addresses) => {
            Drawer { model: served_model(addresses), served: Some(addresses.clone()), ..own.clone() }
        }
    })
}

/// A model that servers have: known by its name, wherever they are. Without a name by their addresses.
fn served_model(addresses: &str) -> Model {
    let names: Vec<&str> = addresses.split(',').map(|one| one.rsplit_once('#').map_or(one, |(_, name)| name)).collect();
    let first = names.first().copied().unwrap_or_default().trim();
    let fingerprint = Fingerprint::of(&json!({ "served": first }));
    Model { name: first.to_owned(), folder: PathBuf::new(), fingerprint }
}

fn position_wins(verdicts: &StageRecord) -> PositionWins {
    match &verdicts.statistics {
        Statistics::Verdicts(figures) => {
            PositionWins { first: figures.first.count, second: figures.first.of - figures.first.count }
        }
        _ => PositionWins::default(),
    }
}

/// Why there are no pairs, with numbers.
fn reasons(statistics: &Statistics) -> String {
    let Statistics::Pairs(figures) = statistics else { return String::new() };
    let part = |name: &str, summary: &Option<PairSummary>| {
        let counts = summary.iter().flat_map(|summary| &summary.none);
        let counts: Vec<String> = counts.map(|(reason, count)| format!("{count} prompts: {reason}")).collect();
        (!counts.is_empty()).then(|| format!("{name} pairs ({})", counts.join("; ")))
    };
    let parts: Vec<String> = part("actor", &figures.actor).into_iter().chain(part("judge", &figures.judge)).collect();
    parts.join(", ")
}
