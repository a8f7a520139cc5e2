//! Ranks as threads of one process, and engines whose answers follow from hashes of what is asked.

use std::{
    path::Path,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use metareward_api::{
    Complete, DrawPlan, EngineError, Example, Finish, Generation, GenerationRequest, Generator, Guides, Kind, Message,
    ModelCard, NextTokens, Occasion, Optimizer, Part, Plugin, PluginError, PluginInfo, Progress, Sampler, SamplerItem,
    SequenceLogProb, StepMetrics, TrainData, TrainJob, TrainReport, Trainer, Watch,
};

use crate::{Exchange, Plugins, RanksError};

type Wire = (Vec<Mutex<Sender<Vec<u8>>>>, Vec<Mutex<Receiver<Vec<u8>>>>);

/// One thread's connections: at rank 0 one to and from each other, elsewhere one to and from rank 0.
pub struct Threads {
    rank: usize,
    size: usize,
    wire: Wire,
}

/// The connections of `size` ranks.
pub fn connect(size: usize) -> Vec<Threads> {
    let mut first: Wire = Default::default();
    let mut others = Vec::new();
    for rank in 1..size {
        let ((down, from_first), (up, from_other)) = (channel(), channel());
        first.0.push(Mutex::new(down));
        first.1.push(Mutex::new(from_other));
        others.push(Threads { rank, size, wire: (vec![Mutex::new(up)], vec![Mutex::new(from_first)]) });
    }
    others.insert(0, Threads { rank: 0, size, wire: first });
    others
}

fn send(to: &Mutex<Sender<Vec<u8>>>, bytes: Vec<u8>) -> Result<(), RanksError> {
    to.lock().unwrap().send(bytes).map_err(|_| RanksError::Lost("another rank is gone".into()))
}

fn receive(from: &Mutex<Receiver<Vec<u8>>>) -> Result<Vec<u8>, RanksError> {
    from.lock().unwrap().recv().map_err(|_| RanksError::Lost("another rank is gone".into()))
}

impl Exchange for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RanksError> {
        if self.rank > 0 {
            return receive(&self.wire.1[0]);
        }
        self.wire.0.iter().try_for_each(|to| send(to, bytes.clone()))?;
        Ok(bytes)
    }

    fn gather(&self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, RanksError> {
        if self.rank > 0 {
            return send(&self.wire.0[0], bytes.to_vec()).map(|()| None);
        }
        let mut all = vec![bytes.to_vec()];
        for from in &self.wire.1 {
            all.push(receive(from)?);
        }
        Ok(Some(all))
    }

    fn scatter(&self, mut messages: Vec<Vec<u8>>) -> Result<Vec<u8>, RanksError> {
        if self.rank > 0 {
            return receive(&self.wire.1[0]);
        }
        for (to, message) in self.wire.0.iter().zip(messages.drain(1..)) {
            send(to, message)?;
        }
        Ok(messages.remove(0))
    }
}

pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// What an engine does to a request or an example of this name, besides answering.
pub const FAILS: &str = "fails";
pub const WAITS: &str = "waits for a stop";
pub const PANICS: &str = "panics";

pub struct Scripted;

/// Does what `id` says.
fn act(id: &str, watch: &dyn Watch) -> Result<(), EngineError> {
    match id {
        FAILS => Err(EngineError::Plugin { plugin: "rubric".into(), message: "out of fuel".into() }),
        PANICS => panic!("as asked"),
        WAITS => loop {
            if watch.stop() {
                return Err(EngineError::Stopped);
            }
            thread::sleep(Duration::from_millis(1));
        },
        _ => Ok(()),
    }
}

impl Generator for Scripted {
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        if folder.ends_with("broken") {
            return Err(EngineError::Model { folder: folder.into(), message: "no config.json".into() });
        }
        Ok(ModelCard {
            architecture: "Scripted".into(),
            parameters: 1,
            context: 100,
            vocabulary: 10,
            cache_bytes_per_token: 1,
            layers: 1,
            hidden: 1,
        })
    }

    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        Ok(conversations.iter().map(|messages| messages.len() as u32).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        let total = requests.iter().map(|request| request.draws.len() as u64).sum();
        let mut done = 0;
        let mut answers = Vec::new();
        for request in requests {
            act(&request.id, watch)?;
            let mut of_request = Vec::new();
            for draw in &request.draws {
                let shaped = match guides.reshape {
                    None => 0.0,
                    Some(sampler) => {
                        let row = NextTokens { draw: draw.draw, position: 0, tokens: vec![0], logits: vec![0.0] };
                        sampler.reshape(&[row]).unwrap()[0][0]
                    }
                };
                let asked = serde_json::to_vec(&(&request.messages, draw.seed, &draw.sampling, shaped)).unwrap();
                let text = format!("{:x}", hash(&asked));
                let complete = guides.complete.map(|complete| complete(&text)).transpose()?;
                let finish = if complete == Some(true) { Finish::Stop } else { Finish::EndOfTurn };
                of_request.push(Generation { text, tokens: 3, finish });
                done += 1;
                watch.progress(Progress { done, total, tokens: 3 * done });
            }
            answers.push(of_request);
        }
        Ok(answers)
    }
}

