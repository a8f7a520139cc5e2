//! AdamW, as `torch.optim.AdamW`.

use metareward_api::TrainSettings;
use tch::{Device, Tensor, no_grad};

use super::parameters::{Flat, Layout};
use crate::error::Result;

/// Elements updated at a time: bounds the memory for intermediate results.
const BLOCK: i64 = 1 << 22;

/// Decoupled weight decay and bias-corrected moments (Loshchilov and Hutter 2019; Kingma and Ba 2015), in f32.
///
/// It works on f32 masters whatever the model computes in: at a learning rate of 5e-6 most updates are smaller than half
/// a unit in the last place of a bf16 weight and would be lost. Masters and two moments take 12 bytes per parameter, and
/// the gradient 4.
pub(crate) struct AdamW {
    /// Mean of the gradient, decaying.
    pub exp_avg: Tensor,
    /// Mean of the squared gradient, decaying.
    pub exp_avg_sq: Tensor,
    /// Updates made.
    pub steps: u32,
}

impl AdamW {
    /// Zero moments.
    pub fn new(layout: &Layout, device: Device) -> Result<Self> {
        Ok(Self { exp_avg: layout.zeros(device)?.all, exp_avg_sq: layout.zeros(device)?.all, steps: 0 })
    }

    /// One update of `masters` at learning rate `rate`, with weight decay on the layout's matrices only.
    pub fn step(
        &mut self,
        layout: &Layout,
        masters: &mut Flat,
        gradient: &Flat,
        rate: f64,
        settings: &TrainSettings,
    ) -> Result<()> {
        self.steps += 1;
        let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
        let steps = f64::from(self.steps);
        let correction1 = 1.0 - beta1.powf(steps);
        let correction2_sqrt = (1.0 - beta2.powf(steps)).sqrt();
        no_grad(|| {
            if settings.weight_decay != 0.0 && layout.decayed() > 0 {
                let mut matrices = masters.all.f_narrow(0, 0, layout.decayed())?;
                let _ = matrices.f_mul_scalar_(1.0 - rate * settings.weight_decay)?;
            }
            let mut start = 0;
            while start < layout.length() {
                let length = BLOCK.min(layout.length() - start);
                let block = |tensor: &Tensor| tensor.f_narrow(0, start, length);
                let gradient = block(&gradient.all)?;
                let mut exp_avg = block(&self.exp_avg)?;
                let mut exp_avg_sq = block(&self.exp_avg_sq)?;
                let mut master = block(&masters.all)?;
                let _ = exp_avg.f_lerp_(&gradient, 1.0 - beta1)?;
                let mut square = gradient.f_mul(&gradient)?;
                let _ = exp_avg_sq.f_mul_scalar_(beta2)?;
                let _ = exp_avg_sq.f_add_(&square.f_mul_scalar_(1.0 - beta2)?)?;
                let mut update = exp_avg_sq.f_sqrt()?;
                let _ = update.f_mul_scalar_(1.0 / correction2_sqrt)?;
                let _ = update.f_add_scalar_(settings.adam_epsilon)?;
                let mut update = exp_avg.f_div(&update)?;
                let _ = update.f_mul_scalar_(rate / correction1)?;
                let _ = master.f_sub_(&update)?;
                start += length;
            }
            Ok(())
        })
    }
}
