//! One worker: walks down the prefix tree, lets rows in and out, and turns drawn tokens into answers.
//!
//! Every pass takes the rows that are waiting for their next token and fills up with prompt tokens. Draws of one prompt
//! that agree so far are one row; they part where their tokens do. A draw is let in when there is room for the longest
//! answer that it may give, so no row ever has to be thrown out.

use std::{collections::VecDeque, ops::Range, time::Instant};

use metareward_api::{Complete, EngineError, Finish, Generation, GenerationRequest, Sampling};

use super::{
    batch::Batch,
    reshape::{Reshape, Reshaped},
    sample::uniform,
    slots::{Move, Part, Placement, Room, Segments},
    stats::{CallStats, Clock},
    stop::{StopTexts, cut, finished_line, kept_tokens, text},
    tree::{Node, nodes},
};
use crate::{Result, TextTokenizer, TorchError};

/// A draw from the distribution of an output's next token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Number of the output in the last batch.
    pub(crate) output: usize,
    pub(crate) sampling: &'a Sampling,
    /// The draw's random number for this token, in [0, 1).
    pub(crate) u: f64,
}

/// A model that can compute a batch.
pub(crate) trait Backend {
    /// Slots of keys and values.
    fn capacity(&self) -> usize;

    /// Where its slots must lie.
    fn placement(&self) -> Placement;

    /// Computes the keys and values of all rows and the logits of the outputs.
    fn forward(&mut self, batch: &Batch) -> Result<()>;

    /// Draws tokens from the last batch's outputs; draws of one output come one after the other. One token each is added
    /// to `tokens`.
    fn draw(&mut self, wanted: &[Wanted<'_>], tokens: &mut Vec<u32>) -> Result<()>;

    /// Logits of the output with this number in the last batch.
    fn logits(&mut self, output: usize) -> Result<&[f32]>;

    /// Moves keys and values, one move after the other.
    fn relocate(&mut self, moves: &[Move]) -> Result<()>;

    /// Where time is added up.
    fn clock(&mut self) -> &mut Clock;
}

/// What all workers of a call know.
#[derive(Clone, Copy)]
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
    /// The sampler that gives every draw's probabilities, where one does.
    pub(crate) reshape: Option<Reshape<'a>>,
    /// Whether a finished line completes the answer, where somebody says so.
    pub(crate) complete: Option<&'a Complete<'a>>,
}

/// Draws of a request that start from the end of its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) request: usize,
    pub(crate) draws: Range<usize>,
}

/// Which draw of which request.
type Name = (usize, usize);

/// One answer being written.
#[derive(Debug)]
struct Draw {
    name: Name,
    /// Room for the longest answer, until a segment takes it.
    room: Option<Room>,
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

    fn sampling(&self, (request, draw): Name) -> &Sampling {
        &self.requests[request].draws[draw].sampling
    }
}

/// Draws that agree so far: one row of the next pass.
struct Branch {
    segment: usize,
    /// Slots of the text so far, the newest token's not yet among them.
    path: Vec<u32>,
    /// Tokens of the answer so far; none: the segment is the prompt's.
    answer: Vec<u32>,
    draws: Vec<Draw>,
    /// The draw whose room the segment took. It may be finished.
    owner: Name,
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

/// The end of a prompt some of whose draws have no room yet.
struct Waiting {
    segment: usize,
    path: Vec<u32>,
    /// The prompt's last token, which goes through the model again for each lot of draws: its logits are not kept.
    token: u32,
    draws: VecDeque<Name>,
}

/// A worker: the model and the book that is kept of its rows.
pub(crate) struct Worker<'a, B: Backend> {
    backend: B,
    book: Book<'a>,
}

struct Book<'a> {
    job: &'a Job<'a>,
    segments: Segments,
    ready: VecDeque<Branch>,
    walk: Option<Walk>,
    waiting: Option<Waiting>,
    batch: Batch,
    parts: Vec<Part>,
    /// The rows whose next token is wanted, in the order of the batch's outputs.
    outputs: Vec<Branch>,
    answers: Vec<Answer>,
    stats: CallStats,
}

impl<'a, B: Backend> Worker<'a, B> {
    pub(crate) fn new(job: &'a Job<'a>, backend: B) -> Self {
        let book = Book {
            job,
            segments: Segments::new(backend.placement(), backend.capacity()),
            ready: VecDeque::new(),
            walk: None,
            waiting: None,
            batch: Batch::default(),
            parts: Vec::new(),
            outputs: Vec::new(),
            answers: Vec::new(),
            stats: CallStats::default(),
        };
        Worker { backend, book }
    }

