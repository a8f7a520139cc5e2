//! Many requests to one or many servers.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, time};

use crate::{
    Address, After, Answer, Cache, Client, Endpoint, Failure, Fault, FaultKind, Fingerprint, Key, RemoteError, Request,
    Schedule, ScheduleOptions, Served, Step, Timeouts,
    closing::{Until, closed},
};

/// How often a caller is asked whether to stop, at least.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Settings of a [`Pool`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// Limits, retries and patience, per server.
    pub schedule: ScheduleOptions,
    /// How long a try may take.
    pub timeouts: Timeouts,
}

/// What became of the requests of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests answered, those of `kept` included.
    pub answered: u64,
    /// Requests whose answer was known, from the cache or from an equal request of the same call.
    pub kept: u64,
    /// Requests without an answer, by what went wrong at their last try.
    pub failed: BTreeMap<FaultKind, u64>,
    /// Times that anything was sent.
    pub sent: u64,
    /// Tries that went wrong, by how; most were made good by another.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Tokens of prompts that were sent, as servers counted them.
    pub prompt_tokens: u64,
    /// Tokens of answers, as servers counted them.
    pub answer_tokens: u64,
}

impl Counts {
    /// Requests without an answer.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// One or many servers with the same model.
#[derive(Debug)]
pub struct Pool {
    clients: Vec<Client>,
    options: PoolOptions,
    cache: Option<Cache>,
    /// What names the model in the cache, where that is not the name that is asked for.
    identity: Option<String>,
    runtime: Runtime,
}

/// Takes each request's place and what became of it.
pub type Take<'a> = dyn FnMut(u64, Result<Answer, Failure>) -> Result<(), String> + 'a;

impl Pool {
    /// Over these servers, which are not contacted yet.
    ///
    /// # Errors
    /// When there is none, they are asked for different models, or HTTP cannot be set up on this machine.
    pub fn new(endpoints: Vec<Endpoint>, options: PoolOptions) -> Result<Pool, RemoteError> {
        let setting = |message: String| RemoteError::Setting { name: "servers", message };
        let first = endpoints.first().ok_or_else(|| setting("there must be at least one".to_owned()))?.model.clone();
        if let Some(other) = endpoints.iter().find(|endpoint| endpoint.model != first) {
            return Err(setting(format!("one pool has one model, not {first} and {}", other.model)));
        }
        let clients = endpoints.into_iter().map(|endpoint| Client::new(endpoint, options.timeouts));
        let clients = clients.collect::<Result<_, _>>()?;
        Ok(Pool { clients, options, cache: None, identity: None, runtime: runtime()? })
    }

    /// Keeps answers on disk, and asks for none that is there.
    pub fn with_cache(mut self, cache: Cache) -> Pool {
        self.keep(cache);
        self
    }

    /// As [`Pool::with_cache`], from now on.
    pub fn keep(&mut self, cache: Cache) {
        self.cache = Some(cache);
    }

    /// The models that a server has.
    ///
    /// # Errors
    /// When it does not say.
    pub fn models(&self, place: usize) -> Result<Vec<Served>, Fault> {
        self.with(place, async |client: &Client| client.models().await).unwrap_or(Ok(Vec::new()))
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        self.clients.first().map_or("", |client| client.endpoint().model.as_str())
    }

    /// From now on servers are asked for another model, over new connections. `identity` names its weights where answers
    /// are kept: one name may stand for other weights tomorrow.
    ///
    /// # Errors
    /// When HTTP cannot be set up on this machine.
    pub fn ask_for(&mut self, model: &str, identity: Option<String>) -> Result<(), RemoteError> {
        for client in &mut self.clients {
            let endpoint = Endpoint { model: model.to_owned(), ..client.endpoint().clone() };
            *client = Client::new(endpoint, self.options.timeouts)?;
        }
        self.identity = identity;
        Ok(())
    }

    /// The servers, in the order in which they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.clients.iter().map(Client::endpoint)
    }

    /// Does something with the server at this place.
    pub(crate) fn with<T>(&self, place: usize, ask: impl AsyncFnOnce(&Client) -> T) -> Option<T> {
        let client = self.clients.get(place)?;
        Some(self.runtime.block_on(ask(client)))
    }

