//! Between the records of `metareward-api` and the same records as WIT types.
//!
//! Guest and host each have their own set of WIT types, made by their own generator. [`wire_conversions!`](crate::wire_conversions)
//! writes the conversions for either set, so that there is one text of them.

/// A value that crosses the border, as the other side's type.
pub trait Cross<T> {
    /// The same value as `T`.
    fn cross(self) -> T;
}

macro_rules! unchanged {
    ($($type:ty)*) => { $(impl Cross<$type> for $type { fn cross(self) -> $type { self } })* };
}

unchanged!(bool u32 u64 f64 String);

impl<A: Cross<B>, B> Cross<Vec<B>> for Vec<A> {
    fn cross(self) -> Vec<B> {
        self.into_iter().map(Cross::cross).collect()
    }
}

impl<A: Cross<B>, B> Cross<Option<B>> for Option<A> {
    fn cross(self) -> Option<B> {
        self.map(Cross::cross)
    }
}

impl<A: Cross<B>, B, E: Cross<F>, F> Cross<Result<B, F>> for Result<A, E> {
    fn cross(self) -> Result<B, F> {
        self.map(Cross::cross).map_err(Cross::cross)
    }
}

/// Records with the same fields on both sides, and enums with the same cases: `wire name = name in the API`. For
/// [`wire_conversions!`](crate::wire_conversions), which brings `api`, `wire` and `Cross` into scope.
#[doc(hidden)]
#[macro_export]
macro_rules! wire_same {
    ($name:ident { $($field:ident),* }) => { $crate::wire_same!($name = $name { $($field),* }); };
    ($wire_name:ident = $api_name:ident { $($field:ident),* }) => {
        impl Cross<wire::$wire_name> for api::$api_name {
            fn cross(self) -> wire::$wire_name {
                wire::$wire_name { $($field: self.$field.cross()),* }
            }
        }

        impl Cross<api::$api_name> for wire::$wire_name {
            fn cross(self) -> api::$api_name {
                api::$api_name { $($field: self.$field.cross()),* }
            }
        }
    };
    ($name:ident [ $($case:ident),* ]) => { $crate::wire_same!($name = $name [ $($case),* ]); };
    ($wire_name:ident = $api_name:ident [ $($case:ident),* ]) => {
        impl Cross<wire::$wire_name> for api::$api_name {
            fn cross(self) -> wire::$wire_name {
                match self { $(Self::$case => wire::$wire_name::$case),* }
            }
        }

        impl Cross<api::$api_name> for wire::$wire_name {
            fn cross(self) -> api::$api_name {
                match self { $(Self::$case => api::$api_name::$case),* }
            }
        }
    };
}

