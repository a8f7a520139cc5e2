//! Generation: many conversations at once, each answered by its own draws.
//!
//! The prompts of a call form a prefix tree (`tree`): what conversations have in common is computed once and its keys and
//! values are kept once (`slots`). Rows enter and leave at every pass (`schedule`); draws of one prompt that have
//! drawn the same tokens so far are one row.
//!
//! Two backends compute the passes. On a CPU it is our own code (`cpu`), in which a row's result depends on its text
//! alone: the answer to a draw is the same to the last bit whatever the batch, its order, the number of threads, and
//! whether its prefix was shared. On a GPU it is libtorch (`tensor`), where the same holds up to rounding: a draw that
//! falls on the very border between two tokens can come out differently in another batch.

mod attention;
mod batch;
mod cascade;
mod cpu;
mod draw;
mod elementwise;
mod flash;
mod matmul;
mod memory;
mod packed;
mod reshape;
#[cfg(test)]
pub(crate) mod rounding;
mod sample;
mod schedule;
pub(crate) mod simd;
mod slots;
mod stats;
mod stop;
mod tensor;
pub(crate) mod tiles;
mod tree;

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metareward_api::{
    Complete, EngineError, Finish, Generation, GenerationRequest, Generator, Guides, Message, ModelCard, Progress,
    Watch,
};
use tch::Device;

pub use self::stats::{CallStats, Clock};
use self::{
    cpu::{CpuModel, CpuWorker, turns},
    memory::Given,
    reshape::Reshape,
    schedule::{Answer, Backend, Job, Unit, Worker},
    stop::{LINE_BREAK, StopTexts},
    tensor::TensorWorker,
};
use crate::{
    CausalLm, DeviceChoice, Precision, Prompting, TemplateDate, TorchError, config::ModelConfig, rope::RopeTable,
};

/// How the engine uses the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Where the model is computed.
    pub device: DeviceChoice,
    /// Number format of weights and activations.
    pub precision: Precision,
    /// Workers on a CPU; 0 is one per core. A GPU has one worker.
    pub threads: usize,
    /// Bytes for keys and values, all workers together; 0 takes 2 GiB on a CPU, and on a GPU nine tenths of what is free
    /// once the model is loaded, but 2 GiB. On a CPU only what is needed of it is taken.
    pub cache_bytes: u64,
    /// Most tokens that go through the model in one pass of a worker; 0 takes 60 on a CPU and 1024 on a GPU.
    pub max_rows: usize,
    /// Whether common prefixes are computed once. Without it every draw is computed by itself: slower, for comparison.
    pub share_prefixes: bool,
    /// The day that chat templates see as today.
    pub template_date: TemplateDate,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            device: DeviceChoice::Auto,
            precision: Precision::F32,
            threads: 0,
            cache_bytes: 0,
            max_rows: 0,
            share_prefixes: true,
            template_date: TemplateDate::default(),
        }
    }
}

/// Rows of a pass on a CPU: five tiles of the matrix product. Measured best of 48 to 288 on the quickstart's load: with more
/// the activations and the rows' keys leave the second-level cache, and weights are read rarely enough with these.
const CPU_ROWS: usize = 60;
/// Rows of a pass on a GPU: enough that reading the weights is shared by many.
const GPU_ROWS: usize = 1024;

/// How long a call goes at most without telling its progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Continues conversations with a model of a Hugging Face folder.
pub struct TorchGenerator {
    config: EngineConfig,
    loaded: Option<Loaded>,
    stats: CallStats,
}

struct Loaded {
    model: Model,
    config: Arc<ModelConfig>,
    prompting: Prompting,
    end_ids: Vec<u32>,
    /// Bytes of the weights.
    weights: u64,
}

impl Loaded {
    fn new(model: Model, config: Arc<ModelConfig>, prompting: Prompting) -> Self {
        let precision = match &model {
            Model::Cpu { model, .. } => model.precision(),
            Model::Tensors { model, .. } => model.precision(),
        };
        let weights = config.card(precision).parameters * precision.bytes();
        let mut end_ids: Vec<u32> = prompting.end_ids().iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        end_ids.sort_unstable();
        Loaded { model, config, prompting, end_ids, weights }
    }
}

