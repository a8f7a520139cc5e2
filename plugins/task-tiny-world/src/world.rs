//! The plugin.

use std::collections::BTreeSet;

use metareward_api::{
    Demonstration, JudgeExample, Kind, MetaExample, OptionError, Plugin, PluginError, PluginInfo, Prompt, PromptId,
    Scale, Task,
};
use metareward_plugin::{FromOptions, Options};

use crate::{
    draws::{Draws, Stream},
    judgment::{imperfect_marks, judged_answer, meta_example},
    mistake::imperfect_answer,
    options::TinyWorldOptions,
    oracle::points,
    puzzle::Puzzle,
};

/// The world: prompts, imperfect examples, and an exact oracle.
#[derive(Clone, Debug)]
pub struct TinyWorld {
    options: TinyWorldOptions,
}

/// Draws in a row that give nothing new before the world counts as exhausted. A fixed number, so that where a list
/// ends does not depend on how long a list was asked for.
const PATIENCE: u32 = 20_000;

impl TinyWorld {
    /// The world with these options.
    ///
    /// # Errors
    /// When an option cannot be used; the error names it.
    pub fn new(options: TinyWorldOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }

    /// The options in use.
    pub fn options(&self) -> &TinyWorldOptions {
        &self.options
    }

    /// Every word that prompts, answers, judgments and verdicts are made of (without the templates' own), sorted:
    /// what a word-level tokenizer must know.
    pub fn vocabulary(&self) -> Vec<String> {
        let options = &self.options;
        let mut words = crate::operation::reserved_words();
        words.extend(options.categories.iter().flat_map(|c| c.words.iter().chain([&c.name])).cloned());
        words.extend(options.fillers.iter().cloned());
        words.extend([":", "A", "B"].map(str::to_owned));
        words.extend((0..=5).map(|score| score.to_string()));
        // The slots of the phrases are no words.
        for slot in ["C", "N", "X", "Y"] {
            words.remove(slot);
        }
        words.into_iter().collect()
    }

    fn read(&self, item: usize, prompt: &Prompt) -> Result<Puzzle, PluginError> {
        Puzzle::read(&prompt.text, &self.options).ok_or_else(|| {
            PluginError::at(item, format!("prompt {} is not one of this world's: {:?}", prompt.id, prompt.text))
        })
    }

    /// Distinct puzzles in the order in which they are drawn, each with the stream that drew it.
    fn puzzles(&self, seed: u64, stream: Stream) -> impl Iterator<Item = (Puzzle, Draws)> + '_ {
        let mut seen = BTreeSet::new();
        let mut index = 0_u64;
        std::iter::from_fn(move || {
            for _ in 0..PATIENCE {
                let mut draws = Draws::new(seed, stream, index);
                index = index.wrapping_add(1);
                let Some(puzzle) = Puzzle::draw(&self.options, &mut draws) else { continue };
                let wanted = puzzle.for_examples(&self.options) == (stream != Stream::Prompt);
                if wanted && seen.insert(puzzle.hash()) {
                    return Some((puzzle, draws));
                }
            }
            None
        })
    }
}

fn prompt(puzzle: &Puzzle) -> Prompt {
    Prompt {
        id: PromptId(format!("tiny-{:016x}", puzzle.hash())),
        text: puzzle.text.clone(),
        system: None,
        category: Some(puzzle.category()),
    }
}

impl FromOptions for TinyWorld {
    type Options = TinyWorldOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Task,
            name: "tiny-world".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "small list puzzles with an exact oracle".to_owned(),
        }
    }

    fn from_options(options: TinyWorldOptions) -> Result<Self, OptionError> {
        Self::new(options)
    }
}

impl Plugin for TinyWorld {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Task for TinyWorld {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        Ok(self.puzzles(seed, Stream::Prompt).take(n as usize).map(|(puzzle, _)| prompt(&puzzle)).collect())
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let make = |(puzzle, mut draws): (Puzzle, Draws)| {
            let response = imperfect_answer(&puzzle, &self.options, &mut draws).join(" ");
            Demonstration { prompt: prompt(&puzzle), response }
        };
        Ok(self.puzzles(seed, Stream::Demonstration).take(n as usize).map(make).collect())
    }

    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        let make = |(puzzle, mut draws): (Puzzle, Draws)| {
            let answer = judged_answer(&puzzle, &self.options, &mut draws);
            let judgment = imperfect_marks(&puzzle, &answer, self.options.judge_taken_in, &self.options, &mut draws);
            let judgment = judgment.text(&answer, &self.options);
            JudgeExample { prompt: puzzle.text, response: answer.join(" "), judgment }
        };
        Ok(self.puzzles(seed, Stream::Judge).take(n as usize).map(make).collect())
    }

    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError> {
        let make = |(puzzle, mut draws): (Puzzle, Draws)| {
            let answer = judged_answer(&puzzle, &self.options, &mut draws);
            let (first, second, verdict) = meta_example(&puzzle, &answer, &self.options, &mut draws)?;
            Some(MetaExample {
                prompt: puzzle.text,
                response: answer.join(" "),
                first: first.text(&answer, &self.options),
                second: second.text(&answer, &self.options),
                verdict,
            })
        };
        Ok(self.puzzles(seed, Stream::Meta).filter_map(make).take(n as usize).collect())
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let score = |(item, (prompt, response)): (usize, &(&Prompt, &str))| {
            let puzzle = self.read(item, prompt)?;
            let right = puzzle.answer(&self.options);
            Ok(f64::from(points(&puzzle.list, &right, &self.options.fillers, response)))
        };
        items.iter().enumerate().map(score).collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// 0 to 5, the points of the additive rubric.
    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        Ok(Some(Scale { min: 0.0, max: 5.0 }))
    }

    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        let answer = |(item, prompt): (usize, &&Prompt)| Ok(self.read(item, prompt)?.answer(&self.options).join(" "));
        prompts.iter().enumerate().map(answer).collect::<Result<Vec<_>, _>>().map(Some)
    }
}
