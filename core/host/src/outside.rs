//! Plugins from outside behind the traits of `metareward-api`: the same calls on a component and on a library.

use std::sync::Arc;

use metareward_api::{
    Candidate, Demonstration, DrawPlan, JudgeExample, Match, Message, MetaExample, MetaJudge, MetaJudgeItem,
    MetaJudgePromises, NextTokens, NoPair, Optimizer, OptimizerPromises, OptionError, PairLogProbs, Plugin,
    PluginError, PluginInfo, PositionWins, PreferenceLoss, Prompt, Ranker, RankerPromises, RankingProblem, Rating,
    Rubric, RubricItem, Sampler, SamplerItem, Scale, Selection, Selector, SelectorPromises, Task, Unreadable,
    VerdictSet, Weighed, WeightScope, Winner,
};
use metareward_plugin::wire::Cross;

use crate::{
    bindings::{
        meta_judge::MetaJudgePlugin, optimizer::OptimizerPlugin, ranker::RankerPlugin, rubric::RubricPlugin,
        sampler::SamplerPlugin, selector::SelectorPlugin, task::TaskPlugin, types as wire,
    },
    component::{ComponentPlugin, Kinded, LoadedComponent},
    library::{LibraryPlugin, LoadedLibrary},
};

/// The code of a plugin file, ready to make plugins.
#[derive(Clone)]
pub(crate) enum Code {
    Component(Arc<LoadedComponent>),
    Library(Arc<LoadedLibrary>),
}

/// A configured plugin from outside.
pub(crate) struct Outside<G> {
    info: PluginInfo,
    form: Configured<G>,
}

enum Configured<G> {
    Component(ComponentPlugin<G>),
    Library(LibraryPlugin),
}

impl<G: Kinded> Outside<G> {
    /// Makes the plugin from options as JSON with every option in it.
    pub(crate) fn make(code: &Code, info: PluginInfo, options: &str) -> Result<Self, OptionError> {
        let form = match code {
            Code::Component(loaded) => {
                Configured::Component(ComponentPlugin::make(loaded.clone(), &info.name, options.to_owned())?)
            }
            Code::Library(loaded) => Configured::Library(LibraryPlugin::make(loaded.clone(), options)?),
        };
        Ok(Self { info, form })
    }
}

impl<G: Send + Sync> Plugin for Outside<G> {
    fn info(&self) -> PluginInfo {
        self.info.clone()
    }
}

/// Asks a component by its interface's function, and a library by the call's number.
macro_rules! ask {
    ($self:ident, $interface:ident . $function:ident / $number:literal ( $($argument:expr),* )) => {
        match &$self.form {
            Configured::Component(plugin) => {
                plugin.call(|calls, store| calls.$interface().$function(store $(, $argument)*))
            }
            Configured::Library(plugin) => plugin.call($number, &($($argument,)*)),
        }
    };
}

/// Texts as the border wants them.
fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

impl Sampler for Outside<SamplerPlugin> {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let items: Vec<wire::SamplerItem> = items.to_vec().cross();
        let plans: Vec<Vec<wire::DrawPlan>> = ask!(self, metareward_plugin_sampler.call_plan / 0(&items))?;
        Ok(plans.cross())
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        ask!(self, metareward_plugin_sampler.call_reshapes / 1())
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        let rows: Vec<wire::NextTokens> = rows.to_vec().cross();
        ask!(self, metareward_plugin_sampler.call_reshape / 2(&rows))
    }
}

impl Rubric for Outside<RubricPlugin> {
    fn scale(&self) -> Result<Scale, PluginError> {
        let scale: wire::ScoreScale = ask!(self, metareward_plugin_rubric.call_scale / 0())?;
        Ok(scale.cross())
    }

    fn criteria(&self) -> Result<String, PluginError> {
        ask!(self, metareward_plugin_rubric.call_criteria / 1())
    }

    fn compares(&self) -> Result<bool, PluginError> {
        ask!(self, metareward_plugin_rubric.call_compares / 2())
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let items: Vec<wire::RubricItem> = items.iter().map(Cross::cross).collect();
        let messages: Vec<Vec<wire::Message>> = ask!(self, metareward_plugin_rubric.call_render / 3(&items))?;
        Ok(messages.cross())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        let texts = owned(texts);
        let scores: Vec<Result<f64, wire::Unreadable>> = ask!(self, metareward_plugin_rubric.call_parse / 4(&texts))?;
        Ok(scores.cross())
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        ask!(self, metareward_plugin_rubric.call_closing_line / 5(score))
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        ask!(self, metareward_plugin_rubric.call_aggregate / 6(scores))
    }
}

