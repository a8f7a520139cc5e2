//! The calls of each kind on WIT types: what a component's exports and a dynamic library's table have in common.

use metareward_api::{self as api, MetaJudge, Optimizer, Ranker, Rubric, Sampler, Selector, Task};

use crate::{bindings::types as wire, wire::Cross};

crate::wire_conversions!(crate::bindings::types);

/// Why a message through a dynamic library's table could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The kind has no call with this number.
    #[error("no call has the number {0}")]
    Unknown(u32),
    /// The arguments are not what the call takes.
    #[error("the arguments cannot be read: {0}")]
    Arguments(String),
    /// The answer cannot be encoded.
    #[error("the answer cannot be encoded: {0}")]
    Answer(String),
}

/// A plugin of one kind that answers numbered calls with encoded arguments.
pub trait Calls: Send + Sync {
    /// Answers call number `call`: postcard of the tuple of arguments in, postcard of the `result` out.
    ///
    /// # Errors
    /// When there is no such call, or the arguments cannot be read.
    fn call(&self, call: u32, arguments: &[u8]) -> Result<Vec<u8>, CallError>;
}

/// One module per kind with a function per call on WIT types, the calls by number, and the component's exports.
macro_rules! kind {
    ($module:ident, $trait:ident { $($number:literal $call:ident($($argument:ident: $type:ty),*) -> $answer:ty = |$plugin:ident| $body:expr;)* }) => {
        #[doc = concat!("The calls of [`", stringify!($trait), "`].")]
        pub mod $module {
            use super::*;

            $(
                #[doc = concat!("[`", stringify!($trait), "::", stringify!($call), "`] on WIT types.")]
                ///
                /// # Errors
                /// The plugin's own.
                pub fn $call<P: $trait + ?Sized>($plugin: &P $(, $argument: $type)*) -> Result<$answer, wire::PluginError> {
                    $body.cross()
                }
            )*

            /// A plugin behind a dynamic library's table.
            #[derive(Debug)]
            pub struct Numbered<P>(pub P);

            impl<P: $trait> Calls for Numbered<P> {
                fn call(&self, call: u32, arguments: &[u8]) -> Result<Vec<u8>, CallError> {
                    match call {
                        $($number => {
                            let ($($argument,)*): ($($type,)*) = postcard::from_bytes(arguments)
                                .map_err(|error| CallError::Arguments(error.to_string()))?;
                            postcard::to_stdvec(&$call(&self.0 $(, $argument)*))
                                .map_err(|error| CallError::Answer(error.to_string()))
                        })*
                        other => Err(CallError::Unknown(other)),
                    }
                }
            }

            #[cfg(target_family = "wasm")]
            impl<P: crate::component::Held + $trait> crate::bindings::$module::exports::metareward::plugin::$module::Guest
                for crate::component::Component<P>
            {
                fn describe() -> wire::Description {
                    crate::component::describe::<P>()
                }

                fn configure(options: String) -> Result<(), wire::OptionError> {
                    crate::component::configure::<P>(&options)
                }

                $(
                    fn $call($($argument: $type),*) -> Result<$answer, wire::PluginError> {
                        crate::component::held::<P, _>(|plugin| $call(plugin $(, $argument)*))
                    }
                )*
            }
        }
    };
}

kind!(sampler, Sampler {
    0 plan(items: Vec<wire::SamplerItem>) -> Vec<Vec<wire::DrawPlan>> = |plugin| plugin.plan(&items.cross());
    1 reshapes() -> Option<u32> = |plugin| plugin.reshapes();
    2 reshape(rows: Vec<wire::NextTokens>) -> Vec<Vec<f64>> = |plugin| plugin.reshape(&rows.cross());
});