/// The model, and workers of earlier calls with their memory.
enum Model {
    Cpu { model: Arc<CpuModel>, rope: RopeTable, spare: Mutex<Vec<CpuWorker>> },
    Tensors { model: Box<CausalLm>, spare: Mutex<Option<Box<TensorWorker>>> },
}

impl TorchGenerator {
    /// An engine without a model.
    pub fn new(config: EngineConfig) -> Self {
        TorchGenerator { config, loaded: None, stats: CallStats::default() }
    }

    /// What the last call did and where its time went.
    pub fn stats(&self) -> &CallStats {
        &self.stats
    }

    /// Uses this model from now on, in the device and precision that it is in.
    ///
    /// # Errors
    /// When libtorch does not give the weights.
    pub fn set_model(&mut self, model: CausalLm, prompting: Prompting) -> crate::Result<ModelCard> {
        let card = model.card();
        if model.device() == Device::Cpu {
            let config = Arc::clone(model.config());
            let rope = RopeTable::new(&config, Device::Cpu)?;
            let model =
                Model::Cpu { model: Arc::new(CpuModel::new(&model, self.threads())?), rope, spare: Mutex::default() };
            self.loaded = Some(Loaded::new(model, config, prompting));
        } else {
            self.set_model_on_tensors(model, prompting);
        }
        Ok(card)
    }

    /// Uses this model from now on, on libtorch's tensors also where our own code could compute it: to compare the two.
    pub fn set_model_on_tensors(&mut self, model: CausalLm, prompting: Prompting) {
        let config = Arc::clone(model.config());
        self.loaded =
            Some(Loaded::new(Model::Tensors { model: Box::new(model), spare: Mutex::default() }, config, prompting));
    }

    fn loaded(&self) -> Result<&Loaded, EngineError> {
        self.loaded.as_ref().ok_or_else(|| EngineError::Machine("no model is loaded".to_owned()))
    }

    fn threads(&self) -> usize {
        match self.config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Tokens of every conversation; `name` names one in errors.
    fn tokens<'a>(
        &self,
        count: usize,
        messages: &(dyn Fn(usize) -> &'a [Message] + Sync),
        name: &(dyn Fn(usize) -> String + Sync),
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        let prompting = &self.loaded()?.prompting;
        let one = |index: usize| -> Result<Vec<u32>, EngineError> {
            let prompt = prompting.prompt(messages(index)).map_err(|error| match error {
                TorchError::Input(message) => EngineError::Input { record: name(index), message },
                other => other.into(),
            })?;
            Ok(prompt.ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
        };
        let per_thread = count.div_ceil(self.threads()).max(16);
        let ranges: Vec<Range<usize>> =
            (0..count).step_by(per_thread).map(|start| start..(start + per_thread).min(count)).collect();
        let parts = in_parallel(ranges.len(), |i| ranges[i].clone().map(&one).collect::<Result<Vec<_>, _>>())?;
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part?);
        }
        Ok(all)
    }
}

/// `work(0) .. work(count)`, each on a thread of its own.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Result<Vec<T>, EngineError> {
    if count <= 1 {
        return Ok((0..count).map(work).collect());
    }
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..count).map(|i| scope.spawn(move || work(i))).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, T>| {
            handle
                .join()
                .map_err(|_| EngineError::Machine("a worker thread of generation panicked: this is a bug".to_owned()))
        };
        handles.into_iter().map(join).collect()
    })
}

impl Generator for TorchGenerator {
    fn load(&mut self, folder: &Path) -> Result<ModelCard, EngineError> {
        // The old model's memory is free before the new one's is taken.
        self.loaded = None;
        let model = CausalLm::load(folder, self.config.device.resolve()?, self.config.precision)?;
        let prompting = Prompting::read(folder, model.config(), self.config.template_date)?;
        Ok(self.set_model(model, prompting)?)
    }

