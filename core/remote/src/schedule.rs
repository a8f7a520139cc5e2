//! Which request goes to which server, and when. No I/O and no clock: time comes in, decisions come out, so the same
//! events give the same decisions, and a simulation can drive it as well as a network.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{Backoff, Blame, Pace, affinity::Affinity};

/// Settings of a [`Schedule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleOptions {
    /// Most requests at one server at a time.
    pub in_flight: u32,
    /// Most requests per minute to one server.
    pub requests_per_minute: Option<u32>,
    /// Most tokens per minute of one server, prompts and answers together.
    pub tokens_per_minute: Option<u32>,
    /// How often a request is sent again after a try that went wrong.
    pub retries: u32,
    /// Waits between tries, and until a server that is away is asked again.
    pub backoff: Backoff,
    /// How long all servers may be away or busy before the rest is given up.
    pub patience: Duration,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        ScheduleOptions {
            in_flight: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
            retries: 4,
            backoff: Backoff::default(),
            patience: Duration::from_secs(120),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this request to this server.
    Send {
        /// The request, by the number it was added under.
        item: u64,
        /// The server, by its place.
        server: usize,
    },
    /// Nothing before this time, or before a request ends or is added.
    Wait(Option<Duration>),
    /// No server will answer: what is left is given up.
    GiveUp,
}

/// What becomes of a request whose try went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is sent again.
    Again,
    /// It has no answer, after this many tries.
    Failed {
        /// How many times it was sent.
        tries: u32,
    },
}

#[derive(Debug)]
struct Item {
    prefix: u64,
    tokens: u32,
    /// Tries that went wrong by the request's own fault or nobody's.
    failures: u32,
    tries: u32,
}

#[derive(Debug)]
struct Group {
    server: usize,
    /// Hashes of the beginnings of its prompt.
    chain: Vec<u64>,
    /// Requests of the group in the schedule.
    items: u32,
}

#[derive(Debug)]
struct Server {
    queue: VecDeque<u64>,
    in_flight: u32,
    pace: Pace,
    paused_until: Duration,
    /// Failures in a row.
    streak: u32,
    /// Pauses in a row. What fails during a pause was sent before it and makes no new one.
    pauses: u32,
    /// Left out: one request at a time is sent to find out whether it is back.
    away: bool,
    /// Will never answer.
    refused: bool,
    /// Away or busy without an answer in between: when our patience with it ends.
    patience_ends: Option<Duration>,
}

impl Server {
    fn load(&self) -> usize {
        self.queue.len() + self.in_flight as usize
    }

    fn usable(&self) -> bool {
        !self.away && !self.refused
    }

    fn places(&self, options: &ScheduleOptions) -> u32 {
        let most = if self.away { 1 } else { options.in_flight.max(1) };
        if self.refused { 0 } else { most.saturating_sub(self.in_flight) }
    }

    fn ready(&self) -> Duration {
        self.paused_until.max(self.pace.ready())
    }

    /// It answered, whatever the answer was.
    fn is_well(&mut self) {
        (self.streak, self.pauses, self.patience_ends, self.away) = (0, 0, None, false);
    }

    fn pause(&mut self, now: Duration, wait: Option<Duration>, who: u64, options: &ScheduleOptions) {
        if now >= self.paused_until || self.pauses == 0 {
            self.pauses = self.pauses.saturating_add(1);
        }
        // A server that says 0 is not asked in a loop.
        let least = |wait: Duration| wait.max(options.backoff.first / 2);
        let end = now + wait.map_or_else(|| options.backoff.wait(who, self.pauses), least);
        self.paused_until = self.paused_until.max(end);
        self.patience_ends.get_or_insert(now + options.patience);
    }
}

