//! The records of a run, prompt by prompt: what the page shows behind its figures.

use std::{collections::BTreeMap, iter::Peekable};

use metareward_api::{Judgment, Pair, Prompt, PromptId, RatedResponse, Response, Verdict};
use metareward_runtime::{Place, Points, Records, RunError, RunReader, Stage, Unpaired};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Everything that an iteration recorded of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptRecords {
    /// The prompt.
    pub prompt: Prompt,
    /// Its responses.
    pub responses: Vec<Response>,
    /// The judgments of the responses.
    pub judgments: Vec<Judgment>,
    /// The verdicts between judgments.
    pub verdicts: Vec<Verdict>,
    /// The ratings of judgments.
    pub ratings: Vec<RatedResponse>,
    /// The pairs that came out.
    pub pairs: Vec<Pair>,
    /// Why a kind of pair did not come out.
    pub unpaired: Vec<Unpaired>,
}

/// Everything that was measured on one held-out prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutRecords {
    /// The prompt.
    pub prompt: Prompt,
    /// What every model did with it, in the order in which the models were made.
    pub models: Vec<ModelRecords>,
}

/// One model on one held-out prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecords {
    /// The model's name.
    pub name: String,
    /// Its responses.
    pub responses: Vec<Response>,
    /// The oracle's points of them.
    pub points: Vec<Points>,
    /// Its judgments of the responses of the run's base model.
    pub judgments: Vec<Judgment>,
}

/// The records of one stage, taken prompt by prompt. Stages keep the order of the prompts.
struct Stream<T: DeserializeOwned> {
    records: Peekable<Records<T>>,
    prompt: fn(&T) -> &PromptId,
}

impl<T: DeserializeOwned> Stream<T> {
    fn open(reader: &RunReader, place: &Place, stage: Stage, prompt: fn(&T) -> &PromptId) -> Result<Self, RunError> {
        Ok(Self { records: reader.records(place, stage)?.peekable(), prompt })
    }

    /// The records of these prompts that come next, each with the index of its prompt.
    fn take(&mut self, prompts: &BTreeMap<PromptId, usize>, mut put: impl FnMut(usize, T)) -> Result<(), RunError> {
        while let Some(next) = self.records.peek() {
            let index = match next {
                Ok(record) => match prompts.get((self.prompt)(record)) {
                    Some(index) => *index,
                    None => break,
                },
                Err(_) => 0,
            };
            if let Some(record) = self.records.next() {
                put(index, record?);
            }
        }
        Ok(())
    }

    /// Records that belong to no prompt that was asked for.
    fn left(self) -> Result<u64, RunError> {
        self.records.map(|record| record.map(|_| 1)).sum()
    }
}

/// Prompts of a place, a shard at a time.
struct Shards {
    prompts: Records<Prompt>,
    sizes: std::vec::IntoIter<u64>,
}

impl Shards {
    fn open(reader: &RunReader, place: &Place) -> Result<Self, RunError> {
        let stage = reader.stage(place, Stage::Prompts)?;
        let sizes: Vec<u64> = stage.iter().flat_map(|stage| &stage.shards).map(|shard| shard.records).collect();
        Ok(Self { prompts: reader.prompts(place)?, sizes: sizes.into_iter() })
    }

    fn next(&mut self) -> Result<Option<Vec<Prompt>>, RunError> {
        let Some(size) = self.sizes.next() else { return Ok(None) };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.prompts.by_ref().take(size).collect::<Result<_, _>>().map(Some)
    }
}

fn by_id(prompts: &[Prompt]) -> BTreeMap<PromptId, usize> {
    prompts.iter().enumerate().map(|(index, prompt)| (prompt.id.clone(), index)).collect()
}

