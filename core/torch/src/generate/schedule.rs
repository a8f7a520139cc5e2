//! One worker: walks down the prefix tree, lets rows in and out, and turns logits into answers.
//!
//! Every pass takes the rows that are waiting for their next token and fills up with prompt tokens. Draws of one prompt
//! that agree so far are one row; they part where their tokens do. A draw is let in when there is room for the longest
//! answer that it may give, so no row ever has to be thrown out.

use std::{collections::VecDeque, ops::Range, time::Instant};

use metareward_api::{EngineError, Finish, Generation, GenerationDraw, GenerationRequest, Sampling};

use super::{
    batch::Batch,
    reshape::{Reshape, Reshaped},
    sample::{Distribution, greedy, uniform},
    simd::Level,
    slots::Segments,
    stats::{CallStats, Clock},
    stop::{StopTexts, cut, text},
    tree::{Node, nodes},
};
use crate::{Result, TextTokenizer, TorchError};

/// A model that can compute a batch.
pub(crate) trait Backend {
    /// Slots of keys and values.
    fn capacity(&self) -> usize;

    /// Computes the keys and values of all rows and the logits of the outputs.
    fn forward(&mut self, batch: &Batch) -> Result<()>;

    /// Logits of the output with this number in the last batch.
    fn logits(&self, output: usize) -> &[f32];

    /// Where time is added up.
    fn clock(&mut self) -> &mut Clock;
}

/// What all workers of a call know.
pub(crate) struct Job<'a> {
    pub(crate) requests: &'a [GenerationRequest],
    /// Tokens of the requests.
    pub(crate) prompts: &'a [Vec<u32>],
    /// What is to be answered, sorted by the prompts' tokens: all draws of a request, or one each when nothing is shared.
    pub(crate) units: &'a [Unit],
    /// Whether prompts share prefixes and draws share rows.
    pub(crate) share: bool,
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) stop_texts: &'a StopTexts,
    /// Tokens that end a turn, sorted.
    pub(crate) end_ids: &'a [u32],
    pub(crate) context: usize,
    /// Most rows of a pass.
    pub(crate) max_rows: usize,
    pub(crate) level: Level,
    /// The sampler that gives every draw's probabilities, where one does.
    pub(crate) reshape: Option<Reshape<'a>>,
}

/// Draws of a request that start from the end of its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) request: usize,
    pub(crate) draws: Range<usize>,
}

/// One answer being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Draw {
    request: usize,
    draw: usize,
}

/// A finished answer and where it belongs.
pub(crate) type Answer = (usize, usize, Generation);

impl Job<'_> {
    /// Longest answer of a draw in tokens, and why it cannot be longer.
    pub(crate) fn limit(&self, request: usize, draw: usize) -> (usize, Finish) {
        let wanted = self.requests[request].draws[draw].sampling.max_tokens as usize;
        let room = self.context.saturating_sub(self.prompts[request].len());
        if wanted <= room { (wanted, Finish::Length) } else { (room, Finish::Context) }
    }
}

/// Draws that agree so far: one row of the next pass.
struct Branch {
    segment: usize,
    /// Slots of the text so far, the newest token's not yet among them.
    path: Vec<u32>,
    /// Tokens of the answer so far.
    answer: Vec<u32>,
    draws: Vec<Draw>,
}

/// Where the walk is in the tree over some units.
struct Walk {
    /// The first of the units.
    first: usize,
    nodes: Vec<Node>,
    /// The current node and how many of its tokens are done.
    at: usize,
    done: usize,
    /// Nodes on the way from the root to the current one, with their segments.
    way: Vec<(usize, usize)>,
    /// Slots along the way.
    path: Vec<u32>,
}

/// The end of a prompt.
struct PromptEnd {
    segment: usize,
    path: Vec<u32>,
    /// Draws that are let in.
    draws: Vec<Draw>,
    /// Draws that are not, yet.
    rest: VecDeque<Draw>,
}

/// Who wants the next token.
enum Output {
    Branch(Branch),
    Prompt(PromptEnd),
}

/// A worker: the model and the book that is kept of its rows.
pub(crate) struct Worker<'a, B: Backend> {
    backend: B,
    book: Book<'a>,
}

struct Book<'a> {
    job: &'a Job<'a>,
    capacity: usize,
    segments: Segments,
    /// Slots promised to draws that were let in.
    promised: usize,
    ready: VecDeque<Branch>,
    walk: Option<Walk>,
    /// The end of a prompt that has draws which were not let in yet, and its logits.
    waiting: Option<(PromptEnd, Vec<f32>)>,
    batch: Batch,
    outputs: Vec<Output>,
    distribution: Distribution,
    answers: Vec<Answer>,
    stats: CallStats,
}