    /// Its settings.
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

    /// The answers kept on disk, where they are.
    pub fn cache_mut(&mut self) -> Option<&mut Cache> {
        self.cache.as_mut()
    }

    /// Whether every server takes prompts by token ids.
    pub fn takes_tokens(&self) -> bool {
        self.clients.iter().all(|client| client.endpoint().address.dialect.takes_tokens())
    }

    /// Whether all servers understand a request.
    ///
    /// # Errors
    /// What one of them cannot be asked.
    pub fn check(&self, request: &Request) -> Result<(), RemoteError> {
        self.clients.iter().try_for_each(|client| client.body(request).map(drop))
    }

    /// Sends all requests, which are drawn as they are needed, and gives `take` each one's place with its answer or why
    /// there is none, in the order in which they end, each exactly once. An answer is in the cache before it is given.
    ///
    /// When no server answers any more, what is left fails; when `stop` says so, or `take` fails, what flies is dropped and
    /// everything given so far stands.
    ///
    /// # Errors
    /// A request that a server's dialect cannot say; a cache that cannot be read or written; what `take` says;
    /// [`RemoteError::Stopped`].
    pub fn run(
        &mut self,
        requests: impl Iterator<Item = Request>,
        take: &mut Take<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Counts, RemoteError> {
        self.run_until(requests, None, take, stop)
    }

    /// As [`Pool::run`], for requests for one answer each. An answer ends with the first line of which `until` says yes:
    /// its finish is then [`metareward_api::Finish::Stop`], and of one that comes as a stream the rest is not waited for.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub fn run_until(
        &mut self,
        requests: impl Iterator<Item = Request>,
        until: Option<&Until<'_>>,
        take: &mut Take<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Counts, RemoteError> {
        let Pool { clients, options, cache, identity, runtime } = self;
        let call = Call::new(clients, options, (cache, identity.as_deref()), until, take, stop);
        runtime.block_on(call.drive(requests))
    }

    /// Puts every request to every server, and gives each server's URL with what became of them, in their order.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub(crate) fn ask_each(
        &mut self,
        requests: &[Request],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<OfServer>, RemoteError> {
        let mut all = Vec::new();
        for client in &self.clients {
            let mut found: BTreeMap<u64, Result<Answer, Failure>> = BTreeMap::new();
            let mut take = |place: u64, outcome| {
                found.insert(place, outcome);
                Ok(())
            };
            let one = std::slice::from_ref(client);
            let kept = (&mut self.cache, self.identity.as_deref());
            let call = Call::new(one, &self.options, kept, None, &mut take, stop);
            self.runtime.block_on(call.drive(requests.iter().cloned()))?;
            all.push((client.endpoint().address.url().to_owned(), found.into_values().collect()));
        }
        Ok(all)
    }

    pub(crate) fn take_cache(&mut self) -> Option<Cache> {
        self.cache.take()
    }

    pub(crate) fn put_cache(&mut self, cache: Option<Cache>) {
        self.cache = cache;
    }
}

/// The name of the one model that a server has.
///
/// # Errors
/// When it does not answer, or has none or several: the message lists them.
pub fn only_model(address: &Address, key: Option<&Key>, timeouts: Timeouts) -> Result<String, RemoteError> {
    let endpoint = Endpoint { address: address.clone(), model: String::new(), answers_as: None, key: key.cloned() };
    let client = Client::new(endpoint, timeouts)?;
    let failed = |message: String| RemoteError::Models { server: address.url().to_owned(), message };
    let models = runtime()?.block_on(client.models()).map_err(|fault| failed(fault.to_string()))?;
    match models.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => Err(failed("it has no model".to_owned())),
        many => {
            let names = many.iter().take(10).map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
            Err(failed(format!("it has {} models; name one: {names}", many.len())))
        }
    }
}

fn runtime() -> Result<Runtime, RemoteError> {
    let builder = tokio::runtime::Builder::new_current_thread().enable_all().build();
    builder.map_err(|error| RemoteError::Http(error.to_string()))
}

