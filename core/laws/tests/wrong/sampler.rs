//! Wrong samplers.

use metareward_api::{DrawPlan, Plugin, PluginError, PluginInfo, Sampler, SamplerItem};
use metareward_laws::check_sampler;
use metareward_plugin::FromOptions;
use sampler_nucleus::{Nucleus, NucleusOptions};

use crate::{PLAN, breaks};

/// Nucleus sampling whose plans are spoiled, given the number of items.
struct Wrong {
    sampler: Nucleus,
    spoil: fn(usize, &mut Vec<DrawPlan>),
}

impl Plugin for Wrong {
    fn info(&self) -> PluginInfo {
        self.sampler.info()
    }
}

impl Sampler for Wrong {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let mut plans = self.sampler.plan(items)?;
        plans.iter_mut().for_each(|plan| (self.spoil)(items.len(), plan));
        Ok(plans)
    }
}

#[track_caller]
fn wrong(words: &str, spoil: fn(usize, &mut Vec<DrawPlan>)) {
    let sampler = Wrong { sampler: Nucleus::from_options(NucleusOptions::default()).unwrap(), spoil };
    breaks(words, || check_sampler(&sampler, PLAN));
}

#[test]
fn a_plan_too_few() {
    wrong("every draw has one plan", |_, plan| drop(plan.pop()));
}

#[test]
fn a_parameter_out_of_range() {
    wrong("in its range", |_, plan| {
        if let Some(last) = plan.get_mut(6) {
            last.sampling.top_p = 1.2;
        }
    });
}

#[test]
fn seeds_that_depend_on_the_batch() {
    wrong("no item of a batch influences another", |items, plan| {
        plan.iter_mut().for_each(|draw| draw.seed_offset = items as u64);
    });
}
