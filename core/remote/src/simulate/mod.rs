//! A pool of simulated servers, driven by the [`Schedule`] that drives the real one: how busy it keeps them, and where
//! it stops keeping up.

mod behaviour;
mod limit;
mod outcome;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

pub use behaviour::{Behaviour, Deaths, Quantiles, SimulatedFault, Speed};
pub use limit::{Rung, limit};
use outcome::Histogram;
pub use outcome::{Outcome, Percentiles};

use crate::{After, Blame, FaultKind, RemoteError, Schedule, ScheduleOptions, Step};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// How the servers behave.
    pub behaviour: Behaviour,
    /// Number of servers.
    pub servers: usize,
    /// The schedule's settings; `in_flight` is the places of a server.
    pub options: ScheduleOptions,
    /// Number of requests.
    pub requests: u64,
    /// Requests that share a prefix.
    pub group: u64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What the coordinator's time costs.
    pub coordinator: Coordinator,
}

/// The one thread that decides, sends and takes answers. While it is at work, what comes in waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinator {
    /// It takes no time: the servers' side alone. Deterministic.
    Free,
    /// Every request takes this long, in all of its life. Deterministic.
    PerRequest(Duration),
    /// As much processor time as the schedule's decisions really take on this machine, and this long for each request on top (connection,
    /// JSON, the answer's line on disk). Not deterministic.
    Measured(Duration),
}

/// Runs a simulation; `look` is called with the number of requests ended, a hundred times or so.
///
/// # Errors
/// When the behaviour means nothing, or there is nothing to simulate.
pub fn simulate(simulation: &Simulation, look: &mut dyn FnMut(u64)) -> Result<Outcome, RemoteError> {
    simulation.behaviour.check()?;
    if simulation.servers == 0 || simulation.requests == 0 {
        let message = "there must be at least one of each".to_owned();
        return Err(RemoteError::Setting { name: "servers and requests", message });
    }
    Run::new(simulation).run(look)
}

/// A server's life: whether it is up, and when that changes.
#[derive(Debug)]
struct Life {
    dice: Dice,
    up: bool,
    until: Duration,
    load: u32,
    deaths: u64,
    /// Time that it was down, until now.
    down: Duration,
}

impl Life {
    fn new(dice: Dice, deaths: Option<&Deaths>) -> Life {
        let mut life = Life { dice, up: true, until: Duration::MAX, load: 0, deaths: 0, down: Duration::ZERO };
        if let Some(deaths) = deaths {
            life.until = life.lives(deaths);
        }
        life
    }

    fn lives(&mut self, deaths: &Deaths) -> Duration {
        Duration::from_secs_f64(-deaths.between * (1.0 - self.dice.share()).ln())
    }

    /// What it is like at `now`.
    fn advance(&mut self, now: Duration, deaths: Option<&Deaths>) {
        let Some(deaths) = deaths else { return };
        while self.until <= now {
            let lasts = match self.up {
                true => {
                    self.deaths += 1;
                    let away = Duration::from_secs_f64(deaths.away.at(self.dice.share()));
                    self.down += away;
                    away
                }
                false => self.lives(deaths),
            };
            self.up = !self.up;
            self.until = self.until.saturating_add(lasts);
        }
    }

    /// Time that it has been down when it is `now`.
    fn down_at(&self, now: Duration) -> Duration {
        if self.up { self.down } else { self.down.saturating_sub(self.until.saturating_sub(now)) }
    }
}

/// A try under way.
#[derive(Debug)]
struct Flight {
    server: usize,
    sent: Duration,
    fault: Option<(FaultKind, Blame)>,
}

