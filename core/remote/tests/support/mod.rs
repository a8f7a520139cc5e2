//! What the tests share: a scripted server, a proxy that puts faults in the way of any server, and real servers.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod http;
pub mod proxy;
pub mod scripted;

use std::time::Duration;

use metareward_api::{Message, Sampling};
use metareward_remote::{Answer, Backoff, Endpoint, Failure, Pool, PoolOptions, Request, ScheduleOptions, Timeouts};

/// Greedy answers of this length.
pub fn greedy(max_tokens: u32) -> Sampling {
    Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens, stop: Vec::new() }
}

/// Questions of one turn.
pub fn questions(count: usize) -> Vec<Request> {
    let ask =
        |number: usize| Request::chat(vec![Message::user(format!("Question {number}?"))], greedy(8), number as u64);
    (0..count).map(ask).collect()
}

/// A server's endpoint.
pub fn endpoint(address: &str, model: &str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), model: model.to_owned(), answers_as: None, key: None }
}

/// Quick tries, so that tests are quick.
pub fn options() -> PoolOptions {
    let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(200), seed: 1 };
    PoolOptions {
        schedule: ScheduleOptions {
            in_flight: 4,
            retries: 8,
            backoff,
            patience: Duration::from_secs(10),
            ..ScheduleOptions::default()
        },
        timeouts: Timeouts { connect: Duration::from_secs(2), total: Duration::from_millis(1200) },
    }
}

/// Runs all requests; every one must end exactly once.
pub fn outcomes(pool: &mut Pool, requests: &[Request]) -> (Vec<Result<Answer, Failure>>, metareward_remote::Counts) {
    let mut all: Vec<Option<Result<Answer, Failure>>> = vec![None; requests.len()];
    let mut take = |place: u64, outcome| {
        assert!(all[place as usize].replace(outcome).is_none(), "request {place} ended twice");
        Ok(())
    };
    let counts = pool.run(requests.iter().cloned(), &mut take, &|| false).unwrap();
    (all.into_iter().map(|outcome| outcome.expect("a request was lost")).collect(), counts)
}

/// The texts of answers, all of which must be there.
pub fn texts(outcomes: &[Result<Answer, Failure>]) -> Vec<String> {
    let text = |outcome: &Result<Answer, Failure>| match outcome {
        Ok(answer) => answer.completions[0].text.clone(),
        Err(failure) => panic!("{failure}"),
    };
    outcomes.iter().map(text).collect()
}
