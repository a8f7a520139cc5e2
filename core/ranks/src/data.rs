//! A training job's examples on their way from rank 0, which reads them, to the others, which keep them in memory.

use metareward_api::{EngineError, Example, PreferenceData, PreferenceExample, SftData, TrainData};

use crate::{
    Exchange, RanksError,
    message::{Block, broadcast, encode},
};

/// Bytes of a block, about.
const BLOCK: usize = 4 << 20;

/// Sends all examples of `data`.
pub(crate) fn send(exchange: &dyn Exchange, data: &TrainData<'_>) -> Result<(), EngineError> {
    match data {
        TrainData::Sft(data) => send_all(exchange, data.len(), |index| data.example(index), Block::Sft),
        TrainData::Preference { data, .. } => {
            send_all(exchange, data.len(), |index| data.pair(index), Block::Preference)
        }
    }
}

fn send_all<T: serde::Serialize>(
    exchange: &dyn Exchange,
    length: u32,
    read: impl Fn(u32) -> Result<T, EngineError>,
    block: impl Fn(Vec<T>) -> Block,
) -> Result<(), EngineError> {
    let (mut held, mut bytes) = (Vec::new(), 0);
    for index in 0..length {
        match read(index) {
            Ok(example) => {
                bytes += encode(&example)?.len();
                held.push(example);
            }
            Err(error) => {
                broadcast(exchange, Some(&Block::GivenUp))?;
                return Err(error);
            }
        }
        if bytes >= BLOCK || index + 1 == length {
            broadcast(exchange, Some(&block(std::mem::take(&mut held))))?;
            bytes = 0;
        }
    }
    Ok(())
}

/// Examples in memory.
pub(crate) enum Held {
    Sft(Sft),
    Preference(Preference),
}

pub(crate) struct Sft(Vec<Example>);

pub(crate) struct Preference(Vec<PreferenceExample>);

impl Held {
    /// Takes `length` examples; `None` where rank 0 gave up.
    pub fn receive(exchange: &dyn Exchange, preference: bool, length: u32) -> Result<Option<Self>, RanksError> {
        let (mut sft, mut pairs) = (Vec::new(), Vec::new());
        while sft.len().max(pairs.len()) < length as usize {
            match broadcast::<Block>(exchange, None)? {
                Block::Sft(more) => sft.extend(more),
                Block::Preference(more) => pairs.extend(more),
                Block::GivenUp => return Ok(None),
            }
        }
        Ok(Some(if preference { Held::Preference(Preference(pairs)) } else { Held::Sft(Sft(sft)) }))
    }
}

fn missing(index: u32) -> EngineError {
    EngineError::Machine(format!("there is no example {index}: this is a bug"))
}

impl SftData for Sft {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn example(&self, index: u32) -> Result<Example, EngineError> {
        self.0.get(index as usize).cloned().ok_or_else(|| missing(index))
    }
}

impl PreferenceData for Preference {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn pair(&self, index: u32) -> Result<PreferenceExample, EngineError> {
        self.0.get(index as usize).cloned().ok_or_else(|| missing(index))
    }
}