struct Run<'a> {
    simulation: &'a Simulation,
    schedule: Schedule,
    lives: Vec<Life>,
    flights: BTreeMap<u64, Flight>,
    /// When flights end.
    ends: BinaryHeap<Reverse<(Duration, u64)>>,
    /// Landed, and not yet taken up by the coordinator.
    landed: VecDeque<u64>,
    now: Duration,
    drawn: u64,
    /// Time of places spent on answers.
    worked: Duration,
    latency: Histogram,
    meter: Meter,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(simulation: &'a Simulation) -> Run<'a> {
        let life = |server: usize| {
            let dice = Dice(mix(simulation.seed ^ mix(server as u64 + 1)));
            Life::new(dice, simulation.behaviour.deaths.as_ref())
        };
        Run {
            simulation,
            schedule: Schedule::new(simulation.servers, simulation.options.clone()),
            lives: (0..simulation.servers).map(life).collect(),
            flights: BTreeMap::new(),
            ends: BinaryHeap::new(),
            landed: VecDeque::new(),
            now: Duration::ZERO,
            drawn: 0,
            worked: Duration::ZERO,
            latency: Histogram::default(),
            meter: Meter::new(),
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, look: &mut dyn FnMut(u64)) -> Result<Outcome, RemoteError> {
        let requests = self.simulation.requests;
        let every = (requests / 100).max(1);
        let mut looked = 0;
        // Busy places are counted to here: after it there are fewer requests than places.
        let mut full = None;
        loop {
            let began = Instant::now();
            let before = self.drawn;
            while self.schedule.has_room() && self.drawn < requests {
                self.schedule.add(self.drawn, self.drawn / self.simulation.group.max(1), 100);
                self.drawn += 1;
            }
            self.outcome.most_held = self.outcome.most_held.max(self.schedule.len());
            if self.drawn == requests && full.is_none() && self.schedule.len() == self.schedule.flying() {
                full = Some((self.now, self.worked, self.down()));
            }
            let step = self.schedule.next(self.now);
            self.decided(began, self.drawn - before);
            match step {
                Step::Send { item, server } => self.send(item, server),
                Step::GiveUp => {
                    self.outcome.failed += self.schedule.give_up().len() as u64 + (requests - self.drawn);
                    break;
                }
                Step::Wait(until) => {
                    self.take_landed();
                    if let Some(item) = self.landed.pop_front() {
                        self.land(item);
                    } else {
                        let next = self.ends.peek().map(|Reverse((time, _))| *time);
                        match [next, until].into_iter().flatten().min() {
                            Some(time) => self.now = self.now.max(time),
                            None => break,
                        }
                    }
                }
            }
            let ended = self.outcome.answered + self.outcome.failed;
            if ended >= looked + every {
                looked = ended;
                look(ended);
            }
        }
        let full = full.unwrap_or_else(|| (self.now, self.worked, self.down()));
        Ok(self.finish(full))
    }

    /// Time of all servers together that they were down.
    fn down(&mut self) -> Duration {
        let (now, deaths) = (self.now, self.simulation.behaviour.deaths.as_ref());
        self.lives.iter_mut().for_each(|life| life.advance(now, deaths));
        self.lives.iter().map(|life| life.down_at(now)).sum()
    }

    /// The coordinator's time for what it has just done; `requests` were taken up.
    fn decided(&mut self, began: Instant, requests: u64) {
        let took = began.elapsed().mul_f64(self.meter.share());
        self.outcome.deciding_seconds += took.as_secs_f64();
        let handling = |each: Duration| each.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX));
        let charged = match self.simulation.coordinator {
            Coordinator::Free => return,
            Coordinator::PerRequest(each) => handling(each),
            Coordinator::Measured(each) => took + handling(each),
        };
        self.outcome.coordinator_seconds += charged.as_secs_f64();
        self.now += charged;
    }

    fn send(&mut self, item: u64, server: usize) {
        let behaviour = &self.simulation.behaviour;
        let life = &mut self.lives[server];
        life.advance(self.now, behaviour.deaths.as_ref());
        life.load += 1;
        self.outcome.sent += 1;
        let (end, fault) = if life.up {
            let mut share = life.dice.share();
            let fault = behaviour.faults.iter().find(|fault| {
                share -= fault.rate;
                share < 0.0
            });
            let seconds = match fault {
                Some(fault) => fault.after.at(life.dice.share()),
                None => {
                    let tokens = behaviour.answer_tokens.at(life.dice.share());
                    let first = behaviour.first_token.at(life.dice.share());
                    first + tokens * behaviour.token(life.load, life.dice.share())
                }
            };
            let end = self.now + Duration::from_secs_f64(seconds);
            match end >= life.until {
                // It dies on the way.
                true => (life.until, Some((FaultKind::Cut, Blame::Try))),
                false => (end, fault.map(|fault| (fault.kind, fault.blame()))),
            }
        } else {
            (self.now + Duration::from_millis(1), Some((FaultKind::Connect, Blame::Away)))
        };
        self.flights.insert(item, Flight { server, sent: self.now, fault });
        self.ends.push(Reverse((end.max(self.now), item)));
    }

    /// What has ended by now waits for the coordinator; its places are free, and idle.
    fn take_landed(&mut self) {
        while let Some(Reverse((end, item))) = self.ends.peek().copied().filter(|Reverse((end, _))| *end <= self.now) {
            self.ends.pop();
            self.landed.push_back(item);
            let Some(flight) = self.flights.get(&item) else { continue };
            self.lives[flight.server].load -= 1;
            if flight.fault.is_none() {
                self.worked += end - flight.sent;
                self.latency.add(end - flight.sent);
            }
        }
    }

    fn land(&mut self, item: u64) {
        let Some(Flight { server, fault, .. }) = self.flights.remove(&item) else { return };
        let began = Instant::now();
        match fault {
            None => {
                self.schedule.answered(item, server, Some(100));
                self.outcome.answered += 1;
            }
            Some((kind, blame)) => {
                *self.outcome.faults.entry(kind).or_default() += 1;
                if let After::Failed { .. } = self.schedule.failed(self.now, item, server, blame) {
                    self.outcome.failed += 1;
                }
            }
        }
        self.decided(began, 0);
    }

    fn finish(mut self, (full, worked, down): (Duration, Duration, Duration)) -> Outcome {
        let places = f64::from(self.simulation.options.in_flight.max(1));
        let servers = self.simulation.servers as f64;
        let up = full.as_secs_f64() * servers - down.as_secs_f64();
        let outcome = &mut self.outcome;
        outcome.deaths = self.lives.iter().map(|life| life.deaths).sum();
        outcome.seconds = self.now.as_secs_f64();
        outcome.busy = worked.as_secs_f64() / (places * up).max(f64::MIN_POSITIVE);
        outcome.busy_in_all = self.worked.as_secs_f64() / (places * servers * outcome.seconds).max(f64::MIN_POSITIVE);
        outcome.latency = self.latency.percentiles();
        self.outcome
    }
}

/// Which share of real time this thread has a processor: on a busy machine, other work does not count as ours. Looked up
/// now and then, since asking takes longer than a decision does.
struct Meter {
    began: Instant,
    processor: Option<Duration>,
    share: f64,
    asked: u32,
}

/// Decisions between two look-ups.
const LOOK_UP: u32 = 2000;

impl Meter {
    fn new() -> Meter {
        Meter { began: Instant::now(), processor: processor_time(), share: 1.0, asked: 0 }
    }

    fn share(&mut self) -> f64 {
        self.asked += 1;
        if self.asked >= LOOK_UP {
            let now = Meter::new();
            if let (Some(before), Some(after)) = (self.processor, now.processor) {
                let real = (now.began - self.began).as_secs_f64().max(f64::MIN_POSITIVE);
                self.share = (after.saturating_sub(before).as_secs_f64() / real).min(1.0);
            }
            *self = Meter { share: self.share, ..now };
        }
        self.share
    }
}

/// Processor time of this thread so far, where the system says it.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Random numbers for a simulation.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// From 0 to under 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// SplitMix64's finaliser.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