impl<'a, B: Backend> Worker<'a, B> {
    pub(crate) fn new(job: &'a Job<'a>, backend: B) -> Self {
        let book = Book {
            job,
            capacity: backend.capacity(),
            segments: Segments::new(),
            promised: 0,
            ready: VecDeque::new(),
            walk: None,
            waiting: None,
            batch: Batch::default(),
            outputs: Vec::new(),
            distribution: Distribution::default(),
            answers: Vec::new(),
            stats: CallStats::default(),
        };
        Worker { backend, book }
    }

    /// Answers the units that `next` hands out. After each pass `tell` hears how many answers and tokens are new and says
    /// whether to stop.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when told so; what the backend and the tokenizer report.
    pub(crate) fn run(
        mut self,
        next: &dyn Fn() -> Option<Range<usize>>,
        tell: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(Vec<Answer>, CallStats), EngineError> {
        loop {
            let start = Instant::now();
            let answered = self.book.answers.len();
            self.book.fill(next)?;
            let rows = self.book.batch.rows();
            self.backend.clock().sampling += start.elapsed();
            if rows > 0 {
                let start = Instant::now();
                self.backend.forward(&self.book.batch)?;
                self.backend.clock().model += start.elapsed();
                self.book.stats.passes += 1;
                let start = Instant::now();
                let outputs = std::mem::take(&mut self.book.outputs);
                let wanted = outputs.iter().enumerate().map(|(index, output)| {
                    let (draws, position) = match output {
                        Output::Branch(branch) => (&branch.draws, branch.answer.len()),
                        Output::Prompt(end) => (&end.draws, 0),
                    };
                    (self.backend.logits(index), draws.as_slice(), position)
                });
                let reshaped = self.book.reshape(wanted)?;
                for ((index, output), reshaped) in outputs.into_iter().enumerate().zip(reshaped) {
                    self.book.outcome(output, self.backend.logits(index), &reshaped)?;
                }
                self.backend.clock().sampling += start.elapsed();
            }
            if tell((self.book.answers.len() - answered) as u64, rows as u64) {
                return Err(EngineError::Stopped);
            }
            if rows == 0 && self.book.ready.is_empty() {
                break;
            }
        }
        if self.book.walk.is_some() || self.book.waiting.is_some() {
            return Err(EngineError::Machine("generation stalled with prompts left: this is a bug".to_owned()));
        }
        self.book.stats.peak_slots = self.book.segments.peak() as u64;
        self.book.stats.clock = *self.backend.clock();
        Ok((self.book.answers, self.book.stats))
    }
}

impl Book<'_> {
    /// What the sampler that reshapes makes of some rows' logits, in one call: a list per row with an entry per draw.
    /// Empty lists where no sampler reshapes.
    fn reshape<'r>(
        &self,
        rows: impl Iterator<Item = (&'r [f32], &'r [Draw], usize)>,
    ) -> Result<Vec<Vec<Reshaped>>, EngineError> {
        let Some(reshape) = &self.job.reshape else { return Ok(rows.map(|_| Vec::new()).collect()) };
        let number = |draw: &Draw| self.job.requests[draw.request].draws[draw.draw].draw;
        let asked = rows.map(|(logits, draws, position)| (logits, draws.iter().map(number).collect(), position));
        reshape.ask(asked.collect())
    }

    /// Makes the next batch.
    fn fill(&mut self, next: &dyn Fn() -> Option<Range<usize>>) -> Result<(), EngineError> {
        self.batch.clear();
        self.outputs.clear();
        while self.batch.rows() < self.job.max_rows {
            let Some(mut branch) = self.ready.pop_front() else { break };
            branch.path.push(self.segments.push(branch.segment));
            let token = branch.answer.last().copied().unwrap_or(0);
            self.batch.push(&[token], &branch.path, true);
            self.stats.answer_computed += 1;
            self.outputs.push(Output::Branch(branch));
        }
        while self.batch.rows() < self.job.max_rows {
            if let Some((mut end, logits)) = self.waiting.take() {
                self.promise(&mut end);
                if !end.draws.is_empty() {
                    let mut reshaped = self.reshape([(logits.as_slice(), end.draws.as_slice(), 0)].into_iter())?;
                    self.start_answers(end, &logits, &reshaped.pop().unwrap_or_default())?;
                } else {
                    self.waiting = Some((end, logits));
                }
                if self.waiting.is_some() {
                    break;
                }
            }
            if self.walk.is_none() {
                let Some(units) = next() else { break };
                self.walk = Some(self.start(units));
            }
            if !self.read_on() {
                break;
            }
        }
        Ok(())
    }

    /// A walk over the tree of some units.
    fn start(&self, units: Range<usize>) -> Walk {
        let (first, prompts) = (units.start, self.job.prompts);
        let requests: Vec<usize> = self.job.units[units].iter().map(|unit| unit.request).collect();
        let nodes = if self.job.share {
            nodes(prompts, &requests)
        } else {
            let whole = |(i, prompt): (usize, &usize)| Node {
                parent: None,
                prompt: *prompt,
                tokens: 0..prompts[*prompt].len(),
                ends: i..i + 1,
            };
            requests.iter().enumerate().map(whole).collect()
        };
        Walk { first, nodes, at: 0, done: 0, way: Vec::new(), path: Vec::new() }
    }

    /// Adds as many tokens of the walk's current node to the batch as fit. Returns whether to go on with the walk.
    fn read_on(&mut self) -> bool {
        let Some(walk) = &mut self.walk else { return false };
        let Some(node) = walk.nodes.get(walk.at) else {
            while let Some((_, segment)) = walk.way.pop() {
                self.segments.release(segment);
            }
            self.walk = None;
            return true;
        };
        if walk.way.last().is_none_or(|(at, _)| *at != walk.at) {
            // A new node: back up to its parent.
            while let Some((at, segment)) = walk.way.last().copied()
                && Some(at) != node.parent
            {
                self.segments.release(segment);
                walk.way.pop();
            }
            walk.path.truncate(node.tokens.start);
            let segment = self.segments.open(walk.way.last().map(|(_, segment)| *segment), true);
            walk.way.push((walk.at, segment));
        }
        let Some((_, segment)) = walk.way.last().copied() else { return false };
        let ending = &self.job.units[walk.first + node.ends.start..walk.first + node.ends.end];
        let left = node.tokens.len() - walk.done;
        let room = self.capacity.saturating_sub(self.segments.prompts() + self.promised);
        let mut count = left.min(self.job.max_rows - self.batch.rows()).min(room);
        if count == left
            && let Some(unit) = ending.first()
            && room < left + self.job.limit(unit.request, unit.draws.start).0
        {
            // The last token waits until the first draw has room.
            count -= 1;
        }
        if count == 0 {
            return false;
        }
        for _ in 0..count {
            walk.path.push(self.segments.push(segment));
        }
        let from = node.tokens.start + walk.done;
        let output = count == left && !ending.is_empty();
        self.batch.push(&self.job.prompts[node.prompt][from..from + count], &walk.path, output);
        self.stats.prompt_computed += count as u64;
        walk.done += count;
        if count < left {
            return true;
        }
        (walk.at, walk.done) = (walk.at + 1, 0);
        if !output {
            return true;
        }
        let draws = |unit: &Unit| {
            let request = unit.request;
            unit.draws.clone().map(move |draw| Draw { request, draw })
        };
        let rest = ending.iter().flat_map(draws).collect();
        let mut end = PromptEnd { segment, path: walk.path.clone(), draws: Vec::new(), rest };
        self.segments.hold(segment);
        self.promise(&mut end);
        // Draws without room keep the walk here.
        let all = end.rest.is_empty();
        self.outputs.push(Output::Prompt(end));
        all
    }

    /// Lets in draws of a prompt's end while there is room.
    fn promise(&mut self, end: &mut PromptEnd) {
        while let Some(draw) = end.rest.front().copied() {
            let need = self.job.limit(draw.request, draw.draw).0;
            if self.segments.prompts() + self.promised + need > self.capacity {
                break;
            }
            self.promised += need;
            end.draws.push(draw);
            end.rest.pop_front();
        }
    }

    /// Draws the first token of the draws that were let in; the others go on waiting.
    fn start_answers(&mut self, mut end: PromptEnd, logits: &[f32], reshaped: &[Reshaped]) -> Result<()> {
        let draws = std::mem::take(&mut end.draws);
        let (segment, path) = (end.segment, if end.rest.is_empty() { end.path } else { end.path.clone() });
        if !end.rest.is_empty() {
            self.segments.hold(segment);
            self.waiting = Some((PromptEnd { path: path.clone(), ..end }, logits.to_vec()));
        }
        self.advance(logits, Branch { segment, path, answer: Vec::new(), draws }, reshaped)
    }

    /// Goes on with what a row's logits say.
    fn outcome(&mut self, output: Output, logits: &[f32], reshaped: &[Reshaped]) -> Result<()> {
        match output {
            Output::Branch(branch) => self.advance(logits, branch, reshaped),
            Output::Prompt(end) => self.start_answers(end, logits, reshaped),
        }
    }

    /// Draws the next token of every draw; finished draws become answers, the others branches, one per token. Takes over
    /// the branch's hold on its segment. `reshaped` holds a distribution per draw, or none where no sampler reshapes.
    fn advance(&mut self, logits: &[f32], branch: Branch, reshaped: &[Reshaped]) -> Result<()> {
        let job = self.job;
        let Branch { segment, path, mut answer, draws } = branch;
        let mut groups: Vec<(u32, Vec<Draw>)> = Vec::new();
        let mut drawn: Option<&Sampling> = None;
        let mut best: Option<u32> = None;
        let mut decoded: Option<(u32, String)> = None;
        for (place, draw) in draws.into_iter().enumerate() {
            let GenerationDraw { seed, sampling, .. } = &job.requests[draw.request].draws[draw.draw];
            let token = if let Some(reshaped) = reshaped.get(place) {
                reshaped.token(uniform(*seed, answer.len() as u64))
            } else if sampling.temperature > 0.0 {
                if !drawn.is_some_and(|drawn| same_distribution(drawn, sampling)) {
                    self.distribution.set(job.level, logits, sampling).map_err(|_| not_finite())?;
                    drawn = Some(sampling);
                }
                self.distribution.token(uniform(*seed, answer.len() as u64))
            } else {
                match best {
                    Some(token) => token,
                    None => *best.insert(greedy(logits).map_err(|_| not_finite())?),
                }
            };
            if job.end_ids.binary_search(&token).is_ok() {
                self.finish(draw, &answer, None, Finish::EndOfTurn)?;
                continue;
            }
            answer.push(token);
            if job.stop_texts.may_end(&sampling.stop, token) && decoded.as_ref().is_none_or(|(t, _)| *t != token) {
                decoded = Some((token, text(job.tokenizer, &answer)?));
            }
            let stopped = decoded.as_ref().filter(|(t, _)| *t == token).and_then(|(_, text)| cut(text, &sampling.stop));
            let (limit, why) = job.limit(draw.request, draw.draw);
            if let Some(cut) = stopped {
                self.finish(draw, &answer, Some(cut.to_owned()), Finish::Stop)?;
            } else if answer.len() >= limit {
                self.finish(draw, &answer, None, why)?;
            } else {
                match groups.iter_mut().find(|(t, _)| *t == token) {
                    Some((_, group)) => group.push(draw),
                    None => groups.push((token, vec![draw])),
                }
            }
            answer.pop();
        }
        // A row that goes on as one keeps its segment, unless it is the prompt's.
        if groups.len() == 1
            && !answer.is_empty()
            && let Some((token, draws)) = groups.pop()
        {
            answer.push(token);
            self.ready.push_back(Branch { segment, path, answer, draws });
            return Ok(());
        }
        for (token, draws) in groups {
            let mut answer = answer.clone();
            answer.push(token);
            let segment = self.segments.open(Some(segment), false);
            self.ready.push_back(Branch { segment, path: path.clone(), answer, draws });
        }
        self.segments.release(segment);
        Ok(())
    }

    /// Notes an answer.
    fn finish(&mut self, draw: Draw, answer: &[u32], cut: Option<String>, finish: Finish) -> Result<()> {
        self.promised -= self.job.limit(draw.request, draw.draw).0;
        let text = match cut {
            Some(text) => text,
            None => text(self.job.tokenizer, answer)?,
        };
        let tokens = u32::try_from(answer.len()).unwrap_or(u32::MAX);
        self.stats.answer_tokens += u64::from(tokens);
        self.answers.push((draw.request, draw.draw, Generation { text, tokens, finish }));
        Ok(())
    }
}

fn not_finite() -> TorchError {
    TorchError::Machine("the model's logits are NaN or infinite: its weights are broken".to_owned())
}

fn same_distribution(a: &Sampling, b: &Sampling) -> bool {
    (a.temperature, a.top_p, a.top_k, a.min_p) == (b.temperature, b.top_p, b.top_k, b.min_p)
}