kind!(rubric, Rubric {
    0 scale() -> wire::ScoreScale = |plugin| plugin.scale();
    1 criteria() -> String = |plugin| plugin.criteria();
    2 compares() -> bool = |plugin| plugin.compares();
    3 render(items: Vec<wire::RubricItem>) -> Vec<Vec<wire::Message>> = |plugin| {
        let items: Vec<api::RubricItem<'_>> = items
            .iter()
            .map(|item| api::RubricItem {
                prompt: &item.prompt,
                response: &item.response,
                opponent: item.opponent.as_deref(),
            })
            .collect();
        plugin.render(&items)
    };
    4 parse(texts: Vec<String>) -> Vec<Result<f64, wire::Unreadable>> = |plugin| {
        plugin.parse(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    5 closing_line(score: f64) -> Option<String> = |plugin| plugin.closing_line(score);
    6 aggregate(scores: Vec<Vec<f64>>) -> Vec<Option<f64>> = |plugin| plugin.aggregate(&scores);
});

kind!(meta_judge, MetaJudge {
    0 promises() -> wire::MetaJudgePromises = |plugin| plugin.promises();
    1 scope() -> wire::WeightScope = |plugin| plugin.scope();
    2 schedule(players: Vec<u32>) -> Vec<Vec<wire::Pairing>> = |plugin| plugin.schedule(&players);
    3 render(items: Vec<wire::MetaJudgeItem>) -> Vec<Vec<wire::Message>> = |plugin| {
        let items: Vec<api::MetaJudgeItem<'_>> = items
            .iter()
            .map(|item| api::MetaJudgeItem {
                prompt: &item.prompt,
                response: &item.response,
                criteria: &item.criteria,
                first: &item.first,
                second: &item.second,
            })
            .collect();
        plugin.render(&items)
    };
    4 parse(texts: Vec<String>) -> Vec<Result<wire::Winner, wire::Unreadable>> = |plugin| {
        plugin.parse(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    5 closing_line(winner: wire::Winner) -> Option<String> = |plugin| plugin.closing_line(winner.cross());
    6 weigh(sets: Vec<wire::VerdictSet>, wins: Vec<wire::PositionWins>) -> Vec<wire::Weighed> = |plugin| {
        let (sets, wins): (Vec<api::VerdictSet>, Vec<api::PositionWins>) = (sets.cross(), wins.cross());
        plugin.weigh(&sets, &wins)
    };
});

kind!(ranker, Ranker {
    0 promises() -> wire::RankerPromises = |plugin| plugin.promises();
    1 rate(problems: Vec<wire::RankingProblem>) -> Vec<wire::Rating> = |plugin| plugin.rate(&problems.cross());
});

kind!(selector, Selector {
    0 promises() -> wire::SelectorPromises = |plugin| plugin.promises();
    1 length_unit() -> String = |plugin| plugin.length_unit();
    2 select(groups: Vec<Vec<wire::Candidate>>) -> Vec<Result<wire::Selection, wire::NoPair>> = |plugin| {
        let groups: Vec<Vec<api::Candidate>> = groups.cross();
        plugin.select(&groups)
    };
});

kind!(optimizer, Optimizer {
    0 promises() -> wire::OptimizerPromises = |plugin| plugin.promises();
    1 needs_reference() -> bool = |plugin| plugin.needs_reference();
    2 loss_at_start() -> Option<f64> = |plugin| plugin.loss_at_start();
    3 loss(pairs: Vec<wire::PairLogProbs>) -> wire::PreferenceLoss = |plugin| {
        let pairs: Vec<api::PairLogProbs> = pairs.cross();
        plugin.loss(&pairs)
    };
});

kind!(task, Task {
    0 prompts(seed: u64, n: u32) -> Vec<wire::Prompt> = |plugin| plugin.prompts(seed, n);
    1 demonstrations(seed: u64, n: u32) -> Vec<wire::Demonstration> = |plugin| plugin.demonstrations(seed, n);
    2 judge_examples(seed: u64, n: u32) -> Vec<wire::JudgeExample> = |plugin| plugin.judge_examples(seed, n);
    3 meta_examples(seed: u64, n: u32) -> Vec<wire::MetaExample> = |plugin| plugin.meta_examples(seed, n);
    4 oracle(answers: Vec<wire::Answer>) -> Option<Vec<f64>> = |plugin| {
        let answers: Vec<(api::Prompt, String)> =
            answers.into_iter().map(|answer| (answer.prompt.cross(), answer.response)).collect();
        plugin.oracle(&answers.iter().map(|(prompt, response)| (prompt, response.as_str())).collect::<Vec<_>>())
    };
    5 oracle_scale() -> Option<wire::ScoreScale> = |plugin| plugin.oracle_scale();
    6 perfect_answers(prompts: Vec<wire::Prompt>) -> Option<Vec<String>> = |plugin| {
        let prompts: Vec<api::Prompt> = prompts.cross();
        plugin.perfect_answers(&prompts.iter().collect::<Vec<_>>())
    };
});