impl MetaJudge for Outside<MetaJudgePlugin> {
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        let promises: wire::MetaJudgePromises = ask!(self, metareward_plugin_meta_judge.call_promises / 0())?;
        Ok(promises.cross())
    }

    fn scope(&self) -> Result<WeightScope, PluginError> {
        let scope: wire::WeightScope = ask!(self, metareward_plugin_meta_judge.call_scope / 1())?;
        Ok(scope.cross())
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        let matches: Vec<Vec<wire::Pairing>> = ask!(self, metareward_plugin_meta_judge.call_schedule / 2(players))?;
        Ok(matches.cross())
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        let items: Vec<wire::MetaJudgeItem> = items.iter().map(Cross::cross).collect();
        let messages: Vec<Vec<wire::Message>> = ask!(self, metareward_plugin_meta_judge.call_render / 3(&items))?;
        Ok(messages.cross())
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        let texts = owned(texts);
        let winners: Vec<Result<wire::Winner, wire::Unreadable>> =
            ask!(self, metareward_plugin_meta_judge.call_parse / 4(&texts))?;
        Ok(winners.cross())
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        let winner: wire::Winner = winner.cross();
        ask!(self, metareward_plugin_meta_judge.call_closing_line / 5(winner))
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        let sets: Vec<wire::VerdictSet> = sets.to_vec().cross();
        let wins: Vec<wire::PositionWins> = wins.to_vec().cross();
        let weighed: Vec<wire::Weighed> = ask!(self, metareward_plugin_meta_judge.call_weigh / 6(&sets, &wins))?;
        Ok(weighed.cross())
    }
}

impl Ranker for Outside<RankerPlugin> {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        let promises: wire::RankerPromises = ask!(self, metareward_plugin_ranker.call_promises / 0())?;
        Ok(promises.cross())
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let problems: Vec<wire::RankingProblem> = problems.to_vec().cross();
        let ratings: Vec<wire::Rating> = ask!(self, metareward_plugin_ranker.call_rate / 1(&problems))?;
        Ok(ratings.cross())
    }
}

impl Selector for Outside<SelectorPlugin> {
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        let promises: wire::SelectorPromises = ask!(self, metareward_plugin_selector.call_promises / 0())?;
        Ok(promises.cross())
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        ask!(self, metareward_plugin_selector.call_length_unit / 1())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        let groups: Vec<Vec<wire::Candidate>> = groups.to_vec().cross();
        let pairs: Vec<Result<wire::Selection, wire::NoPair>> =
            ask!(self, metareward_plugin_selector.call_select / 2(&groups))?;
        Ok(pairs.cross())
    }
}

impl Optimizer for Outside<OptimizerPlugin> {
    fn promises(&self) -> Result<OptimizerPromises, PluginError> {
        let promises: wire::OptimizerPromises = ask!(self, metareward_plugin_optimizer.call_promises / 0())?;
        Ok(promises.cross())
    }

    fn needs_reference(&self) -> Result<bool, PluginError> {
        ask!(self, metareward_plugin_optimizer.call_needs_reference / 1())
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        ask!(self, metareward_plugin_optimizer.call_loss_at_start / 2())
    }

    fn loss(&self, pairs: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        let pairs: Vec<wire::PairLogProbs> = pairs.to_vec().cross();
        let loss: wire::PreferenceLoss = ask!(self, metareward_plugin_optimizer.call_loss / 3(&pairs))?;
        Ok(loss.cross())
    }
}

impl Task for Outside<TaskPlugin> {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        let prompts: Vec<wire::Prompt> = ask!(self, metareward_plugin_task.call_prompts / 0(seed, n))?;
        Ok(prompts.cross())
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let examples: Vec<wire::Demonstration> = ask!(self, metareward_plugin_task.call_demonstrations / 1(seed, n))?;
        Ok(examples.cross())
    }

    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        let examples: Vec<wire::JudgeExample> = ask!(self, metareward_plugin_task.call_judge_examples / 2(seed, n))?;
        Ok(examples.cross())
    }

    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError> {
        let examples: Vec<wire::MetaExample> = ask!(self, metareward_plugin_task.call_meta_examples / 3(seed, n))?;
        Ok(examples.cross())
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let answer = |(prompt, response): &(&Prompt, &str)| wire::Answer {
            prompt: Prompt::clone(prompt).cross(),
            response: (*response).to_owned(),
        };
        let answers: Vec<wire::Answer> = items.iter().map(answer).collect();
        ask!(self, metareward_plugin_task.call_oracle / 4(&answers))
    }

    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        let scale: Option<wire::ScoreScale> = ask!(self, metareward_plugin_task.call_oracle_scale / 5())?;
        Ok(scale.cross())
    }

    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        let prompts: Vec<wire::Prompt> = prompts.iter().map(|prompt| Prompt::clone(prompt).cross()).collect();
        ask!(self, metareward_plugin_task.call_perfect_answers / 6(&prompts))
    }
}
