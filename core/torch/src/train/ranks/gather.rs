//! Weights that are shared out, put together for as long as they are used.

use tch::{Kind, Tensor, no_grad};

use super::{
    exchange::Exchange,
    parts::{Part, of_slots},
};
use crate::{
    error::Result,
    group::Pending,
    train::{
        parameters::Layout,
        trunk::{Place, place},
    },
};

/// The weights of a stretch of the model: a layer with what comes before the first or after the last one, or, after all
/// layers, the output projection.
pub(crate) type Stretch = usize;

/// This process's share of the weights, and the tensors that the model reads, which are empty but for the stretch in use.
pub(crate) struct Gathering {
    /// The share, flat.
    pub share: Tensor,
    leaves: Vec<Tensor>,
    stretches: Vec<Part>,
}

impl Gathering {
    /// `share` is this process's, `leaves` are the model's tensors in the order of `layout`. With `tied` embeddings these are
    /// the output projection too.
    pub fn new(layout: &Layout, share: Tensor, leaves: Vec<Tensor>, layers: usize, tied: bool) -> Self {
        let slots = |wanted: &dyn Fn(Place) -> bool| -> Vec<usize> {
            (0..layout.slots().len()).filter(|&slot| wanted(place(&layout.slots()[slot].name))).collect()
        };
        let mut stretches: Vec<Part> = (0..layers)
            .map(|layer| {
                let within = slots(&|place| match place {
                    Place::Embedding => layer == 0,
                    Place::Layer(index) => index == layer,
                    Place::Norm => layer + 1 == layers,
                    Place::Head => false,
                });
                of_slots(layout, within)
            })
            .collect();
        let head = slots(&|place| place == if tied { Place::Embedding } else { Place::Head });
        stretches.push(of_slots(layout, head));
        Self { share, leaves, stretches }
    }

    /// The output projection.
    pub fn head(&self) -> Stretch {
        self.stretches.len() - 1
    }

    /// Begins to put a stretch's weights together, from all processes, which do so at the same time.
    pub fn start(&self, exchange: &Exchange, stretch: Stretch) -> Result<Coming> {
        let part = self.stretches.get(stretch).map(|part| &part.ranges[..]).unwrap_or_default();
        let own = exchange.shares.own();
        let mut ranges = Vec::new();
        let mut under_way = Vec::new();
        for range in part {
            let all = Tensor::f_empty([range.end - range.start], (self.share.kind(), self.share.device()))?;
            for (owner, piece) in exchange.shares.pieces(range) {
                let mut view = all.f_narrow(0, piece.start - range.start, piece.end - piece.start)?;
                if owner == exchange.group.rank() {
                    let kept = self.share.f_narrow(0, piece.start - own.start, piece.end - piece.start)?;
                    no_grad(|| view.f_copy_(&kept))?;
                }
                under_way.push(exchange.group.start_broadcast(&view, owner)?);
            }
            ranges.push((range.start, all));
        }
        Ok(Coming { stretch, ranges, under_way })
    }

    /// Gives the model the weights that were on their way.
    pub fn place(&mut self, layout: &Layout, coming: Coming) -> Result<()> {
        let Coming { stretch, ranges, under_way } = coming;
        for pending in under_way {
            let _ = pending.wait()?;
        }
        let Some(part) = self.stretches.get(stretch) else { return Ok(()) };
        for &slot in &part.slots {
            let place = layout.slots()[slot].range();
            let (start, length) = (place.start as i64, place.len() as i64);
            let range = ranges.iter().find(|(from, all)| (*from..*from + all.numel() as i64).contains(&start));
            if let Some((from, all)) = range {
                let view = all.f_narrow(0, start - from, length)?.f_view(layout.slots()[slot].shape.as_slice())?;
                no_grad(|| self.leaves[slot].f_set_data(&view))?;
            }
        }
        Ok(())
    }

    /// Gives a stretch's weights up again.
    pub fn spare(&mut self, stretch: Stretch) -> Result<()> {
        let Some(part) = self.stretches.get(stretch) else { return Ok(()) };
        for &slot in &part.slots {
            let nothing = nothing(self.share.kind(), self.share.device())?;
            no_grad(|| self.leaves[slot].f_set_data(&nothing))?;
        }
        Ok(())
    }
}

/// Weights on their way.
pub(crate) struct Coming {
    pub stretch: Stretch,
    /// Where each range begins, and its memory.
    ranges: Vec<(i64, Tensor)>,
    under_way: Vec<Pending>,
}

/// A tensor that stands for weights that are with the others.
pub(crate) fn nothing(kind: Kind, device: tch::Device) -> Result<Tensor> {
    Ok(Tensor::f_empty([0], (kind, device))?)
}
