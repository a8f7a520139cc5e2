//! The gradient of a step, added up over micro-batches and over processes.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    ops::Range,
    sync::Arc,
};

use tch::{Kind, Tensor};

use super::{
    gather::{Coming, Gathering, Stretch},
    parts::{Part, parts},
    shares::Shares,
};
use crate::{
    Group,
    error::{Result, TorchError},
    group::Pending,
    train::{
        Sharding,
        parameters::{Flat, Layout},
        trunk::{Along, Place, place},
    },
};

/// Parts of a gradient that are on their way at a time, where each has memory of its own.
const ON_THEIR_WAY: usize = 2;

/// How the processes of a training run exchange gradients and weights.
pub(crate) struct Exchange {
    pub group: Arc<Group>,
    pub sharding: Sharding,
    pub shares: Shares,
    parts: Vec<Part>,
    /// The part of every slot.
    part_of: Vec<usize>,
}

impl Exchange {
    /// Gradients of `layout` travel in parts of at least `bucket` elements.
    pub fn new(group: Arc<Group>, layout: &Layout, sharding: Sharding, bucket: i64) -> Self {
        let parts = parts(layout, bucket.max(1));
        let mut part_of = vec![0; layout.slots().len()];
        for (index, part) in parts.iter().enumerate() {
            part.slots.iter().for_each(|&slot| part_of[slot] = index);
        }
        let shares = Shares::new(layout.length(), group.rank(), group.size());
        Self { group, sharding, shares, parts, part_of }
    }

    /// Whether every process updates a share of the weights alone.
    pub fn sharded(&self) -> bool {
        self.sharding != Sharding::None
    }

    /// The range of the flat memory that this process updates.
    pub fn own(&self, length: i64) -> Range<i64> {
        if self.sharding == Sharding::None { 0..length } else { self.shares.own() }
    }

    /// After an update: gives every process the weights that the others updated.
    pub fn share_weights(&self, weights: &Tensor) -> Result<()> {
        if self.sharding == Sharding::None || self.sharding == Sharding::Parameters {
            return Ok(());
        }
        let pending = (0..self.group.size())
            .map(|rank| {
                let range = self.shares.of(rank);
                self.group.start_broadcast(&weights.f_narrow(0, range.start, range.end - range.start)?, rank)
            })
            .collect::<Result<Vec<_>>>()?;
        pending.into_iter().try_for_each(|pending| pending.wait().map(|_| ()))
    }
}

/// Where a step's gradient is added up.
pub(crate) enum Gradient {
    /// All of it.
    Whole(Flat),
    /// This process's share; the rest is with the others.
    Share(Tensor),
}

impl Gradient {
    /// The elements `range`, which this process updates.
    pub fn own(&self, range: &Range<i64>) -> Result<Tensor> {
        Ok(match self {
            Gradient::Whole(flat) => flat.all.f_narrow(0, range.start, range.end - range.start)?,
            Gradient::Share(share) => share.shallow_clone(),
        })
    }

    /// Sets it to zero.
    pub fn clear(&mut self) -> Result<()> {
        let (Gradient::Whole(Flat { all, .. }) | Gradient::Share(all)) = self;
        let _ = all.f_zero_()?;
        Ok(())
    }
}

/// A gradient under way: every micro-batch adds its tensors, and what is finished travels while the rest is computed.
pub(crate) struct Sum<'a> {
    gradient: &'a mut Gradient,
    layout: &'a Layout,
    exchange: Option<&'a Exchange>,
    /// Micro-batches of this process.
    batches: usize,
    /// Micro-batches of the process that has the most: as often do shares of the gradient travel.
    rounds: usize,
    round: usize,
    /// Slots that every part still waits for.
    left: Vec<usize>,
    /// The next part to travel: the same order everywhere.
    next: usize,
    /// Memory of the parts that are being filled, where there is no whole gradient.
    filling: BTreeMap<usize, Buffer>,
    sent: VecDeque<Sent>,
    /// The weights, where they are shared out, and what a micro-batch exchanges in which order.
    gathering: Option<&'a mut Gathering>,
    script: Vec<Line>,
    /// Lines of it that are begun.
    at: usize,
    /// Weights that are on their way before they are needed: those of one stretch at most.
    ahead: Option<Coming>,
}

