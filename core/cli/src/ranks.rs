//! One of several processes. Rank 0 does what the command says, with engines that stand before the whole group; the others
//! make the same experiment and do what rank 0 tells them.

use std::{
    cell::OnceCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metareward_api::{EngineError, Generator, Guides, Occasion, Optimizer};
use metareward_ranks::{Exchange, Hello, Leader, Plugins, RanksError, Training, agree, follow};
use metareward_runtime::{Experiment, GroupTraining};
use metareward_torch::{
    Group,
    group::{Member, Patience},
    train::TorchTrainer,
};
use serde_json::json;

use crate::{
    engine, experiment,
    failure::{Code, Failure},
    interrupt, logging,
    model::Located,
};

/// This process's place in the group.
pub struct Ranks {
    member: Member,
    control: Control,
    /// What tensors go through, once training needs it.
    tensors: OnceCell<Arc<Group>>,
}

/// What goes between the ranks besides tensors. It has connections of its own, so that it may go on while tensors do.
struct Control {
    group: Group,
    lost: AtomicBool,
}

impl Control {
    fn told<T>(&self, outcome: metareward_torch::Result<T>) -> Result<T, RanksError> {
        outcome.map_err(|error| {
            self.lost.store(true, Ordering::Relaxed);
            RanksError::Lost(error.to_string())
        })
    }
}

impl Exchange for Control {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RanksError> {
        self.told(self.group.broadcast_bytes(0, bytes))
    }

    fn gather(&self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, RanksError> {
        self.told(self.group.gather_bytes(0, bytes))
    }

    fn scatter(&self, messages: Vec<Vec<u8>>) -> Result<Vec<u8>, RanksError> {
        if self.group.rank() > 0 {
            return self.told(self.group.receive_bytes(0));
        }
        let mut own = Vec::new();
        for (rank, message) in messages.into_iter().enumerate() {
            if rank == 0 {
                own = message;
            } else {
                self.told(self.group.send_bytes(rank, &message))?;
            }
        }
        Ok(own)
    }
}

/// What rank 0 tells the others between experiments: a number to make the experiment of that number, or to end.
const END: u8 = 0;
const RUN: u8 = 1;

/// Everything that an experiment computes with, as this process has it.
pub struct Prepared {
    /// The seed model.
    pub located: Located,
    /// How this process uses its machine.
    pub settings: engine::Settings,
}

/// Finds the model of an experiment and reads its engine's settings, for one process or for one of several.
///
/// # Errors
/// When there is no model, or no such device.
pub fn prepare(experiment: &Experiment, ranks: Option<&Ranks>) -> Result<Prepared, Failure> {
    let located = experiment::model(experiment)?;
    let mut settings = engine::Settings::of_section(&experiment.config().engine)?;
    if let Some(ranks) = ranks {
        settings.on_rank(ranks.member.local_rank)?;
    }
    settings.precision(&located.folder)?;
    Ok(Prepared { located, settings })
}

impl Ranks {
    /// Meets the other processes; `None` where this one is alone. From here on ranks other than 0 are quiet.
    ///
    /// # Errors
    /// When the launcher's variables make no sense or the others cannot be met.
    pub fn meet() -> Result<Option<Ranks>, Failure> {
        let Some(member) = Member::of_process().map_err(engine::torch_failure)? else { return Ok(None) };
        if member.rank > 0 {
            interrupt::be_quiet();
            logging::be_quiet();
        }
        let of_control = Member { prefix: format!("{}/control", member.prefix), ..member.clone() };
        let group = Group::join(of_control, tch::Device::Cpu, Patience::default())
            .map_err(|error| of_rank(member.rank, engine::torch_failure(error)))?;
        let control = Control { group, lost: AtomicBool::new(false) };
        Ok(Some(Ranks { member, control, tensors: OnceCell::new() }))
    }

    /// Whether this is rank 0.
    pub fn leads(&self) -> bool {
        self.member.rank == 0
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.member.size
    }

    /// The connections.
    pub fn exchange(&self) -> &dyn Exchange {
        &self.control
    }

    /// Whether a rank is gone: nothing more can be done together.
    pub fn lost(&self) -> bool {
        self.control.lost.load(Ordering::Relaxed)
    }

    /// Rank 0: all make the experiment of this number. Ready when all were started alike.
    ///
    /// # Errors
    /// When a rank is not ready, with its reason; when one was started otherwise.
    pub fn begin(&self, index: usize, experiment: &Experiment, prepared: &mut Prepared) -> Result<(), Failure> {
        let mut message = vec![RUN];
        message.extend((index as u64).to_le_bytes());
        self.control.broadcast(message).map_err(failure)?;
        self.greet(experiment, prepared)
    }

    /// A trainer for what was agreed on, and whether all train.
    ///
    /// # Errors
    /// When the group for tensors does not come about: another rank is gone, or there is no NCCL for GPUs.
    pub fn trainer(&self, prepared: &Prepared) -> Result<(TorchTrainer, Training), Failure> {
        let Prepared { settings, located } = prepared;
        if settings.training == GroupTraining::Alone {
            return Ok((settings.trainer(&located.folder)?, Training::Alone));
        }
        let group = match self.tensors.get() {
            Some(group) => Arc::clone(group),
            None => {
                // The store is there already.
                let prefix = format!("{}/tensors", self.member.prefix);
                let member = Member { prefix, serves: false, ..self.member.clone() };
                let device = settings.device.resolve().map_err(engine::torch_failure)?;
                let group = Group::join(member, device, Patience::default()).map_err(engine::torch_failure)?;
                Arc::clone(self.tensors.get_or_init(|| Arc::new(group)))
            }
        };
        Ok((settings.trainer_in(&located.folder, Some(group))?, Training::Together))
    }

    fn greet(&self, experiment: &Experiment, prepared: &mut Prepared) -> Result<(), Failure> {
        let hello = hello(experiment, prepared)?;
        let met = agree(&self.control, Ok(&hello)).map_err(failure)?;
        prepared.settings.shared_by(met.on_host);
        Ok(())
    }

    /// Rank 0: lets the others end as this one does.
    pub fn end(&self, outcome: &Result<(), Failure>) {
        let code = outcome.as_ref().err().map_or(0, |failure| failure.code as u8);
        // Where one is gone they end by themselves.
        let _ = self.control.broadcast(vec![END, code]);
    }

    /// The others: experiments until rank 0 ends, made by their numbers. Returns the exit code.
    ///
    /// # Errors
    /// When another rank is gone, or this one fails where rank 0 cannot say so.
    pub fn follow(&self, make: &dyn Fn(usize) -> Result<Experiment, Failure>) -> Result<u8, Failure> {
        self.serve(make).map_err(|failure| of_rank(self.member.rank, failure))
    }

    /// Rank 0 draws with a generator that stands before all; the others follow and end as it does. There are no plugins.
    ///
    /// # Errors
    /// As `lead`; when a rank cannot begin, or is gone.
    pub fn draw(
        &self,
        prepare: &dyn Fn() -> Result<(Located, engine::Settings), Failure>,
        lead: &mut dyn FnMut(&Located, &mut dyn Generator) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (located, mut settings) = prepare().map_err(|failure| of_rank(self.member.rank, failure))?;
        settings.on_rank(self.member.local_rank)?;
        settings.shared_by(self.member.local_size);
        let mut own = settings.generator(&located.folder)?;
        if self.leads() {
            let leader = Leader::new(&self.control);
            let outcome = lead(&located, &mut leader.generator(&mut own));
            let code = outcome.as_ref().err().map_or(0, |failure| failure.code as u8);
            let ended = leader.end(code).map_err(failure);
            return outcome.and(ended);
        }
        let mut trainer = settings.trainer(&located.folder)?;
        let code = follow(&self.control, &mut own, &mut trainer, &NoPlugins, &interrupt::asked)
            .map_err(|error| of_rank(self.member.rank, engine::failure(error)))?;
        // Rank 0 has said why.
        std::process::exit(code.into());
    }

    fn serve(&self, make: &dyn Fn(usize) -> Result<Experiment, Failure>) -> Result<u8, Failure> {
        let bug = || Failure::new(Code::Bug, "rank 0 says what no rank understands");
        loop {
            let message = self.control.broadcast(Vec::new()).map_err(failure)?;
            let index = match message.as_slice() {
                [END, code] => return Ok(*code),
                [RUN, index @ ..] => u64::from_le_bytes(index.try_into().map_err(|_| bug())?) as usize,
                _ => return Err(bug()),
            };
            let ready = make(index).and_then(|experiment| {
                let prepared = prepare(&experiment, Some(self))?;
                Ok((experiment, prepared))
            });
            let (experiment, mut prepared) = match ready {
                Ok(ready) => ready,
                Err(failed) => {
                    let hint = failed.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                    let said = (format!("{}{hint}", failed.sentence), failed.code as u8);
                    match agree(&self.control, Err(said)) {
                        Err(lost @ RanksError::Lost(_)) => return Err(failure(lost)),
                        // Rank 0 says what is wrong, and what becomes of it.
                        _ => continue,
                    }
                }
            };
            match self.greet(&experiment, &mut prepared) {
                Ok(()) => {}
                Err(failed) if self.lost() => return Err(failed),
                Err(_) => continue,
            }
            let mut generator = prepared.settings.generator(&prepared.located.folder)?;
            let (mut trainer, _) = self.trainer(&prepared)?;
            let plugins = OfExperiment(&experiment);
            follow(&self.control, &mut generator, &mut trainer, &plugins, &interrupt::asked)
                .map_err(engine::failure)?;
        }
    }
}

/// What must be the same on all ranks, and where this one runs.
fn hello(experiment: &Experiment, prepared: &Prepared) -> Result<Hello, Failure> {
    let precision = prepared.settings.precision(&prepared.located.folder)?;
    let same = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": metareward_torch::libtorch_info().version,
        "config": experiment.config(),
        "plugins": experiment.plugins(),
        "precision": precision.config_name(),
    });
    // Processes in containers of one machine share its cores: what they have in common is the boot.
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let host = read("/proc/sys/kernel/random/boot_id").or_else(|| read("/etc/hostname")).unwrap_or_default();
    Ok(Hello { same, host })
}