/// Calls `each` with every prompt of an iteration and all that was recorded of it, in order. Returns how many records
/// belong to none of its prompts: those of a later stage that was made with other settings.
pub(crate) fn of_iteration(
    reader: &RunReader,
    iteration: u32,
    mut each: impl FnMut(PromptRecords),
) -> Result<u64, RunError> {
    let place = Place::Iteration(iteration);
    let mut shards = Shards::open(reader, &place)?;
    let mut responses = Stream::<Response>::open(reader, &place, Stage::Responses, |r| &r.prompt)?;
    let mut judgments = Stream::<Judgment>::open(reader, &place, Stage::Judgments, |r| &r.prompt)?;
    let mut verdicts = Stream::<Verdict>::open(reader, &place, Stage::Verdicts, |r| &r.prompt)?;
    let mut ratings = Stream::<RatedResponse>::open(reader, &place, Stage::Ratings, |r| &r.prompt)?;
    let mut pairs = Stream::<Pair>::open(reader, &place, Stage::Pairs, |r| &r.prompt)?;
    let mut unpaired = Stream::<Unpaired>::open(reader, &place, Stage::Unpaired, |r| &r.prompt)?;
    while let Some(prompts) = shards.next()? {
        let ids = by_id(&prompts);
        let empty = |prompt| PromptRecords {
            prompt,
            responses: Vec::new(),
            judgments: Vec::new(),
            verdicts: Vec::new(),
            ratings: Vec::new(),
            pairs: Vec::new(),
            unpaired: Vec::new(),
        };
        let mut of: Vec<PromptRecords> = prompts.into_iter().map(empty).collect();
        responses.take(&ids, |at, record| of[at].responses.push(record))?;
        judgments.take(&ids, |at, record| of[at].judgments.push(record))?;
        verdicts.take(&ids, |at, record| of[at].verdicts.push(record))?;
        ratings.take(&ids, |at, record| of[at].ratings.push(record))?;
        pairs.take(&ids, |at, record| of[at].pairs.push(record))?;
        unpaired.take(&ids, |at, record| of[at].unpaired.push(record))?;
        of.into_iter().for_each(&mut each);
    }
    Ok(responses.left()? + judgments.left()? + verdicts.left()? + ratings.left()? + pairs.left()? + unpaired.left()?)
}

/// Calls `each` with every held-out prompt and all that the models named did with it, in order. Returns how many records
/// belong to none of the prompts.
pub(crate) fn of_evaluation(
    reader: &RunReader,
    models: &[String],
    mut each: impl FnMut(HeldOutRecords),
) -> Result<u64, RunError> {
    let mut shards = Shards::open(reader, &Place::Evaluation("held-out".into()))?;
    let mut streams = Vec::new();
    for name in models {
        let place = Place::Evaluation(name.clone());
        streams.push((
            Stream::<Response>::open(reader, &place, Stage::Responses, |r| &r.prompt)?,
            Stream::<Points>::open(reader, &place, Stage::Points, |r| &r.prompt)?,
            Stream::<Judgment>::open(reader, &place, Stage::Judgments, |r| &r.prompt)?,
        ));
    }
    while let Some(prompts) = shards.next()? {
        let ids = by_id(&prompts);
        let model = |name: &String| ModelRecords {
            name: name.clone(),
            responses: Vec::new(),
            points: Vec::new(),
            judgments: Vec::new(),
        };
        let empty = |prompt| HeldOutRecords { prompt, models: models.iter().map(model).collect() };
        let mut of: Vec<HeldOutRecords> = prompts.into_iter().map(empty).collect();
        for (place, (responses, points, judgments)) in streams.iter_mut().enumerate() {
            responses.take(&ids, |at, record| of[at].models[place].responses.push(record))?;
            points.take(&ids, |at, record| of[at].models[place].points.push(record))?;
            judgments.take(&ids, |at, record| of[at].models[place].judgments.push(record))?;
        }
        of.into_iter().for_each(&mut each);
    }
    let mut left = 0;
    for (responses, points, judgments) in streams {
        left += responses.left()? + points.left()? + judgments.left()?;
    }
    Ok(left)
}