/// Requests that wait, fly or rest between tries, and the servers' health.
#[derive(Debug)]
pub struct Schedule {
    options: ScheduleOptions,
    servers: Vec<Server>,
    items: BTreeMap<u64, Item>,
    groups: BTreeMap<u64, Group>,
    /// Which servers got which beginnings of prompts.
    affinity: Affinity,
    /// Requests that rest, by when they are due.
    resting: BTreeSet<(Duration, u64)>,
    /// Where the search for a free server begins: all have their turn.
    turn: usize,
    flying: usize,
    given_up: bool,
}

/// Failures in a row, of any kind, after which a server is left out until it answers again.
const STREAK: u32 = 8;
/// A request that met this many times as many tries as it has of its own, on servers that were busy or away but answered
/// others, is given up as well.
const UNLUCKY: u32 = 16;

impl Schedule {
    /// For so many servers.
    pub fn new(servers: usize, options: ScheduleOptions) -> Schedule {
        let pace = Pace::new(options.requests_per_minute, options.tokens_per_minute);
        let server = || Server {
            queue: VecDeque::new(),
            in_flight: 0,
            pace: pace.clone(),
            paused_until: Duration::ZERO,
            streak: 0,
            pauses: 0,
            away: false,
            refused: false,
            patience_ends: None,
        };
        Schedule {
            servers: (0..servers).map(|_| server()).collect(),
            options,
            items: BTreeMap::new(),
            groups: BTreeMap::new(),
            affinity: Affinity::default(),
            resting: BTreeSet::new(),
            turn: 0,
            flying: 0,
            given_up: false,
        }
    }

    /// Whether another request should be added now: enough wait to keep every server busy, and no more are held.
    pub fn has_room(&self) -> bool {
        self.items.len() - self.flying < 2 * self.servers.len() * self.options.in_flight.max(1) as usize
    }

    /// Requests in the schedule.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Requests at servers.
    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Whether the server at this place is left out.
    pub fn is_away(&self, server: usize) -> bool {
        self.servers.get(server).is_none_or(|server| !server.usable())
    }

    /// Adds a request under a number of its own: `prefix` names what it has in common with others, `tokens` is about what
    /// it will use.
    pub fn add(&mut self, item: u64, prefix: u64, tokens: u32) {
        self.add_after(item, prefix, &[], tokens);
    }

    /// As [`Schedule::add`], with hashes of the prompt's beginnings, the shortest first: a new group goes to the server that
    /// got the longest of them lately, unless that has much more to do than another.
    pub fn add_after(&mut self, item: u64, prefix: u64, beginnings: &[u64], tokens: u32) {
        let replaced = self.items.insert(item, Item { prefix, tokens, failures: 0, tries: 0 });
        debug_assert!(replaced.is_none(), "request {item} was added twice");
        let group = || Group { server: usize::MAX, chain: beginnings.to_vec(), items: 0 };
        self.groups.entry(prefix).or_insert_with(group).items += 1;
        self.enqueue(item, prefix, false);
    }

    /// Puts a request into the queue of its group's server, in front if it was out before. A group without a usable server
    /// gets the one that has read most of its prompt or, where that has much more to do, the one with the least to do.
    fn enqueue(&mut self, item: u64, prefix: u64, front: bool) {
        let Some(group) = self.groups.get_mut(&prefix) else { return };
        if !self.servers.get(group.server).is_some_and(Server::usable) {
            let by_load =
                |(place, server): &(usize, &Server)| (!server.usable(), server.refused, server.load(), *place);
            let least = self.servers.iter().enumerate().min_by_key(by_load).map_or(0, |(place, _)| place);
            let load = |place: usize| self.servers.get(place).map_or(usize::MAX, Server::load);
            let near = self.affinity.nearest(&group.chain).iter().copied();
            let usable = near.filter(|place| self.servers.get(*place).is_some_and(Server::usable));
            // An idle server takes over what waits elsewhere, so a longer queue does not cost time.
            let most = load(least).saturating_add(2 * self.options.in_flight.max(1) as usize);
            group.server =
                usable.min_by_key(|place| (load(*place), *place)).filter(|near| load(*near) <= most).unwrap_or(least);
            self.affinity.got(&group.chain, group.server);
        }
        let Some(server) = self.servers.get_mut(group.server) else { return };
        if front { server.queue.push_front(item) } else { server.queue.push_back(item) }
    }

