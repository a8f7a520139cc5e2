//! The learning rate of every step, as in transformers.

use metareward_api::{LearningRateSchedule, TrainSettings};

/// Learning rate of optimizer step `step`, counted from 1.
///
/// The factors are those of transformers' `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup` and
/// `get_cosine_schedule_with_warmup`, taken at `step − 1`: as with the Hugging Face trainer the first step of a warm-up
/// runs at 0 and the first step without warm-up at the peak.
pub fn learning_rate(settings: &TrainSettings, step: u32) -> f64 {
    settings.learning_rate * factor(settings, step.saturating_sub(1))
}

fn factor(settings: &TrainSettings, done: u32) -> f64 {
    let (done, warmup, total) = (f64::from(done), f64::from(settings.warmup_steps), f64::from(settings.schedule_steps));
    if done < warmup {
        return done / warmup.max(1.0);
    }
    let left = (total - warmup).max(1.0);
    match settings.lr_schedule {
        LearningRateSchedule::Constant => 1.0,
        LearningRateSchedule::Linear => ((total - done) / left).max(0.0),
        LearningRateSchedule::Cosine => {
            let progress = (done - warmup) / left;
            (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
        }
    }
}
