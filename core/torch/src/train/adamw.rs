//! AdamW, as `torch.optim.AdamW`.

use metareward_api::TrainSettings;
use tch::{Device, Tensor, no_grad};

use super::{
    native::{Update, update},
    parameters::{Flat, Layout},
};
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

    /// The same as clipping by `clip` and [`AdamW::step`], in one pass on the CPU.
    #[allow(clippy::too_many_arguments)]
    pub fn step_native(
        &mut self,
        layout: &Layout,
        masters: &mut Flat,
        gradient: &mut Flat,
        clip: f64,
        rate: f64,
        settings: &TrainSettings,
        threads: usize,
    ) -> Result<()> {
        self.steps += 1;
        let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
        let steps = f64::from(self.steps);
        let constants = Update {
            clip: clip as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            decay: (1.0 - rate * settings.weight_decay) as f32,
            decayed: layout.decayed() as usize,
            rate: (rate / (1.0 - beta1.powf(steps))) as f32,
            correction: (1.0 / (1.0 - beta2.powf(steps)).sqrt()) as f32,
            epsilon: settings.adam_epsilon as f32,
        };
        let (mean, square) = (&mut self.exp_avg, &mut self.exp_avg_sq);
        update(constants, &mut masters.all, mean, square, &mut gradient.all, threads)
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

#[cfg(test)]
mod tests {
    use metareward_api::LearningRateSchedule;
    use serde_json::Value;
    use tch::Kind;

    use super::*;
    use crate::train::{
        parameters::{clip, gradient_norm},
        schedule::learning_rate,
    };

    fn numbers(value: &Value) -> Vec<f32> {
        match value {
            Value::Array(values) => values.iter().flat_map(numbers).collect(),
            value => vec![value.as_f64().unwrap() as f32],
        }
    }

    fn put(flat: &Flat, slot: usize, values: &Value) {
        let view = &flat.views[slot];
        view.shallow_clone().copy_(&Tensor::from_slice(&numbers(values)).view(view.size().as_slice()));
    }

    fn close(view: &Tensor, expected: &Value) {
        let found = Vec::<f32>::try_from(view.contiguous().view(-1)).unwrap();
        for (found, expected) in found.iter().zip(numbers(expected)) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    /// Twelve steps of `torch.optim.AdamW` with `clip_grad_norm_` and transformers' schedules.
    #[test]
    fn equals_torch_with_clipping_and_schedules() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/train/optimizer.json");
        let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let number = |name: &str| fixture[name].as_f64().unwrap();
        let mut clipped = 0;
        for run in fixture["runs"].as_array().unwrap() {
            let settings = TrainSettings {
                learning_rate: number("learning_rate"),
                lr_schedule: serde_json::from_value::<LearningRateSchedule>(run["schedule"].clone()).unwrap(),
                warmup_steps: run["warmup"].as_u64().unwrap() as u32,
                schedule_steps: run["total"].as_u64().unwrap() as u32,
                weight_decay: number("weight_decay"),
                adam_beta1: fixture["betas"][0].as_f64().unwrap(),
                adam_beta2: fixture["betas"][1].as_f64().unwrap(),
                adam_epsilon: number("epsilon"),
                max_grad_norm: number("clip"),
                max_length: 0,
                micro_batch_tokens: 0,
                activation_checkpointing: false,
                lora: None,
                save_steps: 0,
            };
            let layout = Layout::new([("vector".to_owned(), vec![5]), ("matrix".to_owned(), vec![3, 4])]);
            assert_eq!(layout.slots()[0].name, "matrix");
            let mut masters = layout.zeros(Device::Cpu).unwrap();
            put(&masters, 0, &run["start"][0]);
            put(&masters, 1, &run["start"][1]);
            let mut adamw = AdamW::new(&layout, Device::Cpu).unwrap();
            for (index, step) in run["steps"].as_array().unwrap().iter().enumerate() {
                let mut gradient = layout.zeros(Device::Cpu).unwrap();
                put(&gradient, 0, &step["gradients"][0]);
                put(&gradient, 1, &step["gradients"][1]);
                let norm = gradient_norm(&gradient).unwrap();
                assert!((norm - step["norm"].as_f64().unwrap()).abs() < 1e-5);
                clipped += usize::from(norm > settings.max_grad_norm);
                clip(&mut gradient, norm, settings.max_grad_norm).unwrap();
                let rate = learning_rate(&settings, index as u32 + 1);
                assert!((rate - step["rate"].as_f64().unwrap()).abs() < 1e-15, "step {index}");
                adamw.step(&layout, &mut masters, &gradient, rate, &settings).unwrap();
                close(&masters.views[0], &step["matrix"]);
                close(&masters.views[1], &step["vector"]);
            }
        }
        assert!(clipped > 10, "the fixture clips in {clipped} steps");
    }

    /// A learning rate of 5e-6 moves f32 masters even where a bf16 weight would not change.
    #[test]
    fn small_updates_add_up_in_the_masters() {
        let layout = Layout::new([("matrix".to_owned(), vec![1, 16])]);
        let mut masters = layout.zeros(Device::Cpu).unwrap();
        let _ = masters.all.fill_(1.0);
        let gradient = layout.flat(Tensor::ones([16], (Kind::Float, Device::Cpu))).unwrap();
        let settings = TrainSettings {
            learning_rate: 5e-6,
            lr_schedule: LearningRateSchedule::Constant,
            warmup_steps: 0,
            schedule_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 0.0,
            max_length: 0,
            micro_batch_tokens: 0,
            activation_checkpointing: false,
            lora: None,
            save_steps: 0,
        };
        let mut adamw = AdamW::new(&layout, Device::Cpu).unwrap();
        for _ in 0..1000 {
            adamw.step(&layout, &mut masters, &gradient, 5e-6, &settings).unwrap();
        }
        let moved = 1.0 - masters.all.double_value(&[0]);
        assert!((moved - 5e-3).abs() < 1e-4, "{moved}");
    }
}
