//! How simulated servers behave: the form of a distribution file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Blame, FaultKind, RemoteError};

/// How the servers of a simulation behave; the content of a distribution file, which is TOML. Every server behaves by the
/// same file, with its own random numbers.
///
/// ```toml
/// answer_tokens = [[0.0, 20], [0.5, 180], [1.0, 512]]            # quantiles: share of answers, tokens at most
/// first_token = [[0.0, 0.02], [0.9, 0.1], [1.0, 0.5]]            # seconds until an answer begins
///
/// [[speed]]                                                      # at least one, loads rising
/// load = 1                                                       # requests at the server, the one sent included
/// token = [[0.0, 0.007], [1.0, 0.012]]                           # seconds per token of an answer
///
/// [[faults]]
/// kind = "busy"                                                  # as counted by a pool
/// rate = 0.001                                                   # share of tries
/// after = [[0.0, 0.002], [1.0, 0.01]]                            # seconds until it shows
/// retry_after = 1.0                                              # seconds, for "busy" only
///
/// [deaths]
/// between = 36000                                                # seconds a server lives, in the mean
/// away = [[0.0, 60], [1.0, 600]]                                 # seconds until it is back
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// Tokens of an answer.
    pub answer_tokens: Quantiles,
    /// Seconds until an answer begins.
    pub first_token: Quantiles,
    /// Seconds per token by load; in between, in proportion, and outside as at the nearest.
    pub speed: Vec<Speed>,
    /// What goes wrong with single tries.
    #[serde(default)]
    pub faults: Vec<SimulatedFault>,
    /// How servers die.
    #[serde(default)]
    pub deaths: Option<Deaths>,
}

/// Speed at a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Requests at the server when the request is sent, itself included.
    pub load: u32,
    /// Seconds per token.
    pub token: Quantiles,
}

/// A fault of single tries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedFault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Share of tries.
    pub rate: f64,
    /// Seconds until it shows.
    pub after: Quantiles,
    /// Seconds for which a busy server asks to be left alone.
    #[serde(default)]
    pub retry_after: Option<f64>,
}

/// Deaths of servers: what is under way is cut, and nothing connects until the server is back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deaths {
    /// Mean seconds from one death of a server, or the beginning, to the next; exponentially distributed.
    pub between: f64,
    /// Seconds until it is back.
    pub away: Quantiles,
}

/// A distribution by some of its quantiles: `[share, value]`, both rising, shares from 0 to 1; in between in proportion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantiles(pub Vec<(f64, f64)>);

impl Quantiles {
    /// The value below which this share of all lies.
    pub fn at(&self, share: f64) -> f64 {
        let after = self.0.iter().position(|(until, _)| *until >= share).unwrap_or(self.0.len());
        let value = |place: usize| self.0.get(place).copied();
        match (after.checked_sub(1).and_then(value), value(after)) {
            (Some((from, low)), Some((until, high))) => low + (high - low) * (share - from) / (until - from),
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0.0,
        }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        let part = |pair: &[(f64, f64)]| match pair {
            [(from, low), (until, high)] => (until - from) * (low + high) / 2.0,
            _ => 0.0,
        };
        self.0.windows(2).map(part).sum()
    }

    fn check(&self, name: &'static str) -> Result<(), RemoteError> {
        let wrong = |message: &str| Err(RemoteError::Setting { name, message: message.to_owned() });
        let ends = (self.0.first().map(|first| first.0), self.0.last().map(|last| last.0));
        if self.0.len() < 2 || ends != (Some(0.0), Some(1.0)) {
            return wrong("quantiles are pairs of a share and a value, with shares from 0 to 1");
        }
        if self.0.iter().any(|(_, value)| !value.is_finite() || *value < 0.0) {
            return wrong("values are 0 or more");
        }
        let rising = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        if self.0.windows(2).all(rising) { Ok(()) } else { wrong("shares and values must rise") }
    }
}