    /// Answers the units that `next` hands out. After each pass `tell` hears how many answers and tokens are new and says
    /// whether to stop. The backend comes back with its memory.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when told so; what the backend and the tokenizer report.
    pub(crate) fn run(
        mut self,
        next: &dyn Fn() -> Option<Range<usize>>,
        tell: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(Vec<Answer>, CallStats, B), EngineError> {
        let (mut tokens, mut compacted) = (Vec::new(), false);
        loop {
            let start = Instant::now();
            let answered = self.book.answers.len();
            self.book.fill(next);
            let rows = self.book.batch.rows();
            self.backend.clock().sampling += start.elapsed();
            if rows > 0 {
                compacted = false;
                let start = Instant::now();
                self.backend.forward(&self.book.batch)?;
                self.backend.clock().model += start.elapsed();
                self.book.stats.passes += 1;
                let start = Instant::now();
                let outputs = std::mem::take(&mut self.book.outputs);
                tokens.clear();
                self.tokens(&outputs, &mut tokens)?;
                let mut drawn = tokens.as_slice();
                for branch in outputs {
                    let (now, later) = drawn.split_at(branch.draws.len().min(drawn.len()));
                    drawn = later;
                    self.book.advance(now, branch)?;
                }
                self.backend.clock().sampling += start.elapsed();
            }
            if tell((self.book.answers.len() - answered) as u64, rows as u64) {
                return Err(EngineError::Stopped);
            }
            if rows == 0 && self.book.ready.is_empty() {
                if self.book.walk.is_none() && self.book.waiting.is_none() {
                    break;
                }
                // Nothing runs and nothing fits: what is free does not lie together.
                if compacted {
                    let message = "generation stalled with prompts left: this is a bug";
                    return Err(EngineError::Machine(message.to_owned()));
                }
                let moves = self.book.compact();
                self.backend.relocate(&moves)?;
                compacted = true;
            }
        }
        self.book.stats.peak_slots = self.book.segments.peak() as u64;
        self.book.stats.clock = std::mem::take(self.backend.clock());
        Ok((self.book.answers, self.book.stats, self.backend))
    }

    /// The next token of every draw of every output.
    fn tokens(&mut self, outputs: &[Branch], tokens: &mut Vec<u32>) -> Result<(), EngineError> {
        let job = self.book.job;
        let seed = |(request, draw): Name| job.requests[request].draws[draw].seed;
        if job.reshape.is_some() {
            for (branch, reshaped) in outputs.iter().zip(self.reshaped(outputs)?) {
                for (draw, reshaped) in branch.draws.iter().zip(reshaped) {
                    tokens.push(reshaped.token(uniform(seed(draw.name), branch.answer.len() as u64)));
                }
            }
            return Ok(());
        }
        let wanted: Vec<Wanted<'_>> = outputs
            .iter()
            .enumerate()
            .flat_map(|(output, branch)| {
                let step = branch.answer.len() as u64;
                branch.draws.iter().map(move |draw| (output, step, draw.name))
            })
            .map(|(output, step, name)| Wanted { output, sampling: job.sampling(name), u: uniform(seed(name), step) })
            .collect();
        Ok(self.backend.draw(&wanted, tokens)?)
    }

    /// What the sampler that reshapes makes of the outputs, in one call: a list per output with an entry per draw.
    fn reshaped(&mut self, outputs: &[Branch]) -> Result<Vec<Vec<Reshaped>>, EngineError> {
        let job = self.book.job;
        let Some(reshape) = &job.reshape else { return Ok(Vec::new()) };
        let mut asked = Vec::with_capacity(outputs.len());
        for (output, branch) in outputs.iter().enumerate() {
            let top = reshape.top(self.backend.logits(output)?)?;
            let number = |draw: &Draw| job.requests[draw.name.0].draws[draw.name.1].draw;
            asked.push((top, branch.draws.iter().map(number).collect(), branch.answer.len()));
        }
        reshape.ask(asked)
    }
}

impl Book<'_> {
    /// Makes the next batch.
    fn fill(&mut self, next: &dyn Fn() -> Option<Range<usize>>) {
        self.batch.clear();
        self.outputs.clear();
        while self.batch.rows() < self.job.max_rows {
            let Some(mut branch) = self.ready.pop_front() else { break };
            branch.path.push(self.segments.push(branch.segment));
            let token = branch.answer.last().copied().unwrap_or(0);
            self.segments.parts(branch.segment, &mut self.parts);
            self.batch.push(&[token], &branch.path, &self.parts, true);
            self.stats.answer_computed += 1;
            self.outputs.push(branch);
        }
        while self.batch.rows() < self.job.max_rows {
            if self.waiting.is_some() {
                if !self.let_in() {
                    break;
                }
                continue;
            }
            if self.walk.is_none() {
                let Some(units) = next() else { break };
                self.walk = Some(self.start(units));
            }
            if !self.read_on() {
                break;
            }
        }
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
        let Some(mut walk) = self.walk.take() else { return false };
        let Some(node) = walk.nodes.get(walk.at).cloned() else {
            while let Some((_, segment)) = walk.way.pop() {
                self.segments.release(segment);
            }
            return true;
        };
        let go_on = self.read_node(&mut walk, &node);
        self.walk = Some(walk);
        go_on
    }

