//! What `metareward bench engine` measured of an engine: the file that a plan reads.

use serde::{Deserialize, Serialize};

use super::AnswerLengths;
use crate::ModelShape;

/// Version of the file's form.
pub const FIGURES_FORMAT: u32 = 1;

/// What was measured of an engine with a model, on an experiment's prompts and lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineFigures {
    /// [`FIGURES_FORMAT`].
    pub format: u32,
    /// Version of metareward that measured.
    pub version: String,
    /// `"in process"`, or the servers' addresses.
    pub engine: String,
    /// What computed: `Cpu`, `Cuda(0)`, or `unknown` for servers.
    pub device: String,
    /// GPUs that the figures are of, or 1 for a CPU.
    pub gpus: u32,
    /// Number format.
    pub precision: String,
    /// Name of the experiment whose shape it is.
    pub experiment: String,
    /// Prompts of a repeat.
    pub prompts: u32,
    /// How often everything was measured.
    pub repeats: u32,
    /// Whether the weights were drawn for the measurement, so that answers were as long as they might be and not as long as a
    /// model makes them.
    pub random_weights: bool,
    /// Most memory that the process has taken, GPU memory not included, in bytes.
    pub peak_bytes: u64,
    /// Seconds to load the model for generation; of servers, until their first answer with it.
    pub load_seconds: Figure,
    /// Mean lengths of answers in tokens.
    pub lengths: AnswerLengths,
    /// The model.
    pub model: ModelShape,
    /// Responses, K of each prompt.
    pub responses: Drawn,
    /// Judgments, N of each response.
    pub judgments: Drawn,
    /// Verdicts, where the experiment has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<Drawn>,
    /// Tokens per second of log-probabilities, prompts and completions of all sequences counted in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_probabilities: Option<Figure>,
    /// Training on pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Trained>,
}

/// Median, least and most of the repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Figure {
    /// Of these values; all zero of none.
    pub fn of(mut values: Vec<f64>) -> Figure {
        values.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (values.first().copied(), values.last().copied()) else {
            return Figure::default();
        };
        let middle = values.len() / 2;
        let at = |place: usize| values.get(place).copied().unwrap_or(low);
        let median = if values.len().is_multiple_of(2) { (at(middle - 1) + at(middle)) / 2.0 } else { at(middle) };
        Figure { median, low, high }
    }
}

/// How answers of one kind were drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    /// Answers of a repeat, asked for in one call.
    pub answers: u64,
    /// Mean length of the conversations before them, in tokens.
    pub prompt_tokens: f64,
    /// Tokens read in a repeat, what conversations have in common counted once: as a plan counts them.
    pub tokens_read: u64,
    /// Tokens written in a repeat.
    pub tokens_written: u64,
    /// Tokens read per second, while the first token of every answer is made.
    pub reading: Figure,
    /// Tokens written per second after that.
    pub writing: Figure,
    /// Tokens written per second, all in all.
    pub overall: Figure,
}

/// How pairs were trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Pairs of a step.
    pub batch_size: u32,
    /// Mean tokens of a sequence.
    pub sequence: f64,
    /// Tokens per second within steps, both sides of every pair counted in full.
    pub tokens_per_second: Figure,
    /// Seconds that a training takes outside of its steps: loading, and writing a checkpoint.
    pub outside_seconds: Figure,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_median_lies_between_and_does_not_depend_on_the_order(mut values in prop::collection::vec(0.0f64..1e6, 1..9)) {
            let figure = Figure::of(values.clone());
            prop_assert!(figure.low <= figure.median && figure.median <= figure.high);
            values.reverse();
            prop_assert_eq!(figure, Figure::of(values));
        }
    }

    #[test]
    fn medians() {
        assert_eq!(Figure::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 3.0]), Figure { median: 2.5, low: 1.0, high: 4.0 });
        assert_eq!(Figure::of(Vec::new()), Figure::default());
    }
}
