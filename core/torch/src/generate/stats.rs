//! Where the time of a call went.

use std::time::Duration;

/// Time spent in the parts of a pass, added up over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Matrix products.
    pub products: Duration,
    /// Attention.
    pub attention: Duration,
    /// The model's passes as a whole: products, attention, and the small kernels between them.
    pub model: Duration,
    /// From logits to finished answers: sampling, stop texts, decoding, bookkeeping.
    pub sampling: Duration,
}

/// What a call to generate did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Tokens of all prompts, each counted as often as it was asked for.
    pub prompt_tokens: u64,
    /// Tokens of prompts that went through the model: what is left after sharing.
    pub prompt_computed: u64,
    /// Tokens of all answers.
    pub answer_tokens: u64,
    /// Tokens of answers that went through the model: draws that agree so far are one row.
    pub answer_computed: u64,
    /// Passes through the model.
    pub passes: u64,
    /// Most slots of keys and values in use at once, the largest of all workers.
    pub peak_slots: u64,
    /// Time of rendering and tokenizing the conversations.
    pub tokenizing: Duration,
    /// Time in the workers' parts.
    pub clock: Clock,
}

impl CallStats {
    /// Adds what a worker did.
    pub(crate) fn add(&mut self, other: &CallStats) {
        self.prompt_computed += other.prompt_computed;
        self.answer_tokens += other.answer_tokens;
        self.answer_computed += other.answer_computed;
        self.passes += other.passes;
        self.peak_slots = self.peak_slots.max(other.peak_slots);
        self.clock.products += other.clock.products;
        self.clock.attention += other.clock.attention;
        self.clock.model += other.clock.model;
        self.clock.sampling += other.clock.sampling;
    }
}
