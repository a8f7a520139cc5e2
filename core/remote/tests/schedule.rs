//! Laws of the schedule, on simulated servers with a clock of their own: nothing is lost or doubled, limits hold, and
//! many servers are kept busy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metareward_remote::{After, Backoff, Blame, Schedule, ScheduleOptions, Step};
use proptest::prelude::*;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A simulated server.
#[derive(Clone, Debug)]
struct Simulated {
    /// How long an answer takes.
    latency: Duration,
    /// Of a thousand tries, how many go wrong by nobody's fault, and how many find it busy.
    wrong: u64,
    busy: u64,
    /// From when to when it is not there.
    down: (Duration, Duration),
}

/// Random numbers for a simulation.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Debug, Default)]
struct Ended {
    answered: BTreeSet<u64>,
    failed: BTreeMap<u64, u32>,
    /// Servers by prefix.
    homes: BTreeMap<u64, BTreeSet<usize>>,
    sent: u64,
    most_held: usize,
    time: Duration,
    /// Time that answers took, of all servers together.
    worked: Duration,
}

/// Runs `count` requests in groups of `group`, and checks on the way what must hold at every moment.
fn simulate(servers: &[Simulated], options: &ScheduleOptions, count: u64, group: u64, seed: u64) -> Ended {
    let mut schedule = Schedule::new(servers.len(), options.clone());
    let mut dice = Dice(seed | 1);
    let mut ended = Ended::default();
    let mut now = Duration::ZERO;
    let mut next = 0;
    // What lands when: the item, its server, and why it went wrong.
    let mut flying: BTreeSet<(Duration, u64)> = BTreeSet::new();
    let mut tries: BTreeMap<u64, (usize, Option<Blame>)> = BTreeMap::new();
    let mut at = vec![0; servers.len()];
    let mut sends: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
    loop {
        while schedule.has_room() && next < count {
            schedule.add(next, next / group, 100);
            next += 1;
        }
        ended.most_held = ended.most_held.max(schedule.len());
        match schedule.next(now) {
            Step::Send { item, server } => {
                let away = schedule.is_away(server);
                at[server] += 1;
                assert!(at[server] <= if away { 1 } else { options.in_flight }, "{} at server {server}", at[server]);
                sends[server].push(now);
                ended.sent += 1;
                ended.homes.entry(item / group).or_default().insert(server);
                let simulated = &servers[server];
                let down = |time: Duration| simulated.down.0 <= time && time < simulated.down.1;
                let end = now + simulated.latency;
                let (end, blame) = match dice.roll(1000) {
                    _ if down(now) => (now + ms(1), Some(Blame::Away)),
                    // Killed under way.
                    _ if down(end) => (simulated.down.0, Some(Blame::Try)),
                    roll if roll < simulated.wrong => (end, Some(Blame::Try)),
                    roll if roll < simulated.wrong + simulated.busy => (now + ms(1), Some(Blame::Busy(Some(ms(50))))),
                    _ => {
                        ended.worked += simulated.latency;
                        (end, None)
                    }
                };
                assert!(tries.insert(item, (server, blame)).is_none(), "request {item} flies twice");
                flying.insert((end.max(now), item));
            }
            Step::GiveUp => {
                assert!(flying.is_empty());
                for (item, tries) in schedule.give_up() {
                    assert!(ended.failed.insert(item, tries).is_none());
                }
                for item in next..count {
                    ended.failed.insert(item, 0);
                }
                break;
            }
            Step::Wait(until) => {
                let landing = flying.first().copied();
                if landing.is_none_or(|(time, _)| until.is_some_and(|until| until < time)) {
                    let Some(until) = until else { break };
                    assert!(until > now, "it waits for what is already there");
                    now = until;
                    continue;
                }
                let (time, item) = landing.unwrap();
                flying.pop_first();
                now = now.max(time);
                let (server, blame) = tries.remove(&item).unwrap();
                at[server] -= 1;
                match blame {
                    None => {
                        schedule.answered(item, server, Some(100));
                        assert!(ended.answered.insert(item), "request {item} was answered twice");
                    }
                    Some(blame) => {
                        if let After::Failed { tries } = schedule.failed(now, item, server, blame) {
                            assert!(ended.failed.insert(item, tries).is_none(), "request {item} failed twice");
                        }
                    }
                }
            }
        }
    }
    if let Some(limit) = options.requests_per_minute {
        for sent in &sends {
            for pair in sent.windows(limit as usize + 1) {
                assert!(pair[limit as usize] - pair[0] >= Duration::from_secs(60), "more than {limit} in a minute");
            }
        }
    }
    assert!(schedule.is_empty());
    assert!(ended.answered.iter().all(|item| !ended.failed.contains_key(item)), "answered and failed");
    assert_eq!(ended.answered.len() + ended.failed.len(), count as usize, "lost");
    ended.time = now;
    ended
}