/// What all processes do at the same time in a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Put these weights together.
    Gather(Stretch),
    /// Send the next part of the gradient.
    Send,
}

/// What a micro-batch exchanges, in the order in which it is begun: the weights of all stretches forwards and, with a
/// gradient, backwards. Weights are on their way while the stretch before is computed, so on the way back they come before
/// what that stretch finishes.
fn script(gathering: &Gathering, parts: &[Part], layout: &Layout, backwards: bool) -> Vec<Line> {
    let head = gathering.head();
    let mut lines: Vec<Line> = (0..=head).map(Line::Gather).collect();
    if !backwards {
        return lines;
    }
    // The stretch whose way back finishes a part; the output projection's comes first.
    let finished = |part: &Part| -> usize {
        let stretch = |slot: &usize| match place(&layout.slots()[*slot].name) {
            Place::Head => head,
            Place::Norm => head - 1,
            Place::Layer(layer) => layer,
            Place::Embedding => 0,
        };
        part.slots.iter().map(stretch).min().unwrap_or(0)
    };
    let mut parts = parts.iter().map(finished).peekable();
    for stretch in (0..=head).rev() {
        if stretch > 0 {
            lines.push(Line::Gather(stretch - 1));
        }
        while parts.next_if_eq(&stretch).is_some() {
            lines.push(Line::Send);
        }
    }
    lines
}

/// Memory of a part: its ranges, one after the other.
struct Buffer {
    all: Tensor,
}

/// A part that is on its way.
struct Sent {
    pending: Vec<(Pending, Option<Range<i64>>)>,
    _buffer: Option<Buffer>,
}

impl<'a> Sum<'a> {
    /// A sum of `batches` micro-batches of this process into `gradient`, which is zero. `rounds` is the largest number of
    /// micro-batches that a process has. Where weights are shared out, `gathering` puts them together; without `backwards`
    /// only the way forwards is taken.
    pub fn new(
        gradient: &'a mut Gradient,
        layout: &'a Layout,
        exchange: Option<&'a Exchange>,
        batches: usize,
        rounds: usize,
        gathering: Option<&'a mut Gathering>,
        backwards: bool,
    ) -> Self {
        let script = match (&gathering, exchange) {
            (Some(gathering), Some(exchange)) => script(gathering, &exchange.parts, layout, backwards),
            _ => Vec::new(),
        };
        let mut sum = Self {
            gathering,
            script,
            at: 0,
            ahead: None,
            gradient,
            layout,
            exchange,
            batches,
            rounds: rounds.max(batches),
            round: 0,
            left: Vec::new(),
            next: 0,
            filling: BTreeMap::new(),
            sent: VecDeque::new(),
        };
        sum.begin();
        sum
    }

    fn begin(&mut self) {
        let parts = self.exchange.map(|exchange| &exchange.parts[..]).unwrap_or_default();
        self.left = parts.iter().map(|part| part.slots.len()).collect();
        self.next = 0;
        self.at = 0;
    }

    /// The whole gradient, for kernels that add to it themselves.
    pub fn whole(&mut self) -> Option<&mut Flat> {
        match self.gradient {
            Gradient::Whole(flat) => Some(flat),
            Gradient::Share(_) => None,
        }
    }

    /// Adds the gradient `found` of tensor `slot`, which micro-batch `batch` gives once.
    pub fn add(&mut self, batch: usize, slot: usize, found: &Tensor) -> Result<()> {
        if let Gradient::Whole(flat) = &self.gradient {
            let _ = flat.views[slot].shallow_clone().f_add_(found)?;
            if batch + 1 == self.batches {
                self.done(slot)?;
            }
            return Ok(());
        }
        let Some(exchange) = self.exchange else { return Ok(()) };
        // What a micro-batch did not say of is zero, and travels before the next one's.
        while self.round < batch {
            self.end_round()?;
        }
        let index = exchange.part_of[slot];
        self.fill(index)?;
        if let Some(buffer) = self.filling.get(&index) {
            let place = self.layout.slots()[slot].range();
            let at = inside(&exchange.parts[index], place.start as i64);
            let mut view = buffer.all.f_narrow(0, at, place.len() as i64)?;
            let _ = view.f_add_(&found.f_reshape([-1])?)?;
        }
        self.done(slot)
    }