    fn count_tokens(&mut self, conversations: &[Vec<Message>]) -> Result<Vec<u32>, EngineError> {
        let name = |index: usize| format!("conversation {}", index + 1);
        let prompts = self.tokens(conversations.len(), &|index| conversations[index].as_slice(), &name)?;
        Ok(prompts.iter().map(|prompt| u32::try_from(prompt.len()).unwrap_or(u32::MAX)).collect())
    }

    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        guides: &Guides<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<Generation>>, EngineError> {
        let start = Instant::now();
        self.stats = CallStats::default();
        check(requests)?;
        let prompts = self.tokens(requests.len(), &|index| requests[index].messages.as_slice(), &|index| {
            requests[index].id.clone()
        })?;
        self.stats.prompt_tokens =
            prompts.iter().zip(requests).map(|(prompt, request)| (prompt.len() * request.draws.len()) as u64).sum();
        self.stats.tokenizing = start.elapsed();
        let plugins = (Reshape::of(guides.reshape)?, guides.complete);
        let (answers, stats) = self.answers(requests, &prompts, plugins, watch)?;
        self.stats.add(&stats);
        let mut results: Vec<Vec<Option<Generation>>> =
            requests.iter().map(|request| vec![None; request.draws.len()]).collect();
        for (request, draw, answer) in answers {
            results[request][draw] = Some(answer);
        }
        let missing = || EngineError::Machine("an answer is missing: this is a bug".to_owned());
        results.into_iter().map(|row| row.into_iter().map(|answer| answer.ok_or_else(missing)).collect()).collect()
    }
}

/// Refuses draws that mean nothing.
fn check(requests: &[GenerationRequest]) -> Result<(), EngineError> {
    for request in requests {
        for draw in &request.draws {
            let s = &draw.sampling;
            let wrong = [
                (!(s.temperature.is_finite() && s.temperature >= 0.0), "temperature", s.temperature, "0 or above"),
                (!(s.top_p > 0.0 && s.top_p <= 1.0), "top_p", s.top_p, "above 0 and at most 1"),
                (!(0.0..=1.0).contains(&s.min_p), "min_p", s.min_p, "between 0 and 1"),
                (s.top_k == Some(0), "top_k", 0.0, "at least 1"),
            ];
            if let Some((_, name, value, allowed)) = wrong.into_iter().find(|(wrong, ..)| *wrong) {
                let message = format!("{name} is {value}; it must be {allowed}");
                return Err(EngineError::Input { record: request.id.clone(), message });
            }
        }
    }
    Ok(())
}

/// Counts of a running call, from all workers.
struct Tally<'a> {
    watch: &'a dyn Watch,
    done: AtomicU64,
    tokens: AtomicU64,
    total: u64,
    told: Mutex<Instant>,
    stop: AtomicBool,
}

impl Tally<'_> {
    /// Adds to the counts, tells the watch now and then, and says whether to stop.
    fn tell(&self, answers: u64, tokens: u64) -> bool {
        let done = self.done.fetch_add(answers, Ordering::Relaxed) + answers;
        let tokens = self.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens;
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= PROGRESS_EVERY
        {
            *told = Instant::now();
            self.watch.progress(Progress { done, total: self.total, tokens });
        }
        if self.watch.stop() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }
}

