//! Which prompts are worked on: iterations take them from the front of the pool, evaluation from the back.

use metareward_api::{Prompt, Task};
use serde_json::{Value, json};

use super::{Context, Work};
use crate::{
    RunError,
    config::Config,
    events::StageWatch,
    plugins::Bound,
    seeds::{Purpose, Seeds},
    store::{Place, Stage},
};

/// The pool in its seeded order, for as long as prompts are being handed out.
pub(crate) struct Pool {
    prompts: Vec<Prompt>,
    held_out: usize,
}

impl Pool {
    /// Asks the task for the pool and checks that it is large enough and that ids are unique.
    pub fn draw(config: &Config, task: &Bound<dyn Task>) -> Result<Self, RunError> {
        let seed = Seeds::new(config.seed).stage(0, Purpose::Task, &[]);
        let size = config.prompts.pool;
        let prompts = task.ask(|task| task.prompts(seed, size), |item| format!("prompt {item}"))?;
        let mut ids: Vec<_> = prompts.iter().map(|prompt| &prompt.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            let message = format!("prompt id `{twice}` comes twice; give every prompt its own");
            return Err(RunError::Input { place: format!("task {}", config.task.plugin), message });
        }
        let held_out = config.evaluation.prompts as usize;
        let pool = Self { prompts, held_out };
        let largest = config.prompts.per_iteration.values().iter().copied().max().unwrap_or_default();
        if pool.training().len() < largest as usize {
            let message = format!(
                "the pool has {} prompts, {held_out} of them held out for evaluation, and an iteration takes {largest}; \
                 give more prompts, or lower prompts.per_iteration or evaluation.prompts",
                pool.prompts.len()
            );
            return Err(RunError::Input { place: format!("task {}", config.task.plugin), message });
        }
        Ok(pool)
    }

    fn training(&self) -> &[Prompt] {
        self.prompts.get(..self.prompts.len().saturating_sub(self.held_out)).unwrap_or_default()
    }

    /// The held-out prompts, from the back: their number does not change which prompts are trained on.
    pub fn held_out(&self) -> Vec<Prompt> {
        self.prompts.iter().rev().take(self.held_out).cloned().collect()
    }

    /// The prompts of an iteration, and whether the pool had to be begun again for them.
    pub fn iteration(&self, config: &Config, iteration: u32) -> Result<(Vec<Prompt>, bool), RunError> {
        let mut start = 0;
        for earlier in 1..iteration {
            start += *config.at(&config.prompts.per_iteration, earlier)? as usize;
        }
        let count = *config.at(&config.prompts.per_iteration, iteration)? as usize;
        let again = start + count > self.training().len();
        let taken = self.training().iter().cycle().skip(start % self.training().len().max(1)).take(count);
        Ok((taken.cloned().collect(), again))
    }

    /// Every prompt that the run will use.
    pub fn used(&self, config: &Config) -> Result<Vec<Prompt>, RunError> {
        let mut total = 0;
        for iteration in 1..=config.iterations {
            total += *config.at(&config.prompts.per_iteration, iteration)? as usize;
        }
        Ok(self.training().iter().take(total).cloned().chain(self.held_out()).collect())
    }
}

/// Stage `prompts`: writes them down, so that the pool need not stay in memory.
pub(crate) struct Prompts {
    pub place: Place,
    pub prompts: Vec<Prompt>,
    pub shard_size: usize,
}

impl Prompts {
    fn shard(&self, shard: usize) -> &[Prompt] {
        self.prompts.chunks(self.shard_size).nth(shard).unwrap_or_default()
    }
}

impl Work for Prompts {
    type Record = Prompt;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Prompts
    }

    fn shards(&self) -> usize {
        self.prompts.len().div_ceil(self.shard_size)
    }

    fn key(&self, _cx: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        Ok(json!({ "prompts": self.shard(shard) }))
    }

    fn compute(&mut self, _cx: &mut Context<'_>, shard: usize, _: &StageWatch<'_>) -> Result<Vec<Prompt>, RunError> {
        Ok(self.shard(shard).to_vec())
    }
}
