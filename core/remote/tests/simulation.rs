//! The simulated pool: servers of the committed distribution file are kept busy, in memory that does not grow, and the
//! coordinator's limit is where its time per request says.
//!
//! `METAREWARD_LONG_TESTS=1 cargo test --release -p metareward-remote --test simulation -- --nocapture` simulates a million
//! requests and prints the figures; `metareward bench pool` does the same for any file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use metareward_api::Message;
use metareward_remote::{
    Backoff, Cache, Pool, PoolOptions, Request, ScheduleOptions,
    simulate::{Behaviour, Coordinator, Outcome, Quantiles, Simulation, Speed, limit, simulate},
};
use support::{endpoint, greedy, scripted::Scripted};

fn committed() -> Behaviour {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/distributions/assumed-8b.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn simulation(requests: u64) -> Simulation {
    Simulation {
        behaviour: committed(),
        servers: 64,
        options: ScheduleOptions { in_flight: 32, ..ScheduleOptions::default() },
        requests,
        group: 11,
        seed: 7,
        coordinator: Coordinator::Free,
    }
}

fn run(simulation: &Simulation) -> Outcome {
    simulate(simulation, &mut |_| {}).unwrap()
}

/// Deciding takes real time, which is another every time.
fn but_real_time(outcome: Outcome) -> Outcome {
    Outcome { deciding_seconds: 0.0, ..outcome }
}

#[test]
fn sixty_four_servers_of_the_file_are_kept_busy() {
    let mut simulation = simulation(100_000);
    // In two simulated minutes one server of the file would die at most: here they all do.
    simulation.behaviour.deaths.as_mut().unwrap().between = 1500.0;
    let few = run(&simulation);
    assert!(few.busy >= 0.95, "{few:?}");
    assert_eq!(few.answered + few.failed, 100_000);
    // Five tries, and none of the file's faults is likely to meet a request five times.
    assert_eq!(few.failed, 0, "{few:?}");
    // The file's faults and deaths were met.
    assert!(few.faults.len() >= 4 && few.deaths > 0, "{few:?}");
    assert!(few.most_held <= 3 * 64 * 32);
    // The same seed, the same events.
    assert_eq!(but_real_time(few), but_real_time(run(&simulation)));
}

#[test]
fn a_million_requests() {
    let Ok(_) = std::env::var("METAREWARD_LONG_TESTS") else {
        println!("METAREWARD_LONG_TESTS is not set: left out");
        return;
    };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut memory = Vec::new();
    let outcome = simulate(&simulation(1_000_000), &mut |_| memory.push(resident())).unwrap();
    let (early, late) = (memory[memory.len() / 10], *memory.last().unwrap());
    println!(
        "{outcome:#?}\n{} requests/s, {:.3} cores",
        outcome.requests_per_second(),
        outcome.deciding_seconds / outcome.seconds
    );
    println!("resident after a tenth {early} kB, at the end {late} kB");
    assert!(outcome.busy >= 0.95 && outcome.failed == 0, "{outcome:?}");
    assert!(outcome.deciding_seconds < outcome.seconds, "{outcome:?}");
    // Pages come and go; ten times the requests in the same memory is what is meant.
    assert!(late < early + 4096, "{memory:?}");

    let each = handling();
    println!(
        "a request of the real pool takes {each:?} of processor time: connection, JSON, the answer's line on disk"
    );
    let measured = Simulation { coordinator: Coordinator::Measured(each), ..simulation(0) };
    limit(&measured, 50, 0.95, 16_384, &mut |rung| {
        let Outcome { busy, .. } = rung.outcome;
        let (rate, cores) = (rung.outcome.requests_per_second(), rung.outcome.cores());
        println!("{:6} servers: {:5.1} % busy, {rate:8.0} requests/s, {cores:.3} cores", rung.servers, 100.0 * busy);
    })
    .unwrap();
}

/// Processor time of this thread, which is the pool's, for one request to a real server on this machine, with answers kept
/// on disk: a prompt of some 700 tokens as a judge's, an answer of 150 words.
fn handling() -> Duration {
    let words = |count: usize| "several words in a row ".repeat(count / 5);
    let answer = words(150);
    let server = Scripted::start(move |_| {
        let choice =
            serde_json::json!({ "message": { "role": "assistant", "content": answer }, "finish_reason": "stop" });
        let usage = serde_json::json!({ "prompt_tokens": 700, "completion_tokens": 150 });
        Some(serde_json::json!({ "model": "scripted", "choices": [choice], "usage": usage }).to_string())
    });
    server.takes(Duration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let mut options = PoolOptions::default();
    options.schedule.in_flight = 32;
    let endpoint = endpoint(&format!("openai:http://127.0.0.1:{}", server.port), "scripted");
    let mut pool = Pool::new(vec![endpoint], options).unwrap().with_cache(Cache::open(folder.path()).unwrap());
    let thread_seconds = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().map(Duration::from_nanos).unwrap()
    };
    let prompt = words(500);
    let ask = |seed: u64| Request::chat(vec![Message::user(format!("{prompt}{}", seed / 11))], greedy(512), seed);
    let count = 5000;
    let before = thread_seconds();
    let counts = pool.run((0..count).map(ask), &mut |_, _| Ok(()), &|| false).unwrap();
    assert_eq!(counts.answered, count);
    (thread_seconds() - before) / u32::try_from(count).unwrap()
}

/// Every answer takes a tenth of a second at every load and nothing goes wrong.
fn even() -> Behaviour {
    let always = |value: f64| Quantiles(vec![(0.0, value), (1.0, value)]);
    Behaviour {
        answer_tokens: always(100.0),
        first_token: always(0.0),
        speed: vec![Speed { load: 1, token: always(0.001) }],
        faults: Vec::new(),
        deaths: None,
    }
}

/// A coordinator that takes a millisecond for each request serves a thousand in a second: a hundred places of a tenth of a
/// second each, and with twice as many they are half idle.
#[test]
fn the_limit_is_where_the_coordinators_time_says() {
    let backoff = Backoff::default();
    let simulation = Simulation {
        behaviour: even(),
        servers: 5,
        options: ScheduleOptions { in_flight: 10, backoff, ..ScheduleOptions::default() },
        requests: 0,
        group: 1,
        seed: 1,
        coordinator: Coordinator::PerRequest(Duration::from_millis(1)),
    };
    let rungs = limit(&simulation, 40, 0.95, 1000, &mut |_| {}).unwrap();
    let servers: Vec<usize> = rungs.iter().map(|rung| rung.servers).collect();
    assert!(servers.len() <= 3 && servers[0] == 5, "{servers:?}");
    for rung in &rungs {
        // Two requests' time at the start, when all places are empty, is lost for every place.
        let demand = rung.servers as f64 * 10.0 / 0.1;
        let most = (1000.0 / demand).min(1.0);
        assert!(rung.outcome.busy <= most + 1e-9, "{rung:?}");
        assert!(rung.outcome.cores() <= 1.0 + 1e-9, "{rung:?}");
        // A round of forty is lost while places fill and empty, and as much again to be sure.
        assert!(rung.outcome.busy_in_all >= most * 0.9, "{rung:?}");
    }
    assert!(rungs.last().unwrap().outcome.busy < 0.95);
}

#[test]
fn the_form_of_the_file_is_checked() {
    let mut behaviour = committed();
    behaviour.speed.reverse();
    let error = simulate(&Simulation { behaviour, ..simulation(10) }, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("loads must rise"), "{error}");
    assert!(toml::from_str::<Behaviour>("answer_tokens = 3").is_err());
}
