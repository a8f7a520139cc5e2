//! The two tiers and who is taken from them.

use std::cmp::Ordering;

use metareward_api::{
    Candidate, Kind, NoPair, OptionError, Plugin, PluginError, PluginInfo, Selection, Selector, SelectorPromises,
};
use metareward_plugin::{FromOptions, Options, score_range};

use crate::{LengthControlOptions, Prefer, Ties};

/// Shortest of the upper tier against longest of the lower one.
#[derive(Clone, Debug)]
pub struct LengthControl {
    options: LengthControlOptions,
}

/// The two sides of a pair.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Chosen,
    Rejected,
}

impl FromOptions for LengthControl {
    type Options = LengthControlOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Selector,
            name: "length-control".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "shortest of the best, longest of the worst".to_owned(),
        }
    }

    fn from_options(options: LengthControlOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for LengthControl {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Selector for LengthControl {
    /// The paper's tiers unless candidates are taken at random or more than rounding counts as equal; the limit; and
    /// indifference to order unless the first of equally long candidates is taken.
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        let LengthControlOptions { rho, max_chosen_length, prefer, ties, tolerance, .. } = self.options;
        let by_length = prefer == Prefer::Length;
        Ok(SelectorPromises {
            rho: (by_length && tolerance <= 1e-9).then_some(rho),
            max_chosen_length,
            ignores_order: !(by_length && ties == Ties::First),
        })
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.options.unit.name())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        groups.iter().enumerate().map(|(item, group)| self.pair(item, group)).collect()
    }
}

impl LengthControl {
    fn length(&self, candidate: &Candidate) -> u32 {
        self.options.unit.length(candidate)
    }

    fn pair(&self, item: usize, group: &[Candidate]) -> Result<Result<Selection, NoPair>, PluginError> {
        let Some([worst, best]) = score_range(item, group)? else { return Ok(Err(NoPair::TooFewCandidates)) };
        let LengthControlOptions { rho, tolerance, .. } = self.options;
        if best - worst <= tolerance {
            return Ok(Err(NoPair::EqualScores));
        }
        // (1−rho)·best + rho·worst and its mirror image, written so that rho = 0 gives the ends exactly and that
        // rounding keeps the order in rho. The tolerance keeps a score on the boundary inside.
        let width = rho * (best - worst);
        let floor = best - width - tolerance;
        let ceiling = worst + width + tolerance;
        let chosen = self.take(group, Side::Chosen, |score| score >= floor);
        let rejected = self.take(group, Side::Rejected, |score| score <= ceiling);
        let (Some((chosen, chosen_candidate)), Some((rejected, rejected_candidate))) = (chosen, rejected) else {
            return Err(PluginError::at(item, "the scores are too far apart to be compared"));
        };
        if chosen == rejected {
            return Ok(Err(NoPair::SameCandidate));
        }
        if chosen_candidate.score <= rejected_candidate.score {
            // Only where the tiers overlap, rho > 0.5: such a pair would teach the worse answer.
            return Ok(Err(NoPair::Other("chosen scores no higher than rejected".to_owned())));
        }
        let chosen_length = self.length(chosen_candidate);
        if self.options.max_chosen_length.is_some_and(|limit| chosen_length > limit) {
            return Ok(Err(NoPair::ChosenTooLong));
        }
        let rejected_length = self.length(rejected_candidate);
        Ok(Ok(Selection { chosen, rejected, chosen_length, rejected_length }))
    }

    /// The candidate of a tier that its side prefers.
    fn take<'a>(
        &self,
        group: &'a [Candidate],
        side: Side,
        in_tier: impl Fn(f64) -> bool,
    ) -> Option<(u32, &'a Candidate)> {
        let tier = (0u32..).zip(group).filter(|(_, candidate)| in_tier(candidate.score));
        tier.min_by(|(i, a), (j, b)| self.preference(side, a, b).then(i.cmp(j)))
    }

    /// `Less` where `side` prefers `a`.
    fn preference(&self, side: Side, a: &Candidate, b: &Candidate) -> Ordering {
        let toward = |order: Ordering| if side == Side::Chosen { order } else { order.reverse() };
        let random = a.tie_break.cmp(&b.tie_break);
        if self.options.prefer == Prefer::Random {
            return random;
        }
        let by_length = toward(self.length(a).cmp(&self.length(b)));
        by_length.then_with(|| match self.options.ties {
            Ties::Score => toward(b.score.total_cmp(&a.score)).then(random),
            Ties::Random => random,
            Ties::First => Ordering::Equal,
        })
    }
}