    fn read_node(&mut self, walk: &mut Walk, node: &Node) -> bool {
        if walk.way.last().is_none_or(|(at, _)| *at != walk.at) {
            // A new node: back up to its parent.
            while let Some((at, segment)) = walk.way.last().copied()
                && Some(at) != node.parent
            {
                self.segments.release(segment);
                walk.way.pop();
            }
            walk.path.truncate(node.tokens.start);
            let Some(room) = self.segments.reserve(node.tokens.len(), true) else { return false };
            let segment = self.segments.open(walk.way.last().map(|(_, segment)| *segment), room);
            walk.way.push((walk.at, segment));
        }
        let Some((_, segment)) = walk.way.last().copied() else { return false };
        let ending = &self.job.units[walk.first + node.ends.start..walk.first + node.ends.end];
        let left = node.tokens.len() - walk.done;
        let mut count = left.min(self.job.max_rows - self.batch.rows());
        let (mut rest, mut draws) = (VecDeque::new(), Vec::new());
        if count == left && !ending.is_empty() {
            rest = ending.iter().flat_map(|unit| unit.draws.clone().map(|draw| (unit.request, draw))).collect();
            draws = self.admit(&mut rest);
            // The last token waits until the first draw has room.
            count -= usize::from(draws.is_empty());
        }
        if count == 0 {
            return false;
        }
        for _ in 0..count {
            walk.path.push(self.segments.push(segment));
        }
        let from = node.tokens.start + walk.done;
        let tokens = &self.job.prompts[node.prompt][from..from + count];
        self.segments.parts(segment, &mut self.parts);
        self.batch.push(tokens, &walk.path, &self.parts, !draws.is_empty());
        self.stats.prompt_computed += count as u64;
        walk.done += count;
        if count < left {
            return true;
        }
        (walk.at, walk.done) = (walk.at + 1, 0);
        if !draws.is_empty() {
            self.begin(segment, walk.path.clone(), draws);
            if let Some(token) = tokens.last().copied()
                && !rest.is_empty()
            {
                self.segments.hold(segment);
                self.waiting = Some(Waiting { segment, path: walk.path.clone(), token, draws: rest });
            }
        }
        true
    }

    /// The row of a prompt's last token, which is in the batch, is wanted by these draws.
    fn begin(&mut self, segment: usize, path: Vec<u32>, draws: Vec<Draw>) {
        self.segments.hold(segment);
        let owner = draws.first().map_or((0, 0), |draw| draw.name);
        self.outputs.push(Branch { segment, path, answer: Vec::new(), draws, owner });
    }

    /// Takes draws off the front while there is room for their answers.
    fn admit(&mut self, rest: &mut VecDeque<Name>) -> Vec<Draw> {
        let mut draws = Vec::new();
        while let Some(name) = rest.front().copied() {
            let room = self.segments.reserve(self.job.limit(name.0, name.1).0, false);
            if room.is_none() {
                break;
            }
            draws.push(Draw { name, room });
            rest.pop_front();
        }
        draws
    }

    /// Lets in waiting draws. Returns whether there was room for any.
    fn let_in(&mut self) -> bool {
        let Some(mut waiting) = self.waiting.take() else { return true };
        let draws = self.admit(&mut waiting.draws);
        let any = !draws.is_empty();
        if any {
            self.segments.parts(waiting.segment, &mut self.parts);
            self.batch.push(&[waiting.token], &waiting.path, &self.parts, true);
            self.stats.prompt_computed += 1;
            self.begin(waiting.segment, waiting.path.clone(), draws);
        }
        if waiting.draws.is_empty() {
            self.segments.release(waiting.segment);
        } else {
            self.waiting = Some(waiting);
        }
        any
    }

    /// Puts what the walk holds together at the pool's beginning, when nothing else is left in it.
    fn compact(&mut self) -> Vec<Move> {
        let Some(walk) = &mut self.walk else { return Vec::new() };
        let way: Vec<usize> = walk.way.iter().map(|(_, segment)| *segment).collect();
        let moves = self.segments.compact(&way);
        if let (Some(last), false) = (way.last(), moves.is_empty()) {
            self.segments.parts(*last, &mut self.parts);
            walk.path.clear();
            walk.path.extend(self.parts.iter().flat_map(|part| part.start..part.start + part.len));
            if let Some(waiting) = &mut self.waiting {
                waiting.path.clone_from(&walk.path);
            }
        }
        moves
    }