    /// What is to be done at `now`. To be asked again until it says to wait.
    pub fn next(&mut self, now: Duration) -> Step {
        while let Some((_, item)) = self.resting.first().copied().filter(|(due, _)| *due <= now) {
            self.resting.pop_first();
            if let Some(prefix) = self.items.get(&item).map(|item| item.prefix) {
                self.enqueue(item, prefix, true);
            }
        }
        if self.given_up || self.no_server_is_left(now) {
            self.given_up = true;
            return Step::GiveUp;
        }
        let mut wake = self.resting.first().map(|(due, _)| *due);
        let mut earlier = |time: Duration| wake = Some(wake.map_or(time, |wake| wake.min(time)));
        let waiting = self.items.len() - self.flying - self.resting.len();
        for step in 0..if waiting > 0 { self.servers.len() } else { 0 } {
            let place = (self.turn + step) % self.servers.len();
            if self.servers[place].places(&self.options) == 0 {
                continue;
            }
            let ready = self.servers[place].ready();
            if ready > now {
                earlier(ready);
                continue;
            }
            if self.servers[place].queue.is_empty() && !self.take_from_another(place, now) {
                continue;
            }
            let server = &mut self.servers[place];
            let Some(item) = server.queue.pop_front() else { continue };
            let Some(entry) = self.items.get_mut(&item) else { continue };
            entry.tries += 1;
            server.in_flight += 1;
            server.pace.sent(now, entry.tokens);
            self.flying += 1;
            self.turn = (place + 1) % self.servers.len();
            return Step::Send { item, server: place };
        }
        // Patience ends at a certain time, too.
        let ends = self.servers.iter().filter(|server| !server.refused).map(|server| server.patience_ends);
        if let Some(last) = ends.collect::<Option<Vec<Duration>>>().and_then(|ends| ends.into_iter().max())
            && !self.items.is_empty()
            && last > now
        {
            earlier(last);
        }
        Step::Wait(wake)
    }

    /// All that could answer have been away or busy until patience ended, and nothing flies.
    fn no_server_is_left(&self, now: Duration) -> bool {
        let over = |server: &Server| {
            // A server that asks for a longer pause than our patience is not waited for.
            let asks_too_much = server.paused_until > now + self.options.patience;
            server.refused || asks_too_much || server.patience_ends.is_some_and(|end| now >= end)
        };
        self.flying == 0 && !self.items.is_empty() && self.servers.iter().all(over)
    }

    /// Gives a server without a queue something of the longest queue whose server cannot start it now: a usable one a
    /// group, one that is left out a single request, which finds out whether it is back. False where there is nothing.
    fn take_from_another(&mut self, taker: usize, now: Duration) -> bool {
        let probes = self.servers[taker].away;
        let stuck = |server: &Server| !server.usable() || server.places(&self.options) == 0 || server.ready() > now;
        let gives = |server: &Server| match probes {
            // A probe is worth a request that another server would have got to soon.
            true => server.queue.len() > 1 || (!server.queue.is_empty() && stuck(server)),
            false => !server.queue.is_empty() && stuck(server),
        };
        let others = self.servers.iter().enumerate().filter(|(place, server)| *place != taker && gives(server));
        let by_length =
            |(place, server): &(usize, &Server)| (!server.usable(), server.queue.len(), usize::MAX - *place);
        let Some(giver) = others.max_by_key(by_length).map(|(place, _)| place) else { return false };
        let Some(last) = self.servers[giver].queue.pop_back() else { return false };
        self.servers[taker].queue.push_back(last);
        let prefix = self.items.get(&last).map(|item| item.prefix);
        let Some((prefix, group)) = prefix.and_then(|prefix| Some((prefix, self.groups.get_mut(&prefix)?))) else {
            return true;
        };
        if !probes {
            group.server = taker;
            self.affinity.got(&group.chain, taker);
            let (moved, kept): (VecDeque<u64>, VecDeque<u64>) = self.servers[giver]
                .queue
                .drain(..)
                .partition(|item| self.items.get(item).is_some_and(|item| item.prefix == prefix));
            self.servers[giver].queue = kept;
            moved.into_iter().rev().for_each(|item| self.servers[taker].queue.push_front(item));
        }
        true
    }