impl TorchGenerator {
    fn answers(
        &self,
        requests: &[GenerationRequest],
        prompts: &[Vec<u32>],
        (reshape, complete): (Option<Reshape<'_>>, Option<&Complete<'_>>),
        watch: &dyn Watch,
    ) -> Result<(Vec<Answer>, CallStats), EngineError> {
        let loaded = self.loaded()?;
        let size = |n: i64| usize::try_from(n).unwrap_or(0);
        let stop = requests.iter().flat_map(|request| &request.draws).flat_map(|draw| &draw.sampling.stop);
        let stop = stop.map(String::as_str).chain(complete.map(|_| LINE_BREAK));
        let stop_texts = StopTexts::new(stop, loaded.prompting.tokenizer(), size(loaded.config.vocabulary));
        let (units, mut answers) = units(requests, prompts, size(loaded.config.context), self.config.share_prefixes);
        let default_rows = if matches!(loaded.model, Model::Cpu { .. }) { CPU_ROWS } else { GPU_ROWS };
        let job = Job {
            requests,
            prompts,
            units: &units,
            share: self.config.share_prefixes,
            tokenizer: loaded.prompting.tokenizer(),
            stop_texts: &stop_texts,
            end_ids: &loaded.end_ids,
            context: size(loaded.config.context),
            max_rows: if self.config.max_rows == 0 { default_rows } else { self.config.max_rows },
            reshape,
            complete,
        };
        let already = answers.len() as u64;
        let (more, stats) = memory::at_half_if_short(|part, given| {
            let tally = Tally {
                watch,
                done: AtomicU64::new(already),
                tokens: AtomicU64::new(0),
                total: requests.iter().map(|request| request.draws.len() as u64).sum(),
                told: Mutex::new(Instant::now()),
                stop: AtomicBool::new(false),
            };
            let job = Job { max_rows: (job.max_rows / part).max(1), ..job };
            attempt(&job, loaded, self.room(&job, loaded, part, given)?, &tally)
        })?;
        answers.extend(more);
        Ok((answers, stats))
    }

    /// Number of workers, and slots for each, of the `part`th part of the memory.
    fn room(
        &self,
        job: &Job<'_>,
        loaded: &Loaded,
        part: usize,
        given: &mut Option<Given>,
    ) -> Result<(usize, usize), EngineError> {
        let (bytes, device, held) = match &loaded.model {
            Model::Cpu { model, .. } => (model.bytes_per_slot(), Device::Cpu, 0),
            Model::Tensors { model, spare } => {
                let bytes = model.card().cache_bytes_per_token;
                let spare = spare.lock().ok();
                let held = spare.as_ref().and_then(|spare| spare.as_ref()).map_or(0, |worker| worker.capacity() as u64);
                (bytes, model.device(), held * bytes)
            }
        };
        let budget = memory::budget(self.config.cache_bytes, device, held) / part as u64;
        let slots = usize::try_from(budget / bytes.max(1)).unwrap_or(usize::MAX);
        // The most that one draw needs, and all together.
        let (mut most, mut all) = ((0, 0, 0), 0usize);
        for unit in job.units {
            let prompt = job.prompts[unit.request].len();
            all = all.saturating_add(prompt);
            for draw in unit.draws.clone() {
                let answer = job.limit(unit.request, draw).0;
                all = all.saturating_add(answer);
                most = most.max((prompt + answer, prompt, unit.request));
            }
        }
        let (need, prompt, request) = most;
        if need > slots {
            return Err(EngineError::Machine(format!(
                "{}: a prompt of {prompt} tokens and an answer of up to {} need {} MB of keys and values, but the cache has \
                 {} MB: raise engine.cache_bytes or lower max_tokens",
                job.requests.get(request).map_or("", |request| request.id.as_str()),
                need - prompt,
                (need as u64 * bytes).div_ceil(1_000_000),
                budget / 1_000_000
            )));
        }
        let threads =
            if device == Device::Cpu && matches!(loaded.model, Model::Cpu { .. }) { self.threads() } else { 1 };
        let workers = threads.min(slots / need.max(1)).min(job.units.len()).max(1);
        let capacity = (slots / workers).min(all).max(1);
        *given = Some(Given {
            device,
            weights: loaded.weights,
            cache: (capacity * workers) as u64 * bytes,
            slots: capacity * workers,
            rows: job.max_rows,
        });
        Ok((workers, capacity))
    }
}

