//! An iteration in small, to measure an engine on what a run will ask of it: the same prompts, templates, samplers and
//! numbers of answers, without reading what the answers say.

use std::collections::BTreeSet;

use metareward_api::{
    EngineError, Generation, GenerationDraw, GenerationRequest, Generator, Message, MetaJudgeItem, Occasion, Part,
    PreferenceExample, Prompt, PromptId, RubricItem, SamplerItem, Watch,
};

use crate::{Experiment, RunError, guide::Guide, plugins::PluginSet, seeds::shuffled, stages::prompts::Pool};

/// Some prompts of an experiment, and what its first iteration asks about them.
pub struct Sample<'a> {
    experiment: &'a Experiment,
    set: &'a PluginSet,
    prompts: Vec<Prompt>,
    /// K.
    responses: u32,
    /// N.
    judgments: u32,
    /// Whether judgments are compared.
    compares: bool,
    /// Longest answers of each part, in place of the samplers'.
    limit: Option<fn(u32) -> u32>,
}

/// Answers to a list of requests.
pub type Answers = Vec<Vec<Generation>>;

impl Experiment {
    /// So many of the experiment's prompts in a seeded order; where the task is not at hand, as many prompts of made-up
    /// words.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn sample(&self, prompts: usize) -> Result<Sample<'_>, RunError> {
        let config = self.config();
        let prompts = match &self.all_plugins().task {
            Ok(task) => {
                let all = Pool::draw(config, task)?.used(config)?;
                let order = shuffled(u32::try_from(all.len()).unwrap_or(u32::MAX), config.seed);
                order.into_iter().take(prompts).filter_map(|place| all.get(place as usize).cloned()).collect()
            }
            Err(_) => (0..prompts).map(made_up).collect(),
        };
        Ok(Sample {
            experiment: self,
            set: self.all_plugins().at(1)?,
            prompts,
            responses: *config.at(&config.actor.responses, 1)?,
            judgments: *config.at(&config.judge.judgments, 1)?,
            compares: *config.at(&config.meta_judge.pairs, 1)?,
            limit: None,
        })
    }
}

/// A prompt of eighty words that no other prompt begins with.
fn made_up(number: usize) -> Prompt {
    let words = (0..80).map(|word| format!("word{}", (number * 7919 + word * 104_729) % 9973)).collect::<Vec<_>>();
    Prompt { id: PromptId(format!("made up {number}")), text: words.join(" "), system: None, category: None }
}

impl<'a> Sample<'a> {
    /// With answers of half the length that the samplers allow: for a model whose weights are random and which hardly ever
    /// ends its turn.
    pub fn with_half_lengths(mut self) -> Self {
        self.limit = Some(|longest| (longest / 2).max(1));
        self
    }

    /// The prompts.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// K draws of every prompt.
    ///
    /// # Errors
    /// When the sampler fails.
    pub fn responses(&self, seed: u64) -> Result<Vec<GenerationRequest>, RunError> {
        let conversations = self.prompts.iter().map(Prompt::messages).collect();
        self.requests(Part::Actor, conversations, self.responses, seed)
    }

