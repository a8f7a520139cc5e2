//! Limits per minute, kept by spacing.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Requests and tokens per minute of one server. Instead of counting a minute and then waiting for the next, what is sent
/// is spaced: no window of a minute holds more requests than allowed, and the tokens of all requests in it but the last
/// are no more than allowed. Times are since any common start.
#[derive(Clone, Debug)]
pub struct Pace {
    requests: Option<u32>,
    tokens: Option<u32>,
    next_request: Duration,
    next_tokens: Duration,
}

impl Pace {
    /// `None` and 0 set no limit.
    pub fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u32>) -> Pace {
        let some = |limit: Option<u32>| limit.filter(|limit| *limit > 0);
        let (next_request, next_tokens) = (Duration::ZERO, Duration::ZERO);
        Pace { requests: some(requests_per_minute), tokens: some(tokens_per_minute), next_request, next_tokens }
    }

    /// The earliest time at which the next request may be sent.
    pub fn ready(&self) -> Duration {
        self.next_request.max(self.next_tokens)
    }

    /// A request of about so many tokens is sent now.
    pub fn sent(&mut self, now: Duration, tokens: u32) {
        if let Some(limit) = self.requests {
            self.next_request = self.next_request.max(now) + MINUTE / limit + Duration::from_nanos(1);
        }
        if let Some(limit) = self.tokens {
            self.next_tokens = self.next_tokens.max(now) + share(tokens, limit);
        }
    }

    /// A request that was taken for `estimated` tokens used `used`: what was taken too much is given back.
    pub fn settle(&mut self, estimated: u32, used: u32) {
        if let Some(limit) = self.tokens {
            let (taken, due) = (share(estimated, limit), share(used, limit));
            self.next_tokens = (self.next_tokens + due).saturating_sub(taken);
        }
    }
}

/// The part of a minute that so many tokens take.
fn share(tokens: u32, limit: u32) -> Duration {
    MINUTE.mul_f64(f64::from(tokens) / f64::from(limit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Sends as early as allowed, after pauses of any length, and looks at every window of a minute.
        #[test]
        fn no_minute_holds_more(requests in 1u32..200, tokens in 1u32..5000, sends in prop::collection::vec((0u64..20_000, 0u32..800), 1..200)) {
            let mut pace = Pace::new(Some(requests), Some(tokens));
            let mut now = Duration::ZERO;
            let mut sent: Vec<(Duration, u32)> = Vec::new();
            for (pause, cost) in sends {
                now = (now + Duration::from_millis(pause)).max(pace.ready());
                pace.sent(now, cost);
                sent.push((now, cost));
            }
            for (first, (start, _)) in sent.iter().enumerate() {
                let window: Vec<u32> = sent[first..].iter().take_while(|(at, _)| *at < *start + MINUTE).map(|(_, cost)| *cost).collect();
                prop_assert!(window.len() <= requests as usize, "{} requests", window.len());
                let but_last: u32 = window[..window.len() - 1].iter().sum();
                prop_assert!(f64::from(but_last) <= f64::from(tokens) * 1.000_001, "{but_last} tokens");
            }
        }
    }

    #[test]
    fn tokens_that_were_not_used_are_given_back() {
        let mut pace = Pace::new(None, Some(60));
        pace.sent(Duration::ZERO, 30);
        assert_eq!(pace.ready(), Duration::from_secs(30));
        pace.settle(30, 10);
        assert_eq!(pace.ready(), Duration::from_secs(10));
        assert_eq!(Pace::new(None, Some(0)).ready(), Duration::ZERO);
    }
}
