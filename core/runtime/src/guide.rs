//! The plugins that guide one call of the engine, made from no more than which call it is. The loop makes them here, and so
//! does every process that draws a share of the loop's answers.

use metareward_api::{Complete, EngineError, Guides, Occasion, Optimizer, Part, Sampler};

use crate::{
    Experiment, RunError,
    plugins::{Bound, Plugins},
    stages::closing::Closing,
};

/// What guides one call.
pub struct Guide<'a> {
    occasion: Occasion,
    pub(crate) sampler: &'a Bound<dyn Sampler>,
    /// Whether the sampler reshapes; else its plans say everything.
    pub(crate) reshapes: bool,
    /// Where an answer is complete before its turn ends.
    pub(crate) closing: Option<Closing<'a>>,
}

impl<'a> Guide<'a> {
    pub(crate) fn new(plugins: &'a Plugins, occasion: Occasion) -> Result<Self, RunError> {
        let set = plugins.at(occasion.iteration)?;
        let sampler = set.sampler(occasion.part);
        let closing = match occasion.part {
            Part::Actor | Part::Evaluation => None,
            Part::Judge => Some(Closing::score(&set.rubric)),
            Part::MetaJudge => Some(Closing::winner(&set.meta_judge)),
        };
        let reshapes = sampler.ask(|sampler| sampler.reshapes(), |_| String::new())?.is_some();
        Ok(Self { occasion, sampler, reshapes, closing })
    }

    /// The guides as an engine takes them.
    pub fn guides(&self) -> Guides<'_> {
        Guides {
            reshape: self.reshapes.then_some(&*self.sampler.plugin),
            complete: self.closing.as_ref().map(|closing| &*closing.complete as &Complete<'_>),
            occasion: Some(self.occasion),
        }
    }
}

impl Experiment {
    /// What guides a call that another process makes, with the plugins of this one.
    ///
    /// # Errors
    /// [`EngineError::Plugin`] when the sampler cannot answer; [`EngineError::Machine`] for an iteration that the config
    /// does not have.
    pub fn guide(&self, occasion: Occasion) -> Result<Guide<'_>, EngineError> {
        Guide::new(self.all_plugins(), occasion).map_err(engine_error)
    }

    /// The loss of an iteration.
    ///
    /// # Errors
    /// [`EngineError::Machine`] for an iteration that the config does not have.
    pub fn optimizer(&self, iteration: u32) -> Result<&dyn Optimizer, EngineError> {
        Ok(&*self.all_plugins().at(iteration).map_err(engine_error)?.optimizer.plugin)
    }
}

fn engine_error(error: RunError) -> EngineError {
    match error {
        RunError::Plugin { plugin, message, .. } => EngineError::Plugin { plugin, message },
        other => EngineError::Machine(other.to_string()),
    }
}