impl Trainer for Scripted {
    fn log_probabilities(
        &mut self,
        folder: &Path,
        examples: &[Example],
        max_length: u32,
        watch: &dyn Watch,
    ) -> Result<Vec<SequenceLogProb>, EngineError> {
        let measure = |example: &Example| {
            act(&example.id, watch)?;
            let asked = serde_json::to_vec(&(folder, example, max_length)).unwrap();
            Ok(SequenceLogProb { sum: -(hash(&asked) as f64) / 1e18, tokens: 2 })
        };
        examples.iter().map(measure).collect()
    }

    /// Reports a hash of what every rank is given as the number of steps.
    fn train(&mut self, job: &TrainJob<'_>, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
        act(&job.fingerprint, watch)?;
        let mut given = serde_json::to_vec(&(&job.model, &job.folder, &job.settings, job.iteration)).unwrap();
        match job.data {
            TrainData::Sft(_) => given.extend(b"sft"),
            TrainData::Preference { optimizer, .. } => given.extend(optimizer.info().name.bytes()),
        }
        watch.step(&StepMetrics { step: 1, ..StepMetrics::default() }, 0.1);
        let report = TrainReport { epochs: Vec::new(), steps: hash(&given) as u32, first_loss: 0.0, truncated: 0 };
        // A fingerprint that is a number is the hash that must have arrived.
        if job.fingerprint.parse().is_ok_and(|expected: u32| expected != report.steps) {
            return Err(EngineError::Machine("another job arrived than was sent".into()));
        }
        Ok(report)
    }
}

/// Plugins whose answers depend on the iteration.
pub struct Made {
    losses: Vec<Loss>,
}

impl Made {
    pub fn new() -> Self {
        Self { losses: (0..3).map(Loss).collect() }
    }
}

pub struct Shaper(u32);
struct Loss(u32);

fn info(kind: Kind, name: String) -> PluginInfo {
    PluginInfo { kind, name, version: "0.0.0".into(), summary: String::new() }
}

impl Plugin for Shaper {
    fn info(&self) -> PluginInfo {
        info(Kind::Sampler, "shaper".into())
    }
}

impl Sampler for Shaper {
    fn plan(&self, _: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        Err(PluginError::new("not asked"))
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        Ok(rows.iter().map(|row| vec![f64::from(row.draw * 10 + self.0)]).collect())
    }
}

impl Plugin for Loss {
    fn info(&self) -> PluginInfo {
        info(Kind::Optimizer, format!("loss {}", self.0))
    }
}

impl Optimizer for Loss {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(false)
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(None)
    }

    fn loss(&self, _: &[metareward_api::PairLogProbs]) -> Result<metareward_api::PreferenceLoss, PluginError> {
        Err(PluginError::new("not asked"))
    }
}

impl Plugins for Made {
    fn guided(
        &self,
        occasion: Occasion,
        draw: &mut dyn FnMut(&Guides<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let shaper = Shaper(occasion.iteration);
        let complete: &Complete<'_> = &|line: &str| Ok(line.ends_with(['0', '1', '2', '3']));
        let complete = (occasion.part == Part::Judge).then_some(complete);
        let reshape: Option<&dyn Sampler> = if occasion.iteration > 0 { Some(&shaper) } else { None };
        draw(&Guides { reshape, complete, occasion: Some(occasion) })
    }

    fn optimizer(&self, iteration: u32) -> Result<&dyn Optimizer, EngineError> {
        Ok(&self.losses[iteration as usize])
    }
}
