//! What a simulation shows.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::FaultKind;

/// What a simulation shows. Times are the simulated servers' unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests answered.
    pub answered: u64,
    /// Requests given up.
    pub failed: u64,
    /// Tries.
    pub sent: u64,
    /// Tries that went wrong, by how.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Times that a server died.
    pub deaths: u64,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Of all places of servers that were up, the share of time spent on answers, to the moment at which requests ran out.
    pub busy: f64,
    /// The same to the last answer, with servers that were down counted too.
    pub busy_in_all: f64,
    /// Requests held at once, at most.
    pub most_held: usize,
    /// Seconds from sending to the answer, of the try that was answered: medians and tails.
    pub latency: Percentiles,
    /// Seconds of processor time that the schedule's decisions really took.
    pub deciding_seconds: f64,
    /// Seconds that the coordinator was at work: decisions, and the cost of handling stated for the simulation.
    pub coordinator_seconds: f64,
}

impl Outcome {
    /// Answers per second.
    pub fn requests_per_second(&self) -> f64 {
        self.answered as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Share of one core that the coordinator takes.
    pub fn cores(&self) -> f64 {
        self.coordinator_seconds / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Some percentiles, in seconds, each at most 1 % too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half lie below.
    pub p50: f64,
    /// 90 % lie below.
    pub p90: f64,
    /// 99 % lie below.
    pub p99: f64,
    /// The largest.
    pub most: f64,
}

/// Counts by the logarithm of a time: as much memory for a million as for ten.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: BTreeMap<i32, u64>,
    count: u64,
    most: f64,
}

/// A bucket ends this much above where it begins.
const STEP: f64 = 1.01;

impl Histogram {
    pub(super) fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64().max(1e-9);
        *self.counts.entry((seconds.ln() / STEP.ln()).floor() as i32).or_default() += 1;
        self.count += 1;
        self.most = self.most.max(seconds);
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let at = |share: f64| {
            let wanted = (share * self.count as f64).ceil() as u64;
            let mut seen = 0;
            for (bucket, count) in &self.counts {
                seen += count;
                if seen >= wanted {
                    return STEP.powi(bucket + 1).min(self.most);
                }
            }
            self.most
        };
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: self.most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        (1..=1000u64).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let found = histogram.percentiles();
        for (value, right) in [(found.p50, 0.5), (found.p90, 0.9), (found.p99, 0.99), (found.most, 1.0)] {
            // A bucket's end is at most a step above every value in it; both logarithms round.
            assert!(value >= right - 1e-9 && value <= right * STEP + 1e-9, "{value} for {right}");
        }
    }
}
