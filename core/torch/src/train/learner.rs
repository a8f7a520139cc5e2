//! What every process of a training run has: weights or a share of them, optimizer, gradient, workers.

use metareward_api::TrainSettings;
use tch::Tensor;

use super::{
    adamw::AdamW,
    native,
    parameters::{clip_factor, gradient_norm, squared_norm},
    ranks::{Exchange, Gathering, Gradient, Sum, nothing},
    schedule::learning_rate,
    state::Named,
    step::Team,
    trainable::Trainable,
    worker::{Failure, Objective, Sums, Unit},
};
use crate::error::{Result, TorchError};

/// The state of training, and who computes.
pub(crate) struct Learner {
    pub trainable: Trainable,
    pub adamw: AdamW,
    pub gradient: Gradient,
    /// The weights, where they are shared out.
    pub gathering: Option<Gathering>,
    pub team: Team,
    /// The other processes; `None` where there are none.
    pub exchange: Option<Exchange>,
}

impl Learner {
    /// The gradient of a step's units, which are split into `batches`, added up over all processes; the sums are those of
    /// this process's units. `rounds` is the largest number of micro-batches that a process has.
    ///
    /// Whatever becomes of the computation, what the others wait for is sent.
    pub fn gradients(
        &mut self,
        units: &[Unit],
        batches: &[Vec<usize>],
        rounds: usize,
        objective: Objective<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> std::result::Result<Sums, Failure> {
        self.gradient.clear()?;
        let Self { trainable, gradient, gathering, team, exchange, .. } = self;
        let layout = &trainable.layout;
        let mut sum = Sum::new(gradient, layout, exchange.as_ref(), batches.len(), rounds, gathering.as_mut(), true);
        let found = team.gradients(&chosen(units, batches), objective, layout, &mut sum, stop);
        sum.finish()?;
        found
    }

    /// The loss of units alone.
    pub fn evaluate(
        &mut self,
        units: &[Unit],
        batches: &[Vec<usize>],
        rounds: usize,
        objective: Objective<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> std::result::Result<Sums, Failure> {
        let batches = chosen(units, batches);
        if let Some(gathering) = &mut self.gathering {
            let mut none = Gradient::Share(nothing(gathering.share.kind(), gathering.share.device())?);
            let (layout, exchange) = (&self.trainable.layout, self.exchange.as_ref());
            let mut sum = Sum::new(&mut none, layout, exchange, batches.len(), rounds, Some(gathering), false);
            let found = self.team.evaluate_shared(&batches, objective, &mut sum);
            sum.finish()?;
            return found;
        }
        let sums = self.team.run(batches.len(), stop, |worker, index| worker.evaluate(&batches[index], objective))?;
        let mut total = Sums::default();
        sums.iter().for_each(|sums| total.add(sums));
        Ok(total)
    }

    /// Norm of the whole gradient.
    pub fn norm(&mut self) -> Result<f64> {
        let threads = self.team.size();
        match (&self.exchange, &mut self.gradient) {
            (Some(exchange), gradient) if exchange.sharded() => {
                let own = gradient.own(&exchange.own(self.trainable.layout.length()))?;
                let mut sum = Tensor::f_from_slice(&[squared_norm(&own)?])?;
                // Through the CPU: one number, in f64.
                exchange.group.all_reduce(&mut sum)?;
                Ok(sum.f_double_value(&[0])?.sqrt())
            }
            (_, Gradient::Whole(flat)) if self.team.native() => native::gradient_norm(&mut flat.all, threads),
            (_, Gradient::Whole(flat)) => gradient_norm(flat),
            (_, Gradient::Share(_)) => {
                Err(TorchError::Machine("a share of a gradient without other processes: this is a bug".to_owned()))
            }
        }
    }

    /// Optimizer step `step`, with a gradient of norm `norm`; returns the learning rate.
    pub fn update(&mut self, step: u32, norm: f64, settings: &TrainSettings) -> Result<f64> {
        let rate = learning_rate(settings, step);
        let clip = clip_factor(norm, settings.max_grad_norm);
        let length = self.trainable.layout.length();
        let own = self.exchange.as_ref().map_or(0..length, |exchange| exchange.own(length));
        let mut weights = self.own_weights()?;
        self.adamw.step(&mut weights, &mut self.gradient.own(&own)?, clip, rate, settings)?;
        self.share_weights()?;
        Ok(rate)
    }

    /// This process's part of the training state.
    pub fn state(&self) -> Result<Vec<Named>> {
        Ok(self.adamw.state(&self.own_weights()?))
    }

    /// After the tensors of [`Learner::state`] were written to.
    pub fn loaded(&mut self, steps: u32) -> Result<()> {
        let mut weights = self.own_weights()?;
        self.adamw.loaded(&mut weights, steps)?;
        self.share_weights()
    }

    fn share_weights(&self) -> Result<()> {
        self.exchange.as_ref().map_or(Ok(()), |exchange| exchange.share_weights(&self.trainable.weights.all))
    }

    /// The weights that this process updates.
    pub fn own_weights(&self) -> Result<Tensor> {
        if let Some(gathering) = &self.gathering {
            return Ok(gathering.share.shallow_clone());
        }
        let length = self.trainable.layout.length();
        let own = self.exchange.as_ref().map_or(0..length, |exchange| exchange.own(length));
        Ok(self.trainable.weights.all.f_narrow(0, own.start, own.end - own.start)?)
    }

    /// Bytes of weights, gradient and optimizer state that this process holds.
    pub fn state_bytes(&self) -> Result<u64> {
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let gradient = match &self.gradient {
            Gradient::Whole(flat) => size(&flat.all),
            Gradient::Share(share) => size(share),
        };
        let whole = match &self.gathering {
            Some(gathering) => &gathering.share,
            None => &self.trainable.weights.all,
        };
        // Where the weights themselves are the masters they are among the state's tensors, as a view.
        let within = |tensor: &Tensor| {
            let start = whole.data_ptr() as usize;
            (start..start + size(whole) as usize).contains(&(tensor.data_ptr() as usize))
        };
        let beside: u64 =
            self.state()?.iter().filter(|(_, tensor)| !within(tensor)).map(|(_, tensor)| size(tensor)).sum();
        Ok(size(whole) + gradient + beside)
    }
}

/// The units of every micro-batch.
pub(crate) fn chosen<'a>(units: &'a [Unit], batches: &[Vec<usize>]) -> Vec<Vec<&'a Unit>> {
    batches.iter().map(|batch| batch.iter().map(|&unit| &units[unit]).collect()).collect()
}