    /// N draws of the judge's question about every response.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn judgments(&self, responses: &Answers, seed: u64) -> Result<Vec<GenerationRequest>, RunError> {
        let shown: Vec<(&Prompt, &str, &str)> = self
            .prompts
            .iter()
            .zip(responses)
            .flat_map(|(prompt, answers)| {
                let opponent = answers.first().map_or("", |answer| answer.text.as_str());
                answers.iter().map(move |answer| (prompt, answer.text.as_str(), opponent))
            })
            .collect();
        let items: Vec<RubricItem<'_>> = shown
            .iter()
            .map(|(prompt, response, opponent)| RubricItem {
                prompt: &prompt.text,
                response,
                opponent: self.set.compares.then_some(*opponent),
            })
            .collect();
        let conversations = self.set.rubric.ask_each(
            items.len(),
            |rubric, range| rubric.render(items.get(range).unwrap_or_default()),
            |item| format!("sample {item}"),
        )?;
        self.requests(Part::Judge, conversations, self.judgments, seed)
    }

    /// The matches among the judgments of every prompt's first response; none where the experiment has none.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn verdicts(
        &self,
        responses: &Answers,
        judgments: &Answers,
        seed: u64,
    ) -> Result<Vec<GenerationRequest>, RunError> {
        if !self.compares {
            return Ok(Vec::new());
        }
        let criteria = self.set.rubric.ask(|rubric| rubric.criteria(), |_| String::new())?;
        let schedule = self.set.meta_judge.ask(|meta| meta.schedule(&[self.judgments]), |_| String::new())?;
        let matches = schedule.into_iter().next().unwrap_or_default();
        let mut items = Vec::new();
        let mut place = 0;
        for (prompt, answers) in self.prompts.iter().zip(responses) {
            let judged = judgments.get(place).map(Vec::as_slice).unwrap_or_default();
            place += answers.len();
            let text = |player: u32| judged.get(player as usize).map_or("", |judgment| judgment.text.as_str());
            items.extend(matches.iter().map(|pair| MetaJudgeItem {
                prompt: &prompt.text,
                response: answers.first().map_or("", |answer| answer.text.as_str()),
                criteria: &criteria,
                first: text(pair.first),
                second: text(pair.second),
            }));
        }
        let conversations = self.set.meta_judge.ask_each(
            items.len(),
            |meta, range| meta.render(items.get(range).unwrap_or_default()),
            |item| format!("sample {item}"),
        )?;
        self.requests(Part::MetaJudge, conversations, 1, seed)
    }

    /// A pair of every prompt's first two responses and, where judgments are compared, one of two judgments, as training
    /// takes them.
    pub fn pairs(
        &self,
        responses: &Answers,
        asked: &[GenerationRequest],
        judgments: &Answers,
    ) -> Vec<PreferenceExample> {
        let two = |id: String, messages: &[Message], answers: &[Generation]| match answers {
            [chosen, rejected, ..] => Some(PreferenceExample {
                id,
                messages: messages.to_vec(),
                chosen: chosen.text.clone(),
                rejected: rejected.text.clone(),
                reference_chosen: 0.0,
                reference_rejected: 0.0,
                weight: 1.0,
            }),
            _ => None,
        };
        let actors = self.prompts.iter().zip(responses);
        let actors =
            actors.filter_map(|(prompt, answers)| two(format!("prompt {}", prompt.id), &prompt.messages(), answers));
        let step = self.responses.max(1) as usize;
        let judges = asked.iter().zip(judgments).step_by(step);
        let judges = judges.filter_map(|(request, answers)| two(request.id.clone(), &request.messages, answers));
        actors.chain(judges.filter(|_| self.compares)).collect()
    }

    /// Answers requests of a part as the loop would, with what its plugins have to say.
    ///
    /// # Errors
    /// What the engine says.
    pub fn draw(
        &self,
        generator: &mut dyn Generator,
        part: Part,
        requests: &[GenerationRequest],
        watch: &dyn Watch,
    ) -> Result<Answers, RunError> {
        let guide = Guide::new(self.experiment.all_plugins(), Occasion { part, iteration: 1 })?;
        let mut guides = guide.guides();
        if self.limit.is_some() {
            // Random text completes nothing; asking about each of its lines would be measured.
            guides.complete = None;
        }
        let answers = generator.generate(requests, &guides, watch)?;
        if answers.len() != requests.len() {
            let message = "the engine gave fewer answers than were asked for".into();
            return Err(RunError::Engine(EngineError::Machine(message)));
        }
        Ok(answers)
    }

    fn requests(
        &self,
        part: Part,
        conversations: Vec<Vec<Message>>,
        draws: u32,
        seed: u64,
    ) -> Result<Vec<GenerationRequest>, RunError> {
        let characters = |messages: &Vec<Message>| {
            let count: usize = messages.iter().map(|message| message.content.chars().count()).sum();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let items: Vec<SamplerItem> =
            conversations.iter().map(|messages| SamplerItem { characters: characters(messages), draws }).collect();
        let plans = self.set.sampler(part).ask_each(
            items.len(),
            |sampler, range| sampler.plan(items.get(range).unwrap_or_default()),
            |item| format!("sample {item}"),
        )?;
        let requests = conversations.into_iter().zip(plans).enumerate().map(|(place, (messages, plans))| {
            let draws = (0..).zip(plans).map(|(draw, mut plan)| {
                if let Some(limit) = self.limit {
                    plan.sampling.max_tokens = limit(plan.sampling.max_tokens);
                }
                let own = (place as u64) << 20 | u64::from(draw);
                let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ own.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                GenerationDraw { seed: seed.wrapping_add(plan.seed_offset), sampling: plan.sampling, draw }
            });
            GenerationRequest { id: format!("sample {place}"), messages, draws: draws.collect() }
        });
        Ok(requests.collect())
    }
}

/// Tokens that go through the model for these conversations when what they begin with in common is computed once, from the
/// length of each in tokens: shares are those of the texts' characters.
pub fn computed_tokens(requests: &[GenerationRequest], lengths: &[u32]) -> u64 {
    let mut texts: Vec<(String, u32)> = requests
        .iter()
        .zip(lengths)
        .map(|(request, length)| (request.messages.iter().map(|message| message.content.as_str()).collect(), *length))
        .collect();
    texts.sort();
    let mut computed = 0.0;
    let mut before = "";
    let mut seen = BTreeSet::new();
    for (text, length) in &texts {
        if !seen.insert(text.as_str()) {
            continue;
        }
        let alike = before.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
        let whole = text.chars().count().max(1);
        computed += f64::from(*length) * (1.0 - alike as f64 / whole as f64);
        before = text;
    }
    computed.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_beginning_is_computed_once() {
        let request = |text: &str| GenerationRequest {
            id: String::new(),
            messages: vec![Message::user(text)],
            draws: Vec::new(),
        };
        let requests = [request("the same and one"), request("the same and two"), request("the same and one")];
        // 13 of 16 letters are common; the third is the first again.
        assert_eq!(computed_tokens(&requests, &[160, 160, 160]), 160 + 30);
        assert_eq!(computed_tokens(&[], &[]), 0);
    }
}