impl Behaviour {
    /// Whether every part means something.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn check(&self) -> Result<(), RemoteError> {
        let wrong = |name, message: &str| Err(RemoteError::Setting { name, message: message.to_owned() });
        self.answer_tokens.check("answer_tokens")?;
        self.first_token.check("first_token")?;
        self.speed.iter().try_for_each(|speed| speed.token.check("speed.token"))?;
        if self.speed.is_empty() || self.speed.windows(2).any(|pair| pair[0].load >= pair[1].load) {
            return wrong("speed", "at least one load is needed, and loads must rise");
        }
        self.faults.iter().try_for_each(|fault| fault.after.check("faults.after"))?;
        let rates: f64 = self.faults.iter().map(|fault| fault.rate).sum();
        if self.faults.iter().any(|fault| !(0.0..=1.0).contains(&fault.rate)) || rates > 1.0 {
            return wrong("faults.rate", "rates are from 0 to 1, and so is their sum");
        }
        if self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Key | FaultKind::NotFound)) {
            return wrong("faults.kind", "\"key\" and \"not-found\" end a server for good: leave them out");
        }
        let seconds = self.faults.iter().filter_map(|fault| fault.retry_after);
        if seconds.into_iter().any(|seconds| !(0.0..=86_400.0).contains(&seconds)) {
            return wrong("faults.retry_after", "it is from 0 to 86400 seconds");
        }
        if let Some(deaths) = &self.deaths {
            deaths.away.check("deaths.away")?;
            if !(deaths.between.is_finite() && deaths.between > 0.0) {
                return wrong("deaths.between", "it is more than 0 seconds");
            }
        }
        Ok(())
    }

    /// Seconds per token at a load, of this share.
    pub(super) fn token(&self, load: u32, share: f64) -> f64 {
        let after = self.speed.iter().position(|speed| speed.load >= load).unwrap_or(self.speed.len());
        let at = |place: usize| self.speed.get(place).map(|speed| (f64::from(speed.load), speed.token.at(share)));
        match (after.checked_sub(1).and_then(at), at(after)) {
            (Some((from, low)), Some((until, high))) => low + (high - low) * (f64::from(load) - from) / (until - from),
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0.0,
        }
    }
}

impl SimulatedFault {
    /// Whose fault a pool takes it for.
    pub(super) fn blame(&self) -> Blame {
        match self.kind {
            FaultKind::Connect | FaultKind::Model => Blame::Away,
            FaultKind::Busy => Blame::Busy(self.retry_after.map(Duration::from_secs_f64)),
            FaultKind::Refused => Blame::Request,
            FaultKind::Key | FaultKind::NotFound => Blame::Server,
            FaultKind::Timeout | FaultKind::Cut | FaultKind::Server | FaultKind::NotJson | FaultKind::Shape => {
                Blame::Try
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantiles() -> impl Strategy<Value = Quantiles> {
        prop::collection::vec((1u32..100, 0u32..100), 1..6).prop_map(|steps| {
            let whole: u32 = steps.iter().map(|(share, _)| share).sum();
            let mut all = vec![(0.0, 1.0)];
            let (mut share, mut value) = (0, 1.0);
            for (more, up) in steps {
                share += more;
                value += f64::from(up);
                all.push((f64::from(share) / f64::from(whole), value));
            }
            Quantiles(all)
        })
    }

    proptest! {
        #[test]
        fn values_rise_between_the_ends(quantiles in quantiles(), a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            prop_assert!(quantiles.check("x").is_ok());
            let (low, high) = (quantiles.at(a.min(b)), quantiles.at(a.max(b)));
            let (first, last) = (quantiles.0[0].1, quantiles.0.last().unwrap().1);
            // Interpolation rounds: three operations on numbers below 1000.
            let rounding = 1e-12 * last;
            prop_assert!(first <= low && low <= high + rounding && high <= last + rounding);
            prop_assert!((first..=last).contains(&quantiles.mean()) || quantiles.mean() - last < rounding);
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for pairs in [
            vec![],
            vec![(0.0, 1.0)],
            vec![(0.0, 2.0), (1.0, 1.0)],
            vec![(0.1, 1.0), (1.0, 1.0)],
            vec![(0.0, -1.0), (1.0, 1.0)],
        ] {
            assert!(Quantiles(pairs.clone()).check("x").is_err(), "{pairs:?}");
        }
    }
}