    /// A request was answered by a server; `tokens` is what it used, where known.
    pub fn answered(&mut self, item: u64, server: usize, tokens: Option<u32>) {
        self.landed(server);
        if let Some(place) = self.servers.get_mut(server) {
            place.is_well();
            if let (Some(used), Some(entry)) = (tokens, self.items.get(&item)) {
                place.pace.settle(entry.tokens, used);
            }
        }
        self.forget(item);
    }

    /// A try of a request went wrong at a server.
    pub fn failed(&mut self, now: Duration, item: u64, server: usize, blame: Blame) -> After {
        self.landed(server);
        let who = u64::MAX - server as u64;
        if let Some(place) = self.servers.get_mut(server) {
            place.streak = place.streak.saturating_add(1);
            match blame {
                // It said what is wrong with the request.
                Blame::Request => place.is_well(),
                Blame::Try if place.streak < STREAK && !place.away => {}
                Blame::Try | Blame::Away => {
                    if !place.away {
                        self.affinity.forget(server);
                    }
                    place.away = true;
                    place.pause(now, None, who, &self.options);
                }
                Blame::Busy(wait) => place.pause(now, wait, who, &self.options),
                Blame::Server => place.refused = true,
            }
        }
        self.scatter(server);
        let Some(entry) = self.items.get_mut(&item) else { return After::Failed { tries: 0 } };
        let own = matches!(blame, Blame::Request | Blame::Try);
        entry.failures += u32::from(own);
        let (failures, tries, prefix) = (entry.failures, entry.tries, entry.prefix);
        let most = self.options.retries.saturating_add(1).saturating_mul(UNLUCKY);
        if blame == Blame::Request || failures > self.options.retries || tries >= most {
            self.forget(item);
            return After::Failed { tries };
        }
        if own {
            self.resting.insert((now + self.options.backoff.wait(item, failures), item));
        } else {
            self.enqueue(item, prefix, true);
        }
        After::Again
    }

    /// Gives the queue of a server that is left out to the others, if there are any.
    fn scatter(&mut self, server: usize) {
        if self.servers.get(server).is_none_or(Server::usable) || !self.servers.iter().any(Server::usable) {
            return;
        }
        for item in std::mem::take(&mut self.servers[server].queue) {
            if let Some(prefix) = self.items.get(&item).map(|item| item.prefix) {
                self.enqueue(item, prefix, false);
            }
        }
    }

    /// Gives up all that is left: the requests, in the order of their numbers, each with how many times it was sent.
    pub fn give_up(&mut self) -> Vec<(u64, u32)> {
        let left: Vec<(u64, u32)> = self.items.iter().map(|(item, entry)| (*item, entry.tries)).collect();
        self.items.clear();
        self.groups.clear();
        self.resting.clear();
        self.flying = 0;
        for server in &mut self.servers {
            server.queue.clear();
            server.in_flight = 0;
        }
        left
    }

    fn landed(&mut self, server: usize) {
        self.flying = self.flying.saturating_sub(1);
        if let Some(server) = self.servers.get_mut(server) {
            server.in_flight = server.in_flight.saturating_sub(1);
        }
    }

    fn forget(&mut self, item: u64) {
        let Some(Item { prefix, .. }) = self.items.remove(&item) else { return };
        if let Some(group) = self.groups.get_mut(&prefix) {
            group.items -= 1;
            if group.items == 0 {
                self.groups.remove(&prefix);
            }
        }
    }
}