    fn fill(&mut self, index: usize) -> Result<()> {
        let (Some(exchange), Gradient::Share(share)) = (self.exchange, &*self.gradient) else { return Ok(()) };
        if let Entry::Vacant(place) = self.filling.entry(index) {
            let length = exchange.parts[index].length();
            place.insert(Buffer { all: Tensor::f_zeros([length], (share.kind(), share.device()))? });
        }
        Ok(())
    }

    fn done(&mut self, slot: usize) -> Result<()> {
        let Some(exchange) = self.exchange else { return Ok(()) };
        if let Some(left) = self.left.get_mut(exchange.part_of[slot]) {
            *left = left.saturating_sub(1);
        }
        while self.left.get(self.next) == Some(&0) {
            self.send()?;
        }
        Ok(())
    }

    /// Puts the weights of a stretch together, for micro-batch `batch`.
    pub fn need(&mut self, batch: usize, stretch: Stretch) -> Result<()> {
        if self.gathering.is_none() {
            return Ok(());
        }
        while self.round < batch {
            self.end_round()?;
        }
        let coming = match self.ahead.take() {
            Some(coming) if coming.stretch == stretch => coming,
            _ => self.start(stretch)?,
        };
        if let Some(gathering) = &mut self.gathering {
            gathering.place(self.layout, coming)?;
        }
        if let Some(Line::Gather(next)) = self.script.get(self.at).copied() {
            self.ahead = Some(self.start(next)?);
        }
        Ok(())
    }

    fn start(&mut self, stretch: Stretch) -> Result<Coming> {
        self.expect(Line::Gather(stretch))?;
        match (&self.gathering, self.exchange) {
            (Some(gathering), Some(exchange)) => gathering.start(exchange, stretch),
            _ => Err(TorchError::Group("weights are not shared out: this is a bug".to_owned())),
        }
    }

    /// Gives the weights of a stretch up.
    pub fn spare(&mut self, stretch: Stretch) -> Result<()> {
        self.gathering.as_mut().map_or(Ok(()), |gathering| gathering.spare(stretch))
    }

    /// Takes the next line of the script, which all processes take in the same order.
    fn expect(&mut self, line: Line) -> Result<()> {
        if self.gathering.is_none() {
            return Ok(());
        }
        if self.script.get(self.at) != Some(&line) {
            let message = format!("{line:?} is not what comes next, {:?}: this is a bug", self.script.get(self.at));
            return Err(TorchError::Group(message));
        }
        self.at += 1;
        Ok(())
    }

    /// Puts the next part on its way.
    fn send(&mut self) -> Result<()> {
        let Some(exchange) = self.exchange else { return Ok(()) };
        self.expect(Line::Send)?;
        let Some(part) = exchange.parts.get(self.next) else { return Ok(()) };
        let index = self.next;
        self.next += 1;
        let mut pending = Vec::new();
        let mut buffer = None;
        if matches!(self.gradient, Gradient::Share(_)) {
            while self.sent.len() >= ON_THEIR_WAY {
                self.arrive()?;
            }
            self.fill(index)?;
            buffer = self.filling.remove(&index);
        }
        let mut before = 0;
        for range in &part.ranges {
            if exchange.sharding == Sharding::None {
                if let Gradient::Whole(flat) = &self.gradient {
                    let view = flat.all.f_narrow(0, range.start, range.end - range.start)?;
                    pending.push((exchange.group.start_all_reduce(&view)?, None));
                }
                continue;
            }
            for (owner, piece) in exchange.shares.pieces(range) {
                let view = match (&self.gradient, &buffer) {
                    (Gradient::Whole(flat), _) => flat.all.f_narrow(0, piece.start, piece.end - piece.start)?,
                    (Gradient::Share(_), Some(buffer)) => {
                        buffer.all.f_narrow(0, before + piece.start - range.start, piece.end - piece.start)?
                    }
                    (Gradient::Share(_), None) => continue,
                };
                let added = buffer.is_some() && owner == exchange.group.rank();
                pending.push((exchange.group.start_reduce(&view, owner)?, added.then_some(piece)));
            }
            before += range.end - range.start;
        }
        self.sent.push_back(Sent { pending, _buffer: buffer });
        Ok(())
    }

