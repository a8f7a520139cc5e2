//! Calls, tokens and disk of every stage.

use super::{Load, StageCost, lengths::Lengths};
use crate::{
    Loaded, ModelShape, Place, RunError, Stage,
    config::{Checkpoints, Keep, TrainSection},
    plugins::{PluginSet, Plugins},
};

/// The stages of a run, and the most bytes that lie on disk only while a model is trained.
pub(super) struct Counted {
    pub stages: Vec<StageCost>,
    pub passing: f64,
}

struct Counter<'a> {
    loaded: &'a Loaded,
    lengths: &'a Lengths,
    parameters: f64,
    /// Bytes of the model's files.
    weights: f64,
    counted: Counted,
}

/// Answers of one kind that are drawn in a stage.
struct Draws {
    place: Place,
    stage: Stage,
    answers: f64,
    read: f64,
    /// Tokens of an answer, and of the longest.
    length: (f64, f64),
    /// Tokens of the conversation before it.
    before: f64,
    /// Prompts of the stage.
    prompts: f64,
}

pub(super) fn count(
    loaded: &Loaded,
    plugins: &Plugins,
    model: &ModelShape,
    lengths: &Lengths,
) -> Result<Counted, RunError> {
    let width = if loaded.config.engine.dtype == "f32" { 4.0 } else { 2.0 };
    let parameters = model.parameters as f64;
    let counted = Counted { stages: Vec::new(), passing: 0.0 };
    let mut counter = Counter { loaded, lengths, parameters, weights: width * parameters, counted };
    counter.sft();
    for t in 1..=loaded.config.iterations {
        counter.iteration(plugins.at(t)?, t)?;
    }
    counter.evaluation(plugins.at(0)?);
    Ok(counter.counted)
}

