//! Log-probabilities of the pairs under the reference model: computed once per iteration, kept, keyed by the model.

use metareward_api::{EngineError, Example, Pair, PairKind, PromptId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, Work};
use crate::{
    RunError,
    events::StageWatch,
    store::{Model, Place, Stage, StageRecord},
};

/// Log-probabilities of one pair under the reference model; the records are in the order of the pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceLogProbs {
    /// Kind of the pair.
    pub kind: PairKind,
    /// Its prompt.
    pub prompt: PromptId,
    /// log π_ref(chosen), summed over its tokens.
    pub chosen: f64,
    /// log π_ref(rejected), summed over its tokens.
    pub rejected: f64,
    /// Tokens of the chosen completion.
    pub chosen_tokens: u32,
    /// Tokens of the rejected completion.
    pub rejected_tokens: u32,
}

/// Stage `reference`.
pub(crate) struct Reference<'a> {
    pub place: Place,
    pub model: Model,
    /// Pair stages that are trained on, with the index of a shard in each.
    pub pairs: &'a [(&'a StageRecord, usize)],
    pub max_length: u32,
}

impl Reference<'_> {
    fn source(&self, shard: usize) -> Result<(&StageRecord, usize), RunError> {
        self.pairs.get(shard).copied().ok_or_else(|| RunError::Bug(format!("no pair shard {shard}")))
    }
}

/// Name of a pair in messages to people.
pub(crate) fn name(pair: &Pair) -> String {
    match pair.response {
        None => format!("actor pair of prompt {}", pair.prompt),
        Some(response) => format!("judge pair of prompt {}, response {response}", pair.prompt),
    }
}

impl Work for Reference<'_> {
    type Record = ReferenceLogProbs;

    fn place(&self) -> &Place {
        &self.place
    }

    fn stage(&self) -> Stage {
        Stage::Reference
    }

    fn shards(&self) -> usize {
        self.pairs.len()
    }

    fn key(&self, _: &Context<'_>, shard: usize) -> Result<Value, RunError> {
        let (pairs, index) = self.source(shard)?;
        Ok(json!({
            "model": self.model.fingerprint,
            "pairs": super::upstream(pairs, index)?,
            "max_length": self.max_length,
        }))
    }

    fn compute(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        watch: &StageWatch<'_>,
    ) -> Result<Vec<ReferenceLogProbs>, RunError> {
        let (stage, index) = self.source(shard)?;
        let pairs: Vec<Pair> = cx.store.read(stage, index)?;
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let side = |pair: &Pair, side: &str, text: &str| Example {
            id: format!("{}, {side}", name(pair)),
            messages: pair.messages.clone(),
            completion: text.to_owned(),
        };
        let examples: Vec<Example> = pairs
            .iter()
            .flat_map(|pair| [side(pair, "chosen", &pair.chosen.text), side(pair, "rejected", &pair.rejected.text)])
            .collect();
        let measured = cx.trainer.log_probabilities(&self.model.folder, &examples, self.max_length, watch)?;
        if measured.len() != examples.len() || measured.iter().any(|measured| !measured.sum.is_finite()) {
            let message = "the engine gave log-probabilities that are missing or not finite".into();
            return Err(RunError::Engine(EngineError::Machine(message)));
        }
        Ok(pairs
            .iter()
            .zip(measured.chunks_exact(2))
            .filter_map(|(pair, measured)| {
                let [chosen, rejected] = measured else { return None };
                Some(ReferenceLogProbs {
                    kind: pair.kind,
                    prompt: pair.prompt.clone(),
                    chosen: chosen.sum,
                    rejected: rejected.sum,
                    chosen_tokens: chosen.tokens,
                    rejected_tokens: rejected.tokens,
                })
            })
            .collect())
    }
}