fn options(in_flight: u32, retries: u32) -> ScheduleOptions {
    let backoff = Backoff { first: ms(20), longest: ms(2000), seed: 3 };
    ScheduleOptions { in_flight, retries, backoff, patience: Duration::from_secs(600), ..ScheduleOptions::default() }
}

fn any_server() -> impl Strategy<Value = Simulated> {
    (1u64..500, 0u64..300, 0u64..100, 0u64..20_000, 0u64..20_000).prop_map(|(latency, wrong, busy, from, long)| {
        Simulated { latency: ms(latency), wrong, busy, down: (ms(from), ms(from + long)) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_is_lost_or_doubled(
        servers in prop::collection::vec(any_server(), 1..6),
        in_flight in 1u32..10,
        retries in 0u32..6,
        count in 0u64..400,
        group in 1u64..9,
        limit in prop::option::of(1u32..2000),
        patience in 1u64..100,
        seed: u64,
    ) {
        let mut options = options(in_flight, retries);
        options.requests_per_minute = limit;
        options.patience = Duration::from_secs(patience);
        let ended = simulate(&servers, &options, count, group, seed);
        let held = servers.len() * in_flight as usize * 3;
        prop_assert!(ended.most_held <= held, "{} held", ended.most_held);
        prop_assert!(ended.failed.values().all(|tries| *tries <= 16 * (retries + 1)));
        // The same events, the same decisions.
        let again = simulate(&servers, &options, count, group, seed);
        prop_assert_eq!((ended.time, ended.sent, ended.answered), (again.time, again.sent, again.answered));
    }

    /// Servers that only go away and come back lose nothing, as long as tries that were cut may be repeated.
    #[test]
    fn what_comes_back_answers_all(mut servers in prop::collection::vec(any_server(), 1..4), count in 1u64..300, seed: u64) {
        servers.iter_mut().for_each(|server| (server.wrong, server.busy) = (0, 0));
        let ended = simulate(&servers, &options(4, 3), count, 4, seed);
        prop_assert!(ended.failed.is_empty(), "{:?}", ended.failed);
    }
}

#[test]
fn healthy_servers_keep_prefixes_apart() {
    let server = Simulated { latency: ms(100), wrong: 0, busy: 0, down: (ms(0), ms(0)) };
    let ended = simulate(&vec![server; 4], &options(8, 3), 4000, 8, 7);
    let split = ended.homes.values().filter(|homes| homes.len() > 1).count();
    assert!(split <= 25, "{split} of 500 groups went to several servers");
    assert_eq!(ended.sent, 4000);
}

#[test]
fn patience_ends() {
    let server = Simulated { latency: ms(10), wrong: 0, busy: 0, down: (ms(100), Duration::from_secs(100_000)) };
    let mut options = options(4, 3);
    options.patience = Duration::from_secs(5);
    let ended = simulate(&[server], &options, 500, 1, 7);
    assert!(!ended.answered.is_empty() && !ended.failed.is_empty());
    assert!(ended.time >= Duration::from_secs(5) && ended.time < Duration::from_secs(8), "{:?}", ended.time);
}

#[test]
fn a_long_retry_after_is_not_waited_for() {
    let mut schedule = Schedule::new(1, ScheduleOptions::default());
    schedule.add(0, 0, 1);
    assert_eq!(schedule.next(ms(0)), Step::Send { item: 0, server: 0 });
    schedule.failed(ms(1), 0, 0, Blame::Busy(Some(Duration::from_secs(86_400))));
    assert_eq!(schedule.next(ms(1)), Step::GiveUp);
    // With a second server it is only left alone.
    let mut schedule = Schedule::new(2, ScheduleOptions::default());
    schedule.add(0, 0, 1);
    let Step::Send { server, .. } = schedule.next(ms(0)) else { panic!() };
    schedule.failed(ms(1), 0, server, Blame::Busy(Some(Duration::from_secs(86_400))));
    assert_eq!(schedule.next(ms(1)), Step::Send { item: 0, server: 1 - server });
}

/// What still flies may be answered: nothing is given up before, and nobody asks in a loop.
#[test]
fn the_last_flight_is_waited_for() {
    let mut schedule = Schedule::new(1, ScheduleOptions::default());
    for item in 0..2 {
        schedule.add(item, item, 1);
        assert_eq!(schedule.next(ms(0)), Step::Send { item, server: 0 });
    }
    schedule.failed(ms(1), 0, 0, Blame::Busy(Some(Duration::from_secs(86_400))));
    let Step::Wait(until) = schedule.next(ms(2)) else { panic!() };
    assert!(until.is_none_or(|until| until > ms(2)), "{until:?}");
    schedule.answered(1, 0, None);
    schedule.add(2, 2, 1);
    assert_eq!(schedule.next(ms(3)), Step::GiveUp, "a day is too long, whatever it answered before");
}

/// Servers of different speed with faults, one of them away for a while. A fifth of the requests that a real run of the
/// paper has per server, and in seconds.
#[test]
fn sixty_four_servers_are_kept_busy() {
    let server = |place: u64| Simulated {
        latency: ms(800 + 40 * (place % 16)),
        wrong: 2,
        busy: 2,
        down: if place == 5 { (ms(10_000), ms(20_000)) } else { (ms(0), ms(0)) },
    };
    let servers: Vec<Simulated> = (0..64).map(server).collect();
    let options = options(32, 5);
    let start = std::time::Instant::now();
    let ended = simulate(&servers, &options, 200_000, 11, 7);
    let places = ended.time.as_secs_f64() * 64.0 * 32.0;
    let busy = ended.worked.as_secs_f64() / places;
    println!(
        "{:.1} % busy for {:?}, {:?} of ours, {} held",
        100.0 * busy,
        ended.time,
        start.elapsed(),
        ended.most_held
    );
    assert!(busy >= 0.95, "{busy}");
    assert!(ended.failed.is_empty() && ended.most_held <= 64 * 32 * 3);
}

/// Tokens of prompts that servers must read, of those that were sent: a rubric of 200 tokens, questions of 150 with seven
/// responses of 250 each, judged eleven times. A server remembers what it read lately.
fn read_anew(by_beginning: bool, servers: usize, in_flight: u32) -> (f64, Duration) {
    const QUESTIONS: u64 = 300;
    let mut schedule = Schedule::new(servers, options(in_flight, 3));
    let mut memory: Vec<Vec<u64>> = vec![Vec::new(); servers];
    let (mut sent, mut anew) = (0u64, 0u64);
    let mut flying: BTreeSet<(Duration, u64, usize)> = BTreeSet::new();
    let mut now = Duration::ZERO;
    let mut next = 0;
    let count = QUESTIONS * 7 * 11;
    let parts = |item: u64| [(1u64 << 60, 200), ((1 << 61) + item / 77, 150), ((1 << 62) + item / 11, 250)];
    loop {
        while schedule.has_room() && next < count {
            let beginnings: Vec<u64> = parts(next).iter().map(|(name, _)| *name).collect();
            let beginnings = if by_beginning { beginnings } else { Vec::new() };
            schedule.add_after(next, next / 11, &beginnings, 600);
            next += 1;
        }
        match schedule.next(now) {
            Step::Send { item, server } => {
                let memory = &mut memory[server];
                for (name, tokens) in parts(item) {
                    sent += tokens;
                    match memory.iter().rposition(|known| *known == name) {
                        Some(place) => drop(memory.remove(place)),
                        None => anew += tokens,
                    }
                    memory.push(name);
                }
                // Keys and values of some fifteen thousand tokens.
                if memory.len() > 60 {
                    memory.drain(..memory.len() - 60);
                }
                let takes = ms(800 + item * 7919 % 400);
                flying.insert((now + takes, item, server));
            }
            Step::Wait(until) => {
                let Some((time, item, server)) = flying.first().copied() else { break };
                if let Some(until) = until.filter(|until| *until < time) {
                    now = until;
                    continue;
                }
                flying.pop_first();
                now = now.max(time);
                schedule.answered(item, server, Some(600));
            }
            Step::GiveUp => panic!("healthy servers"),
        }
    }
    (anew as f64 / sent as f64, now)
}

#[test]
fn prompts_that_begin_alike_go_where_the_beginning_was_read() {
    for (servers, in_flight) in [(4, 8), (16, 16)] {
        let (whole, time) = read_anew(false, servers, in_flight);
        let (beginnings, also) = read_anew(true, servers, in_flight);
        println!(
            "{servers} servers: {:.2} % of prompt tokens are read anew by whole prompts in {time:?}, {:.2} % by beginnings in \
             {also:?}",
            100.0 * whole,
            100.0 * beginnings
        );
        // With every prompt read once: the rubric by each server, questions once, responses once.
        let least = (150.0 + 7.0 * 250.0) / (77.0 * 600.0);
        assert!(beginnings < whole && beginnings < 1.15 * least + 0.005, "{beginnings} {least}");
        assert!(also < time.mul_f64(1.03), "{also:?} {time:?}");
    }
}
