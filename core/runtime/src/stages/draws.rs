//! From conversations and seeds to texts: the sampler's plan, what earlier shards hold already, the engine's answer.

use metareward_api::{
    EngineError, Generation, GenerationDraw, GenerationRequest, Message, Occasion, Part, SamplerItem, Sampling,
};
use serde_json::{Value, json};

use super::{Context, Drawer};
use crate::{
    Fingerprint, RunError,
    events::StageWatch,
    guide::Guide,
    store::{
        Place, Stage,
        texts::{self, TextKey},
    },
};

/// What is asked about one record, in one conversation or in several.
pub(crate) struct Asked {
    pub id: String,
    pub conversations: Vec<Vec<Message>>,
    /// One entry per answer that is wanted.
    pub draws: Vec<AskedDraw>,
}

/// One answer that is wanted.
pub(crate) struct AskedDraw {
    /// Index of the conversation that it continues.
    pub conversation: usize,
    pub seed: u64,
}

impl Asked {
    /// One conversation, continued once per seed.
    pub fn one(id: String, messages: Vec<Message>, seeds: impl IntoIterator<Item = u64>) -> Self {
        let draws = seeds.into_iter().map(|seed| AskedDraw { conversation: 0, seed }).collect();
        Self { id, conversations: vec![messages], draws }
    }

    fn item(&self) -> SamplerItem {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let length = |messages: &Vec<Message>| -> usize { messages.iter().map(|m| m.content.chars().count()).sum() };
        SamplerItem {
            characters: count(self.conversations.iter().map(length).max().unwrap_or_default()),
            draws: count(self.draws.len()),
        }
    }
}

/// What a plugin read in the answers. Where it failed, they are kept for the shard that is made once it is mended.
pub(crate) fn kept<T>(
    cx: &Context<'_>,
    (place, stage, shard): (&Place, Stage, usize),
    answers: &[Vec<Generation>],
    read: Result<T, RunError>,
) -> Result<T, RunError> {
    if read.is_err() {
        let folder = cx.store.stage_folder(place, stage);
        texts::keep(&cx.store.disk, &folder, shard, &cx.keys, answers.iter().flatten())?;
    }
    read
}

/// The answers to all conversations of a shard, one list per [`Asked`]; their keys are left in [`Context::keys`]. A text
/// that an earlier shard holds is not generated again: it is the same wherever model, conversation, seed and
/// sampling are, and the answer is complete at the same line.
pub(crate) fn answers(
    cx: &mut Context<'_>,
    drawer: &Drawer,
    part: Part,
    shard: usize,
    asked: &[Asked],
    watch: &StageWatch<'_>,
) -> Result<Vec<Vec<Generation>>, RunError> {
    let guide = Guide::new(cx.plugins, Occasion { part, iteration: drawer.iteration })?;
    let (sampler, closing) = (guide.sampler, guide.closing.as_ref());
    let mut earlier = cx.store.neighbours_texts(&watch.place, watch.stage, shard);
    earlier.extend(texts::earlier(&cx.store.stage_folder(&watch.place, watch.stage), shard)?);
    let items: Vec<SamplerItem> = asked.iter().map(Asked::item).collect();
    let name = |item: usize| asked.get(item).map_or_else(String::new, |asked| asked.id.clone());
    let plans =
        sampler.ask_each(items.len(), |sampler, range| sampler.plan(items.get(range).unwrap_or_default()), name)?;
    let source = json!({
        "model": drawer.model.fingerprint,
        "dtype": cx.config().engine.dtype,
        "reshape": guide.reshapes.then(|| sampler.identity()),
        // Not the plugin that knows the closing line: `Closing::ends` tells which texts end as they would with it.
        "closing": closing.is_some(),
    });

    let mut found: Vec<Vec<Option<Generation>>> = Vec::new();
    let mut keys = Vec::new();
    let mut requests = Vec::new();
    // Where each request's answers go: which record, which of its draws.
    let mut places: Vec<(usize, Vec<usize>)> = Vec::new();
    for (record, (asked, plans)) in asked.iter().zip(plans).enumerate() {
        let draws: Vec<GenerationDraw> = (0..)
            .zip(asked.draws.iter().zip(plans))
            .map(|(draw, (asked, plan))| GenerationDraw {
                seed: asked.seed.wrapping_add(plan.seed_offset),
                sampling: plan.sampling,
                draw,
            })
            .collect();
        let hashes: Vec<Fingerprint> =
            asked.conversations.iter().map(|messages| Fingerprint::of(&json!([source, messages]))).collect();
        let keyed: Vec<TextKey> = asked
            .draws
            .iter()
            .zip(&draws)
            .map(|(at, draw)| key(hashes.get(at.conversation), draw, guide.reshapes))
            .collect();
        let known = |key: &TextKey| -> Result<Option<Generation>, RunError> {
            let Some(text) = earlier.get(key) else { return Ok(None) };
            let ends = closing.map_or(Ok(true), |closing| closing.ends(text)).map_err(RunError::Engine)?;
            Ok(ends.then(|| text.clone()))
        };
        let known = keyed.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        for (conversation, messages) in asked.conversations.iter().enumerate() {
            let wanted: Vec<usize> = (0..draws.len())
                .filter(|draw| asked.draws.get(*draw).is_some_and(|at| at.conversation == conversation))
                .filter(|draw| known.get(*draw).is_some_and(Option::is_none))
                .collect();
            if !wanted.is_empty() {
                requests.push(GenerationRequest {
                    id: asked.id.clone(),
                    messages: messages.clone(),
                    draws: wanted.iter().filter_map(|draw| draws.get(*draw).cloned()).collect(),
                });
                places.push((record, wanted));
            }
        }
        found.push(known);
        keys.extend(keyed);
    }
    if !requests.is_empty() {
        let made = cx.generator(drawer)?.generate(&requests, &guide.guides(), watch)?;
        if made.len() != requests.len() || made.iter().zip(&requests).any(|(m, r)| m.len() != r.draws.len()) {
            let message = "the engine gave fewer answers than were asked for".into();
            return Err(RunError::Engine(EngineError::Machine(message)));
        }
        for ((record, draws), made) in places.iter().zip(made) {
            let Some(of_record) = found.get_mut(*record) else { continue };
            for (draw, text) in draws.iter().zip(made) {
                if let Some(place) = of_record.get_mut(*draw) {
                    *place = Some(text);
                }
            }
        }
    }
    let whole = |texts: Vec<Option<Generation>>| texts.into_iter().collect::<Option<Vec<_>>>();
    let texts = found.into_iter().map(whole).collect::<Option<Vec<_>>>();
    cx.keys = keys;
    texts.ok_or_else(|| RunError::Bug("a draw was neither known nor asked for".into()))
}

/// The key of one draw of a conversation. Its number matters only to a sampler that reshapes.
fn key(conversation: Option<&Fingerprint>, draw: &GenerationDraw, reshapes: bool) -> TextKey {
    let GenerationDraw { seed, sampling, draw } = draw;
    let sampling: &Sampling = sampling;
    let number: Value = if reshapes { json!(draw) } else { Value::Null };
    TextKey::of(&Fingerprint::of(&json!([conversation, seed, sampling, number])))
}