/// Implements [`Cross`] in both directions between the records of `metareward-api` and the WIT types of the module
/// `$wire`, which belong to the calling crate.
#[macro_export]
macro_rules! wire_conversions {
    ($wire:path) => {
        const _: () = {
            use $crate::{api, wire::Cross};
            use $wire as wire;

    $crate::wire_same!(Kind [Sampler, Rubric, MetaJudge, Ranker, Selector, Optimizer, Task]);
            $crate::wire_same!(OptionError { key, message });
    $crate::wire_same!(Role [System, User, Assistant]);
            $crate::wire_same!(Message { role, content });
    $crate::wire_same!(Unreadable [Missing, NotANumber, OffScale, Contradiction]);
            $crate::wire_same!(ScoreScale = Scale { min, max });
            $crate::wire_same!(Sampling { temperature, top_p, top_k, min_p, max_tokens, stop });
            $crate::wire_same!(SamplerItem { characters, draws });
            $crate::wire_same!(DrawPlan { sampling, seed_offset });
            $crate::wire_same!(NextTokens { draw, position, tokens, logits });
    $crate::wire_same!(Winner [First, Second, Tie]);
    $crate::wire_same!(WeightScope [Response, Iteration, Run]);
            $crate::wire_same!(MetaJudgePromises { paper_weights, shows_judgments_whole });
            $crate::wire_same!(Pairing = Match { first, second });
            $crate::wire_same!(PositionWins { first, second });
            $crate::wire_same!(Battle { left, right, left_wins, right_wins, ties });
            $crate::wire_same!(RankingProblem { players, battles });
            $crate::wire_same!(Likelihood { points, regularization, tie_share });
            $crate::wire_same!(RankerPromises { ignores_order, mirrors_ratings, likelihood });
            $crate::wire_same!(Rating { ratings, converged, steps, remarks });
            $crate::wire_same!(Candidate { score, characters, tokens, tie_break });
            $crate::wire_same!(Selection { chosen, rejected, chosen_length, rejected_length });
            $crate::wire_same!(SelectorPromises { rho, max_chosen_length, ignores_order });
            $crate::wire_same!(
                PairLogProbs = PairLogProbs {
                    policy_chosen,
                    policy_rejected,
                    reference_chosen,
                    reference_rejected,
                    chosen_tokens,
                    rejected_tokens,
                    weight
                }
            );
            $crate::wire_same!(OptimizerPromises { pulls_apart });
            $crate::wire_same!(Demonstration { prompt, response });
            $crate::wire_same!(JudgeExample { prompt, response, judgment });
            $crate::wire_same!(MetaExample { prompt, response, first, second, verdict });

            impl Cross<wire::PluginError> for api::PluginError {
                fn cross(self) -> wire::PluginError {
                    wire::PluginError { message: self.message, item: self.item.map(|item| item as u64) }
                }
            }

            impl Cross<api::PluginError> for wire::PluginError {
                fn cross(self) -> api::PluginError {
                    let item = self.item.and_then(|item| usize::try_from(item).ok());
                    api::PluginError { message: self.message, item }
                }
            }

            impl Cross<wire::Prompt> for api::Prompt {
                fn cross(self) -> wire::Prompt {
                    let Self { id, text, system, category } = self;
                    wire::Prompt { id: id.0, text, system, category }
                }
            }

            impl Cross<api::Prompt> for wire::Prompt {
                fn cross(self) -> api::Prompt {
                    let Self { id, text, system, category } = self;
                    api::Prompt { id: api::PromptId(id), text, system, category }
                }
            }

            impl Cross<wire::ReadVerdict> for (api::Match, api::Winner) {
                fn cross(self) -> wire::ReadVerdict {
                    wire::ReadVerdict { pairing: self.0.cross(), winner: self.1.cross() }
                }
            }

            impl Cross<wire::VerdictSet> for api::VerdictSet {
                fn cross(self) -> wire::VerdictSet {
                    wire::VerdictSet { players: self.players, verdicts: self.verdicts.cross() }
                }
            }

            impl Cross<api::VerdictSet> for wire::VerdictSet {
                fn cross(self) -> api::VerdictSet {
                    let read = |verdict: wire::ReadVerdict| (verdict.pairing.cross(), verdict.winner.cross());
                    api::VerdictSet { players: self.players, verdicts: self.verdicts.into_iter().map(read).collect() }
                }
            }

            impl Cross<wire::Weighed> for api::Weighed {
                fn cross(self) -> wire::Weighed {
                    let [first_weight, second_weight] = self.weights;
                    wire::Weighed { first_weight, second_weight, battles: self.battles.cross() }
                }
            }

            impl Cross<api::Weighed> for wire::Weighed {
                fn cross(self) -> api::Weighed {
                    api::Weighed { weights: [self.first_weight, self.second_weight], battles: self.battles.cross() }
                }
            }

            impl Cross<wire::Remark> for api::Remark {
                fn cross(self) -> wire::Remark {
                    match self {
                        Self::NoBattles => wire::Remark::NoBattles,
                        Self::Undefeated(players) => wire::Remark::Undefeated(players),
                        Self::Winless(players) => wire::Remark::Winless(players),
                        Self::Disconnected(groups) => wire::Remark::Disconnected(groups),
                        Self::NotConverged => wire::Remark::NotConverged,
                    }
                }
            }

            impl Cross<api::Remark> for wire::Remark {
                fn cross(self) -> api::Remark {
                    match self {
                        Self::NoBattles => api::Remark::NoBattles,
                        Self::Undefeated(players) => api::Remark::Undefeated(players),
                        Self::Winless(players) => api::Remark::Winless(players),
                        Self::Disconnected(groups) => api::Remark::Disconnected(groups),
                        Self::NotConverged => api::Remark::NotConverged,
                    }
                }
            }

            impl Cross<wire::NoPair> for api::NoPair {
                fn cross(self) -> wire::NoPair {
                    match self {
                        Self::TooFewCandidates => wire::NoPair::TooFewCandidates,
                        Self::EqualScores => wire::NoPair::EqualScores,
                        Self::SameCandidate => wire::NoPair::SameCandidate,
                        Self::ChosenTooLong => wire::NoPair::ChosenTooLong,
                        Self::Other(reason) => wire::NoPair::Other(reason),
                    }
                }
            }

            impl Cross<api::NoPair> for wire::NoPair {
                fn cross(self) -> api::NoPair {
                    match self {
                        Self::TooFewCandidates => api::NoPair::TooFewCandidates,
                        Self::EqualScores => api::NoPair::EqualScores,
                        Self::SameCandidate => api::NoPair::SameCandidate,
                        Self::ChosenTooLong => api::NoPair::ChosenTooLong,
                        Self::Other(reason) => api::NoPair::Other(reason),
                    }
                }
            }

            impl Cross<wire::PreferenceLoss> for api::PreferenceLoss {
                fn cross(self) -> wire::PreferenceLoss {
                    wire::PreferenceLoss {
                        losses: self.losses,
                        chosen_gradient: self.chosen_gradient,
                        rejected_gradient: self.rejected_gradient,
                        chosen_rewards: self.chosen_rewards,
                        rejected_rewards: self.rejected_rewards,
                        metrics: self.metrics.into_iter().collect(),
                    }
                }
            }

            impl Cross<api::PreferenceLoss> for wire::PreferenceLoss {
                fn cross(self) -> api::PreferenceLoss {
                    api::PreferenceLoss {
                        losses: self.losses,
                        chosen_gradient: self.chosen_gradient,
                        rejected_gradient: self.rejected_gradient,
                        chosen_rewards: self.chosen_rewards,
                        rejected_rewards: self.rejected_rewards,
                        metrics: self.metrics.into_iter().collect(),
                    }
                }
            }

            impl Cross<wire::RubricItem> for &api::RubricItem<'_> {
                fn cross(self) -> wire::RubricItem {
                    wire::RubricItem {
                        prompt: self.prompt.to_owned(),
                        response: self.response.to_owned(),
                        opponent: self.opponent.map(str::to_owned),
                    }
                }
            }

            impl Cross<wire::MetaJudgeItem> for &api::MetaJudgeItem<'_> {
                fn cross(self) -> wire::MetaJudgeItem {
                    wire::MetaJudgeItem {
                        prompt: self.prompt.to_owned(),
                        response: self.response.to_owned(),
                        criteria: self.criteria.to_owned(),
                        first: self.first.to_owned(),
                        second: self.second.to_owned(),
                    }
                }
            }
        };
    };
}
