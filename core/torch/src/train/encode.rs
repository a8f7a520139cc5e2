//! Records to sequences of tokens.

use metareward_api::{EngineError, Example, Message, PreferenceExample, TrainData};

use super::{batch::Sequence, worker::Unit};
use crate::{error::TorchError, prompting::Prompting};

/// Renders records with a model's chat template and tokenizer.
pub(crate) struct Encoder {
    prompting: Prompting,
    limit: usize,
}

impl Encoder {
    /// Sequences are cut to `limit` tokens.
    pub fn new(prompting: Prompting, limit: usize) -> Self {
        Self { prompting, limit }
    }

    /// An example of supervised fine-tuning, or a text to measure.
    pub fn example(&self, example: &Example) -> Result<Unit, EngineError> {
        let sequence = self.sequence(&example.id, &example.messages, &example.completion)?;
        Ok(Unit { id: example.id.clone(), sequences: vec![sequence], reference: [0.0; 2], weight: 1.0 })
    }

    /// A pair.
    pub fn pair(&self, pair: &PreferenceExample) -> Result<Unit, EngineError> {
        let chosen = self.sequence(&pair.id, &pair.messages, &pair.chosen)?;
        let rejected = self.sequence(&pair.id, &pair.messages, &pair.rejected)?;
        Ok(Unit {
            id: pair.id.clone(),
            sequences: vec![chosen, rejected],
            reference: [pair.reference_chosen, pair.reference_rejected],
            weight: pair.weight,
        })
    }

    /// The record at `index`.
    pub fn record(&self, data: TrainData<'_>, index: u32) -> Result<Unit, EngineError> {
        match data {
            TrainData::Sft(data) => self.example(&data.example(index)?),
            TrainData::Preference { data, .. } => self.pair(&data.pair(index)?),
        }
    }

    fn sequence(&self, id: &str, messages: &[Message], completion: &str) -> Result<Sequence, EngineError> {
        let completed = self.prompting.complete(messages, completion).map_err(|error| match error {
            TorchError::Input(message) => EngineError::Input { record: id.to_owned(), message },
            other => other.into(),
        })?;
        Sequence::new(&completed.prompt, &completed.completion, self.limit, id)
    }
}