struct OfExperiment<'a>(&'a Experiment);

impl Plugins for OfExperiment<'_> {
    fn guided(
        &self,
        occasion: Occasion,
        draw: &mut dyn FnMut(&Guides<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        draw(&self.0.guide(occasion)?.guides())
    }

    fn optimizer(&self, iteration: u32) -> Result<&dyn Optimizer, EngineError> {
        self.0.optimizer(iteration)
    }
}

/// Outside experiments.
struct NoPlugins;

impl Plugins for NoPlugins {
    fn guided(
        &self,
        _: Occasion,
        _: &mut dyn FnMut(&Guides<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        Err(EngineError::Machine("there are no plugins here: this is a bug".to_owned()))
    }

    fn optimizer(&self, _: u32) -> Result<&dyn Optimizer, EngineError> {
        Err(EngineError::Machine("there are no plugins here: this is a bug".to_owned()))
    }
}

/// An error between the ranks on its way out.
pub fn failure(error: RanksError) -> Failure {
    let code = match &error {
        RanksError::Lost(_) => Code::Machine,
        RanksError::Unreadable(_) | RanksError::Differs(_) => Code::Input,
        RanksError::NotReady { code, .. } => Code::of(*code),
    };
    Failure::new(code, error)
}

fn of_rank(rank: usize, failure: Failure) -> Failure {
    match rank {
        0 => failure,
        _ => Failure { sentence: format!("rank {rank}: {}", failure.sentence), ..failure },
    }
}