    /// Goes on with the tokens that were drawn, one per draw: finished draws become answers, the others branches, one per
    /// token. Takes over the branch's hold on its segment.
    fn advance(&mut self, tokens: &[u32], branch: Branch) -> Result<(), EngineError> {
        let job = self.job;
        let Branch { segment, path, mut answer, draws, owner } = branch;
        let mut groups: Vec<(u32, Vec<Draw>)> = Vec::new();
        let mut decoded: Option<(u32, String)> = None;
        for (draw, token) in draws.into_iter().zip(tokens.iter().copied()) {
            if job.end_ids.binary_search(&token).is_ok() {
                self.finish(draw, &answer, None, Finish::EndOfTurn)?;
                continue;
            }
            answer.push(token);
            let sampling = job.sampling(draw.name);
            let may_end = job.stop_texts.may_end(&sampling.stop, token)
                || (job.complete.is_some() && job.stop_texts.may_end_line(token));
            if may_end && decoded.as_ref().is_none_or(|(t, _)| *t != token) {
                decoded = Some((token, text(job.tokenizer, &answer)?));
            }
            let whole = decoded.as_ref().filter(|(t, _)| may_end && *t == token).map(|(_, text)| text.as_str());
            let ended = match whole {
                Some(whole) => ending(job, whole, &sampling.stop)?,
                None => None,
            };
            let (limit, why) = job.limit(draw.name.0, draw.name.1);
            if let Some(kept) = ended {
                self.finish(draw, &answer, Some(kept), Finish::Stop)?;
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
        // One group goes on in the segment, unless it is the prompt's: that of the draw whose room it has. The draws of
        // the other groups have their own room.
        let owned = groups.iter().position(|(_, group)| group.iter().any(|draw| draw.name == owner));
        let keeper = if answer.is_empty() { None } else { owned.or(Some(0)) };
        if groups.len() == 1
            && keeper.is_some()
            && let Some((token, draws)) = groups.pop()
        {
            answer.push(token);
            self.ready.push_back(Branch { segment, path, answer, draws, owner });
            return Ok(());
        }
        for (index, (token, mut draws)) in groups.into_iter().enumerate() {
            let mut answer = answer.clone();
            answer.push(token);
            let (segment, owner) = if keeper == Some(index) {
                self.segments.hold(segment);
                (segment, owner)
            } else {
                let longest = |draw: &&mut Draw| job.limit(draw.name.0, draw.name.1).0;
                let Some(Draw { name, room: Some(room) }) = draws
                    .iter_mut()
                    .filter(|draw| draw.room.is_some())
                    .max_by_key(longest)
                    .map(|draw| Draw { name: draw.name, room: draw.room.take() })
                else {
                    return Err(EngineError::Machine("an answer has no room of its own: this is a bug".to_owned()));
                };
                (self.segments.open(Some(segment), room), name)
            };
            self.ready.push_back(Branch { segment, path: path.clone(), answer, draws, owner });
        }
        self.segments.release(segment);
        Ok(())
    }

    /// Notes an answer: `text` where it is not all of the tokens'.
    fn finish(&mut self, draw: Draw, answer: &[u32], kept: Option<String>, finish: Finish) -> Result<()> {
        if let Some(room) = draw.room {
            self.segments.give_back(room);
        }
        let (text, tokens) = match kept {
            Some(kept) => {
                let tokens = kept_tokens(self.job.tokenizer, answer, kept.len())?;
                (kept, tokens)
            }
            None => (text(self.job.tokenizer, answer)?, answer.len()),
        };
        self.stats.answer_tokens += answer.len() as u64;
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.answers.push((draw.name.0, draw.name.1, Generation { text, tokens, finish }));
        Ok(())
    }
}

/// What is kept of an answer that ends here: up to its first stop text, or up to the end of the line that completes it.
fn ending(job: &Job<'_>, whole: &str, stop: &[String]) -> Result<Option<String>, EngineError> {
    let stopped = cut(whole, stop);
    if let (Some(complete), Some(line)) = (job.complete, finished_line(whole))
        && stopped.is_none_or(|stopped| line.end <= stopped.len())
        && complete(&whole[line.clone()])?
    {
        return Ok(Some(whole[..line.end].to_owned()));
    }
    Ok(stopped.map(str::to_owned))
}

/// Logits that say nothing.
pub(crate) fn not_finite() -> TorchError {
    TorchError::Machine("the model's logits are NaN or infinite: its weights are broken".to_owned())
}