/// A server's URL and what became of requests to it.
pub(crate) type OfServer = (String, Vec<Result<Answer, Failure>>);

type Flight<'a> = Pin<Box<dyn Future<Output = (u64, usize, Result<Answer, Fault>)> + 'a>>;

/// One call of [`Pool::run`].
struct Call<'a> {
    clients: &'a [Client],
    cache: &'a mut Option<Cache>,
    model: String,
    until: Option<&'a Until<'a>>,
    schedule: Schedule,
    start: Instant,
    /// Requests in the schedule.
    asked: BTreeMap<u64, (Arc<Request>, Fingerprint)>,
    /// Equal requests that wait for the first one's answer.
    same: BTreeMap<Fingerprint, Vec<u64>>,
    /// The last fault of any server.
    last: Option<Fault>,
    counts: Counts,
    take: &'a mut Take<'a>,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Call<'a> {
    fn new(
        clients: &'a [Client],
        options: &PoolOptions,
        (cache, identity): (&'a mut Option<Cache>, Option<&str>),
        until: Option<&'a Until<'a>>,
        take: &'a mut Take<'a>,
        stop: &'a dyn Fn() -> bool,
    ) -> Call<'a> {
        let asked = || clients.first().map(|client| client.endpoint().model.clone()).unwrap_or_default();
        Call {
            schedule: Schedule::new(clients.len(), options.schedule.clone()),
            clients,
            cache,
            model: identity.map_or_else(asked, str::to_owned),
            until,
            start: Instant::now(),
            asked: BTreeMap::new(),
            same: BTreeMap::new(),
            last: None,
            counts: Counts::default(),
            take,
            stop,
        }
    }

    async fn drive(mut self, requests: impl Iterator<Item = Request>) -> Result<Counts, RemoteError> {
        let mut requests = requests.enumerate().map(|(place, request)| (place as u64, request)).fuse();
        let mut flying: FuturesUnordered<Flight<'a>> = FuturesUnordered::new();
        let mut all_drawn = false;
        loop {
            while !all_drawn && self.schedule.has_room() {
                if (self.stop)() {
                    return Err(RemoteError::Stopped);
                }
                match requests.next() {
                    Some((item, request)) => self.admit(item, request)?,
                    None => all_drawn = true,
                }
            }
            if (self.stop)() {
                return Err(RemoteError::Stopped);
            }
            if all_drawn && self.schedule.is_empty() {
                break;
            }
            match self.schedule.next(self.start.elapsed()) {
                Step::Send { item, server } => self.send(item, server, &flying),
                Step::GiveUp => {
                    self.give_up(&mut requests)?;
                    break;
                }
                Step::Wait(until) => {
                    let wait = until.map_or(LOOK_UP, |until| until.saturating_sub(self.start.elapsed()).min(LOOK_UP));
                    let landed = match flying.is_empty() {
                        true => {
                            time::sleep(wait).await;
                            None
                        }
                        false => time::timeout(wait, flying.next()).await.ok().flatten(),
                    };
                    if let Some(landed) = landed {
                        self.land(landed)?;
                    }
                }
            }
        }
        if let Some(cache) = &self.cache {
            cache.sync()?;
        }
        Ok(self.counts)
    }

    /// Takes up a request, unless its answer is known.
    fn admit(&mut self, item: u64, request: Request) -> Result<(), RemoteError> {
        let name = request.fingerprint(&self.model);
        if let Some(answer) = self.known(name)? {
            self.counts.kept += 1;
            return self.give(item, Ok(answer));
        }
        if let Some(waiting) = self.same.get_mut(&name) {
            waiting.push(item);
            return Ok(());
        }
        self.clients.iter().try_for_each(|client| client.body(&request).map(drop))?;
        self.schedule.add_after(item, request.prefix(), &request.beginnings(), request.estimate());
        self.same.insert(name, Vec::new());
        self.asked.insert(item, (Arc::new(request), name));
        Ok(())
    }

    /// The answer that the cache has, as it ends in this call.
    fn known(&mut self, name: Fingerprint) -> Result<Option<Answer>, RemoteError> {
        let known = self.cache.as_mut().map(|cache| cache.get(name)).transpose()?.flatten();
        Ok(known.and_then(|answer| closed(answer, self.until)))
    }

    fn send(&mut self, item: u64, server: usize, flying: &FuturesUnordered<Flight<'a>>) {
        let (Some((request, _)), Some(client)) = (self.asked.get(&item), self.clients.get(server)) else { return };
        let (request, until) = (Arc::clone(request), self.until);
        self.counts.sent += 1;
        flying.push(Box::pin(async move { (item, server, client.ask_until(&request, until).await) }));
    }

    fn land(&mut self, landed: (u64, usize, Result<Answer, Fault>)) -> Result<(), RemoteError> {
        let (item, server, outcome) = landed;
        let was_away = self.schedule.is_away(server);
        match outcome {
            Ok(answer) => {
                let usage = answer.usage;
                self.schedule.answered(item, server, usage.map(|usage| usage.prompt.saturating_add(usage.completion)));
                self.counts.prompt_tokens += usage.map_or(0, |usage| u64::from(usage.prompt));
                self.counts.answer_tokens += usage.map_or(0, |usage| u64::from(usage.completion));
                // One that was cut on its way here stays as it is; another one is cut now.
                let answer = closed(answer.clone(), self.until).unwrap_or(answer);
                self.settle(item, Ok(answer))?;
            }
            Err(fault) => {
                *self.counts.faults.entry(fault.kind()).or_default() += 1;
                let after = self.schedule.failed(self.start.elapsed(), item, server, fault.blame());
                tracing::debug!("{}: request {item}: {fault}", self.url(server));
                if !was_away && self.schedule.is_away(server) {
                    tracing::warn!("{} is left out: {fault}", self.url(server));
                }
                self.last = Some(fault.clone());
                if let After::Failed { tries } = after {
                    self.settle(item, Err(Failure { fault, tries }))?;
                }
            }
        }
        if was_away && !self.schedule.is_away(server) {
            tracing::info!("{} is back", self.url(server));
        }
        Ok(())
    }

    fn url(&self, server: usize) -> &str {
        self.clients.get(server).map_or("", |client| client.endpoint().address.url())
    }

    /// Ends a request and those that are equal to it.
    fn settle(&mut self, item: u64, outcome: Result<Answer, Failure>) -> Result<(), RemoteError> {
        let Some((_, name)) = self.asked.remove(&item) else { return Ok(()) };
        if let (Some(cache), Ok(answer)) = (self.cache.as_mut(), &outcome) {
            cache.put(name, answer)?;
        }
        for same in self.same.remove(&name).unwrap_or_default() {
            self.counts.kept += u64::from(outcome.is_ok());
            self.give(same, outcome.clone())?;
        }
        self.give(item, outcome)
    }

    fn give(&mut self, item: u64, outcome: Result<Answer, Failure>) -> Result<(), RemoteError> {
        match &outcome {
            Ok(_) => self.counts.answered += 1,
            Err(failure) => *self.counts.failed.entry(failure.fault.kind()).or_default() += 1,
        }
        (self.take)(item, outcome).map_err(RemoteError::Taken)
    }

    /// No server answers: all that is left fails, but for what the cache knows.
    fn give_up(&mut self, requests: &mut dyn Iterator<Item = (u64, Request)>) -> Result<(), RemoteError> {
        let fault = self.last.clone().unwrap_or_else(|| Fault::Connect("no server".to_owned()));
        tracing::warn!("no server answers: {fault}");
        for (item, tries) in self.schedule.give_up() {
            self.settle(item, Err(Failure { fault: fault.clone(), tries }))?;
        }
        for (item, request) in requests {
            if (self.stop)() {
                return Err(RemoteError::Stopped);
            }
            let name = request.fingerprint(&self.model);
            let known = self.known(name)?;
            self.counts.kept += u64::from(known.is_some());
            self.give(item, known.ok_or_else(|| Failure { fault: fault.clone(), tries: 0 }))?;
        }
        Ok(())
    }
}
