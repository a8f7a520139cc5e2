//! From conversations and seeds to texts: the sampler's plan, the engine's answer, both checked.

use metareward_api::{
    DrawPlan, EngineError, Generation, GenerationDraw, GenerationRequest, Message, Sampler, SamplerItem,
};

use super::{Context, Drawer};
use crate::{RunError, events::StageWatch, plugins::Bound};

/// A conversation, and the seed of each answer that is wanted.
pub(crate) struct Asked {
    pub id: String,
    pub messages: Vec<Message>,
    pub seeds: Vec<u64>,
}

/// The answers to all conversations, one per seed.
pub(crate) fn answers(
    cx: &mut Context<'_>,
    drawer: &Drawer,
    sampler: &Bound<dyn Sampler>,
    asked: Vec<Asked>,
    watch: &StageWatch<'_>,
) -> Result<Vec<Vec<Generation>>, RunError> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let items: Vec<SamplerItem> = asked
        .iter()
        .map(|asked| SamplerItem {
            characters: asked.messages.iter().map(|message| count(message.content.chars().count())).sum(),
            draws: count(asked.seeds.len()),
        })
        .collect();
    let plans = sampler
        .ask(|sampler| sampler.plan(&items), |item| asked.get(item).map_or_else(String::new, |a| a.id.clone()))?;
    let draw = |(seed, plan): (u64, DrawPlan)| GenerationDraw {
        seed: seed.wrapping_add(plan.seed_offset),
        sampling: plan.sampling,
    };
    let requests: Vec<GenerationRequest> = asked
        .into_iter()
        .zip(plans)
        .map(|(asked, plans)| GenerationRequest {
            id: asked.id,
            messages: asked.messages,
            draws: asked.seeds.into_iter().zip(plans).map(draw).collect(),
        })
        .filter(|request| !request.draws.is_empty())
        .collect();
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    cx.load(&drawer.model.folder)?;
    let answers = cx.generator.generate(&requests, watch)?;
    let whole = answers.len() == requests.len()
        && answers.iter().zip(&requests).all(|(answers, request)| answers.len() == request.draws.len());
    if !whole {
        return Err(RunError::Engine(EngineError::Machine("the engine gave fewer answers than were asked for".into())));
    }
    Ok(answers)
}