    /// Waits for the part that has been on its way the longest.
    fn arrive(&mut self) -> Result<()> {
        let Some(sent) = self.sent.pop_front() else { return Ok(()) };
        for (pending, added) in sent.pending {
            let found = pending.wait()?;
            if let (Some(piece), Gradient::Share(share), Some(exchange)) = (added, &*self.gradient, self.exchange) {
                let start = piece.start - exchange.shares.own().start;
                let mut view = share.f_narrow(0, start, piece.end - piece.start)?;
                let _ = view.f_add_(&found)?;
            }
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<()> {
        let parts = self.exchange.map_or(0, |exchange| exchange.parts.len());
        if self.gathering.is_some() {
            // What is left of the script, for the others' sake.
            let mut coming = self.ahead.take();
            loop {
                if let (Some(coming), Some(gathering)) = (coming.take(), &mut self.gathering) {
                    let stretch = coming.stretch;
                    gathering.place(self.layout, coming)?;
                    gathering.spare(stretch)?;
                }
                match self.script.get(self.at).copied() {
                    Some(Line::Gather(stretch)) => coming = Some(self.start(stretch)?),
                    Some(Line::Send) => self.send()?,
                    None => break,
                }
            }
        } else {
            while self.next < parts {
                self.send()?;
            }
        }
        self.round += 1;
        self.begin();
        Ok(())
    }

    /// Sends what has not been sent and waits for all of it. Called whatever became of the micro-batches: the others wait
    /// for this process's part.
    pub fn finish(mut self) -> Result<()> {
        if self.exchange.is_none() {
            return Ok(());
        }
        let rounds = if matches!(self.gradient, Gradient::Share(_)) { self.rounds } else { 1 };
        while self.round < rounds {
            self.end_round()?;
        }
        while !self.sent.is_empty() {
            self.arrive()?;
        }
        Ok(())
    }
}

/// A micro-batch's way through the model.
pub(crate) struct Batch<'a, 's> {
    pub sum: &'a mut Sum<'s>,
    pub index: usize,
}

impl Along for Batch<'_, '_> {
    fn need(&mut self, stretch: Stretch) -> Result<()> {
        self.sum.need(self.index, stretch)
    }

    fn spare(&mut self, stretch: Stretch) -> Result<()> {
        self.sum.spare(stretch)
    }

    fn take(&mut self, slot: usize, found: Tensor) -> Result<()> {
        self.sum.add(self.index, slot, &found)
    }
}

/// Where element `at` of the flat memory lies in a part's own memory.
fn inside(part: &Part, at: i64) -> i64 {
    let mut before = 0;
    for range in &part.ranges {
        if range.contains(&at) {
            return before + at - range.start;
        }
        before += range.end - range.start;
    }
    before
}

/// The gradient's memory for this way of sharing out: all of it, or a share.
pub(crate) fn gradient(
    layout: &Layout,
    exchange: Option<&Exchange>,
    kind: Kind,
    device: tch::Device,
) -> Result<Gradient> {
    match exchange {
        Some(exchange) if exchange.sharding >= Sharding::Gradients => {
            let own = exchange.shares.own();
            Ok(Gradient::Share(Tensor::f_zeros([own.end - own.start], (kind, device))?))
        }
        _ => Ok(Gradient::Whole(layout.zeros_in(kind, device)?)),
    }
}