impl Counter<'_> {
    fn sft(&mut self) {
        let (sft, lengths) = (&self.loaded.config.sft, self.lengths);
        if !sft.enabled {
            return;
        }
        let of = [
            (sft.demonstrations, lengths.prompt + lengths.response),
            (sft.judge_examples, lengths.judge.tokens + lengths.response + lengths.judgment),
            (sft.meta_examples, lengths.meta.tokens + lengths.response + 2.0 * lengths.judgment + lengths.verdict),
        ];
        let examples: f64 = of.iter().map(|(count, _)| f64::from(*count)).sum();
        let read: f64 = of.iter().map(|(count, length)| f64::from(*count) * length).sum();
        self.training(&Place::Sft, &sft.train, 1, (examples, 1.0), read);
    }

    fn iteration(&mut self, set: &PluginSet, t: u32) -> Result<(), RunError> {
        let (config, lengths) = (&self.loaded.config, self.lengths);
        let place = Place::Iteration(t);
        let prompts = f64::from(*config.at(&config.prompts.per_iteration, t)?);
        let k = f64::from(*config.at(&config.actor.responses, t)?);
        let players = *config.at(&config.judge.judgments, t)?;
        self.draws(Draws {
            place: place.clone(),
            stage: Stage::Responses,
            answers: prompts * k,
            read: prompts * lengths.prompt,
            length: (lengths.response, lengths.longest[0]),
            before: lengths.prompt,
            prompts,
        });
        self.judging(&place, set, prompts, (k, f64::from(players)), lengths.response);
        let of_actor = 2.0 * (lengths.prompt + lengths.response);
        let of_judge = 2.0 * (lengths.judge.tokens + lengths.response + lengths.judgment);
        let actors = if *config.at(&config.actor.pairs, t)? { prompts } else { 0.0 };
        let judges = if *config.at(&config.meta_judge.pairs, t)? {
            self.verdicts(&place, set, prompts, players)?;
            prompts
        } else {
            0.0
        };
        let (pairs, read) = (actors + judges, actors * of_actor + judges * of_judge);
        self.add(&place, Stage::Pairs, [pairs, 0.0, 0.0, read * 4.0], Load::default());
        let sequence = if pairs > 0.0 { read / (2.0 * pairs) } else { 0.0 };
        let load = Load { sequence, ..Load::default() };
        self.add(&place, Stage::Reference, [2.0 * pairs, read, 0.0, pairs * 120.0], load);
        let batch = f64::from(*config.at(&config.train.batch_size, t)?);
        let trained = in_an_epoch(actors, judges, *config.at(&config.pairs.judge_share, t)?, batch);
        let (pairs, read) = (actors + trained, actors * of_actor + trained * of_judge);
        self.training(&place, &config.train, t, (pairs, 2.0), read);
        Ok(())
    }

    fn verdicts(&mut self, place: &Place, set: &PluginSet, prompts: f64, players: u32) -> Result<(), RunError> {
        let lengths = self.lengths;
        let schedule = set.meta_judge.ask(|meta| meta.schedule(&[players]), |_| String::new())?;
        let matches = schedule.into_iter().next().unwrap_or_default();
        let firsts: std::collections::BTreeSet<u32> = matches.iter().map(|pair| pair.first).collect();
        let (count, firsts) = (prompts * matches.len() as f64, prompts * firsts.len() as f64);
        let texts = [(lengths.response, prompts), (lengths.judgment, firsts), (lengths.judgment, count)];
        self.draws(Draws {
            place: place.clone(),
            stage: Stage::Verdicts,
            answers: count,
            read: lengths.meta.computed(prompts, &texts),
            length: (lengths.verdict, lengths.longest[2]),
            before: lengths.meta.tokens + lengths.response + 2.0 * lengths.judgment,
            prompts,
        });
        Ok(())
    }

    /// Judgments of `k` responses to each prompt, `n` of each response.
    fn judging(&mut self, place: &Place, set: &PluginSet, prompts: f64, (k, n): (f64, f64), response: f64) {
        let lengths = self.lengths;
        let (judgments, read, shown) = if set.compares {
            // Alone, a response has nothing to be compared with. Every opponent is met in two places, a conversation each.
            let met = n.min(2.0 * (k - 1.0)).max(0.0);
            let judgments = if k > 1.0 { prompts * k * n } else { 0.0 };
            (judgments, prompts * k * met * (lengths.judge.tokens + 2.0 * response), 2.0 * response)
        } else {
            (prompts * k * n, lengths.judge.computed(prompts, &[(response, prompts * k)]), response)
        };
        self.draws(Draws {
            place: place.clone(),
            stage: Stage::Judgments,
            answers: judgments,
            read,
            length: (lengths.judgment, lengths.longest[1]),
            before: lengths.judge.tokens + shown,
            prompts,
        });
    }

    fn evaluation(&mut self, set: &PluginSet) {
        let (config, lengths) = (&self.loaded.config, self.lengths);
        let evaluation = &config.evaluation;
        if evaluation.prompts == 0 {
            return;
        }
        let models = config.iterations + 1 + u32::from(config.sft.enabled);
        let place = Place::Evaluation(format!("{models} models"));
        let models = f64::from(models);
        let prompts = models * f64::from(evaluation.prompts);
        let k = f64::from(evaluation.responses);
        self.draws(Draws {
            place: place.clone(),
            stage: Stage::Responses,
            answers: prompts * k,
            read: prompts * lengths.prompt,
            length: (lengths.evaluated, lengths.longest[3]),
            before: lengths.prompt,
            prompts,
        });
        let judged = models * f64::from(evaluation.judge_prompts);
        self.judging(&place, set, judged, (k, f64::from(evaluation.judgments)), lengths.evaluated);
    }

    fn draws(&mut self, draws: Draws) {
        let Draws { place, stage, answers, read, length: (length, longest), before, prompts } = draws;
        let shard = f64::from(self.loaded.config.prompts.shard_size);
        let calls = (prompts / shard).ceil().max(1.0);
        // What conversations have in common is kept once for all of them.
        let own = if answers > 0.0 { read / answers } else { 0.0 };
        let load = Load {
            at_once: (answers / calls).round() as u64,
            context: before + length / 2.0,
            own: own + length / 2.0,
            most: own + longest,
            ..Load::default()
        };
        self.add(&place, stage, [answers, read, answers * length, text(answers, length)], load);
    }

    /// Training on so many examples of so many sequences each, `read` tokens in an epoch.
    fn training(
        &mut self,
        place: &Place,
        section: &TrainSection,
        run: u32,
        (examples, sequences): (f64, f64),
        read: f64,
    ) {
        let epochs = epochs(section, run);
        let batch = f64::from(section.batch_size.at(run).copied().unwrap_or(1).max(1));
        let steps = (examples / batch).ceil() * f64::from(epochs);
        let load = Load {
            at_once: (batch.min(examples) * sequences) as u64,
            sequence: if examples > 0.0 { read / (examples * sequences) } else { 0.0 },
            steps: steps as u64,
            epochs,
            ..Load::default()
        };
        // Each epoch's checkpoint, and the state to go on from: weights, and two moments in 32 bits.
        let most = f64::from(epochs) * self.weights + self.weights + 8.0 * self.parameters;
        let disk = match self.loaded.config.store.checkpoints {
            Checkpoints::All => most,
            Checkpoints::Kept => {
                self.counted.passing = self.counted.passing.max(most - self.weights);
                self.weights
            }
        };
        let epochs = f64::from(epochs);
        self.add(place, Stage::Training, [examples * sequences * epochs, read * epochs, 0.0, disk], load);
    }

    fn add(&mut self, place: &Place, stage: Stage, [calls, read, written, disk]: [f64; 4], load: Load) {
        self.counted.stages.push(StageCost {
            place: place.clone(),
            stage,
            calls: calls as u64,
            tokens_read: read as u64,
            tokens_written: written as u64,
            disk_bytes: disk as u64,
            load,
        });
    }
}

/// Judge pairs that an epoch has room for beside so many actor pairs, as batches are laid out (`batches.rs`).
fn in_an_epoch(actors: f64, judges: f64, share: f64, batch: f64) -> f64 {
    if share >= 1.0 || actors == 0.0 {
        return judges;
    }
    let room = (share * batch).floor();
    ((actors / (batch - room).max(1.0)).ceil() * room).min(judges)
}

/// A record's text at four bytes a token, and its other fields.
fn text(answers: f64, length: f64) -> f64 {
    answers * (length * 4.0 + 200.0)
}

/// Epochs that are really run.
fn epochs(section: &TrainSection, run: u32) -> u32 {
    let epochs = section.epochs.at(run).copied().unwrap_or_default();
    match section.keep.at(run) {
        Some(Keep::Epoch(epoch)) => *epoch,
        _ => epochs,
    }
}