/// All answers of a job, by so many workers with so many slots each.
fn attempt(
    job: &Job<'_>,
    loaded: &Loaded,
    (workers, capacity): (usize, usize),
    tally: &Tally<'_>,
) -> Result<(Vec<Answer>, CallStats), EngineError> {
    let (units, prompts) = (job.units, job.prompts);
    // A few pieces per worker, so that none waits long for the last.
    let work = |unit: usize| {
        let Unit { request, draws } = &units[unit];
        (prompts[*request].len() / 8 + draws.len() * 8) as u64
    };
    let order: Vec<usize> = units.iter().map(|unit| unit.request).collect();
    let pieces = if workers == 1 {
        std::iter::once(0..units.len()).filter(|all| !all.is_empty()).collect()
    } else {
        tree::pieces(prompts, &order, work, 8 * workers)
    };
    let piece = AtomicUsize::new(0);
    let next = || pieces.get(piece.fetch_add(1, Ordering::Relaxed)).cloned();
    let tell = |answers, tokens| tally.tell(answers, tokens);
    let outcomes = match &loaded.model {
        Model::Cpu { model, rope, spare } => {
            let longest = units.iter().map(|unit| {
                let limits = unit.draws.clone().map(|draw| job.limit(unit.request, draw).0);
                prompts[unit.request].len() + limits.max().unwrap_or(0)
            });
            let table = Arc::new(turns(rope, &loaded.config, longest.max().unwrap_or(0))?);
            in_parallel(workers, |_| {
                let kept = spare.lock().ok().and_then(|mut spare| spare.pop());
                let table = Arc::clone(&table);
                let backend = match kept {
                    Some(worker) => worker.again(table, capacity),
                    None => CpuWorker::new(Arc::clone(model), table, capacity),
                };
                let (answers, stats, backend) = Worker::new(job, backend).run(&next, &tell).inspect_err(|_| {
                    tally.stop.store(true, Ordering::Relaxed);
                })?;
                if let Ok(mut spare) = spare.lock() {
                    spare.push(backend);
                }
                Ok((answers, stats))
            })?
        }
        Model::Tensors { model, spare } => {
            let kept = spare.lock().ok().and_then(|mut spare| spare.take());
            // Too small or, after a failure, too large: its memory is free before other memory is taken.
            let kept =
                kept.filter(|worker| worker.capacity() >= capacity && worker.capacity() / 2 < capacity.max(1 << 14));
            let backend = match kept {
                Some(worker) => *worker,
                None => TensorWorker::new(model.share()?, capacity)?,
            };
            let outcome = Worker::new(job, backend).run(&next, &tell);
            vec![outcome.map(|(answers, stats, backend)| {
                if let Ok(mut spare) = spare.lock() {
                    *spare = Some(Box::new(backend));
                }
                (answers, stats)
            })]
        }
    };
    // Workers that were stopped because another one failed are not what went wrong.
    let (mut answers, mut stats, mut stopped) = (Vec::new(), CallStats::default(), false);
    for outcome in outcomes {
        match outcome {
            Ok((more, part)) => {
                answers.extend(more);
                stats.add(&part);
            }
            Err(EngineError::Stopped) => stopped = true,
            Err(error) => return Err(error),
        }
    }
    if stopped {
        return Err(EngineError::Stopped);
    }
    let (done, tokens) = (tally.total, tally.tokens.load(Ordering::Relaxed));
    tally.watch.progress(Progress { done, total: tally.total, tokens });
    Ok((answers, stats))
}

/// What is to be computed, sorted by the prompts' tokens, and the answers that need no computing: those of no tokens and
/// those to prompts that fill the context.
fn units(
    requests: &[GenerationRequest],
    prompts: &[Vec<u32>],
    context: usize,
    share: bool,
) -> (Vec<Unit>, Vec<Answer>) {
    let (mut units, mut answers) = (Vec::new(), Vec::new());
    for (index, request) in requests.iter().enumerate() {
        let full = prompts[index].len() >= context;
        let mut wanted = Vec::new();
        for (draw, what) in request.draws.iter().enumerate() {
            if full || what.sampling.max_tokens == 0 {
                let finish = if full { Finish::Context } else { Finish::Length };
                answers.push((index, draw, Generation { text: String::new(), tokens: 0, finish }));
            } else {
                wanted.push(draw);
            }
        }
        // Neighbouring draws in one unit.
        for run in wanted.chunk_by(|a, b| share && a + 1 == *b) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                units.push(Unit { request: index, draws: *first..last + 1 });
            }
        }
    }
    units.sort_by(|a, b| {
        prompts[a.request].cmp(&prompts[b.request]).then((a.request, a.draws.start).cmp(&(b.request, b.draws.start)))
    });
    (units, answers)
}
