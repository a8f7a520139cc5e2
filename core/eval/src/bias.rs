//! What a judge looks at besides the answers' quality: position, length, its own answers; and whether it still tells
//! answers apart at all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use metareward_api::PromptId;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::choice::Choice;
use crate::error::{EvalError, read, record};
use crate::logistic::{FitError, Observation, Penalty, fit};
use crate::records::records;
use crate::show::{number, share};
use crate::{Bootstrap, Figure, Groups, Spread, mean, mean_of, share_from, spearman_figure};

/// A comparison as it was shown to a judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The judge's choice, by place; `None` where it could not be read.
    pub choice: Option<Choice>,
    /// Scores that both had before, first and second: of judgments that meet, the scores they give; of answers, their
    /// rewards.
    pub scores: Option<(f64, f64)>,
    /// Lengths of both.
    pub lengths: Option<(f64, f64)>,
    /// The place of the judge's own answer, where exactly one is its own.
    pub own: Option<Choice>,
    /// What a reference chose of the same two in the same places.
    pub reference: Option<Choice>,
}

/// How position weighs (paper, table 5). Shares are of decided comparisons, from 0 to 1; `None` where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// First position chosen, where both have the same score.
    pub first_equal: Option<Figure>,
    /// First position chosen, where the scores differ.
    pub first_different: Option<Figure>,
    /// First position chosen, of all, scores known or not.
    pub first_all: Option<Figure>,
    /// The one with the higher score chosen.
    pub higher_wins: Option<Figure>,
    /// The one with the lower score chosen.
    pub lower_wins: Option<Figure>,
    /// Comparisons that ended in a tie.
    pub ties: usize,
}

/// How length weighs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthBias {
    /// Share of decided comparisons of different lengths in which the longer one is chosen.
    pub longer_wins: Option<Figure>,
    /// Change of the log odds of being chosen per [`LengthBias::deviation`] of more length, position held; a tie is
    /// half a choice.
    pub slope: Option<Figure>,
    /// Why there is no slope, where there is none.
    pub no_slope: Option<String>,
    /// Root mean square of the length differences, in the unit.
    pub deviation: f64,
    /// What lengths are counted in.
    pub length_unit: String,
}

/// How a judge treats its own answers against those of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfPreference {
    /// Share of comparisons that its own answer wins, a tie as half.
    pub own_wins: Figure,
    /// The same by the reference, where it says something.
    pub reference: Option<Figure>,
    /// The judge's share minus the reference's, on the comparisons that both judged. Above 0: it favours itself.
    pub excess: Option<Figure>,
}

/// Whether a judge still tells answers apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// How often each score occurs.
    pub histogram: Spread,
    /// Entropy of the scores in bits: 0 when it always gives one score.
    pub entropy: f64,
    /// The most frequent score and its share.
    pub mode: (f64, f64),
    /// Mean score.
    pub mean: Figure,
    /// Share of scores at the top of the scale.
    pub full: Figure,
    /// Correlation of score and length (Spearman), where lengths are known.
    pub length_correlation: Option<Figure>,
}

/// Judgments that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParseFailures {
    /// Share of all judgments; `n` counts judgments.
    pub rate: Figure,
    /// Their number by why.
    pub reasons: BTreeMap<String, usize>,
}

/// All that was measured of one judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BiasReport {
    /// The judge.
    pub judge: String,
    /// By position.
    pub position: Option<PositionBias>,
    /// By length.
    pub length: Option<LengthBias>,
    /// By authorship.
    pub own: Option<SelfPreference>,
    /// By score.
    pub saturation: Option<Saturation>,
    /// What could not be read.
    pub failures: Option<ParseFailures>,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

/// A comparison as a file holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    prompt: PromptId,
    #[serde(default)]
    choice: Option<Choice>,
    #[serde(default)]
    scores: Option<(f64, f64)>,
    #[serde(default)]
    lengths: Option<(f64, f64)>,
    #[serde(default)]
    own: Option<Choice>,
    #[serde(default)]
    reference: Option<Choice>,
    /// What a live judge was shown and said, which is not needed.
    #[serde(default, rename = "first")]
    _first: IgnoredAny,
    #[serde(default, rename = "second")]
    _second: IgnoredAny,
    #[serde(default, rename = "judgments")]
    _judgments: IgnoredAny,
    #[serde(default, rename = "errors")]
    _errors: IgnoredAny,
}

/// Reads comparisons: JSON lines, or an array, of `{"prompt", "choice", "scores", "lengths", "own", "reference"}`. All
/// but the prompt may be null or absent; choices are `"first"`, `"second"` or `"tie"`, scores and lengths two numbers
/// each.
///
/// # Errors
/// When the file cannot be read, a record has another form, or an own answer is a tie or a length negative.
pub fn read_shown(path: &Path) -> Result<Groups<Shown>, EvalError> {
    shown_from_json(&path.display().to_string(), &read(path)?)
}

/// As [`read_shown`], from text; `file` names it in errors.
///
/// # Errors
/// As [`read_shown`].
pub fn shown_from_json(file: &str, text: &str) -> Result<Groups<Shown>, EvalError> {
    let raw: Vec<Raw> = records(file, text, "expected comparisons with prompt and choice")?;
    let mut shown = Groups::default();
    for (index, item) in raw.into_iter().enumerate() {
        let form = |message: &str| EvalError::Form { place: record(file, index), message: message.to_string() };
        if item.own == Some(Choice::Tie) {
            return Err(form("`own` is `tie`; expected `first`, `second` or null"));
        }
        if item.lengths.is_some_and(|(first, second)| first < 0.0 || second < 0.0) {
            return Err(form("a length is negative"));
        }
        let Raw { prompt, choice, scores, lengths, own, reference, .. } = item;
        shown.push(&prompt, Shown { choice, scores, lengths, own, reference });
    }
    Ok(shown)
}

/// A score that a judge gave to one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The prompt.
    pub prompt: PromptId,
    /// The score; `None` where it could not be read.
    pub score: Option<f64>,
    /// Length of the answer.
    #[serde(default)]
    pub length: Option<f64>,
}

/// The same as a file holds it: beside what counts, what a live judge was shown and said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScored {
    prompt: PromptId,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    length: Option<f64>,
    #[serde(default, rename = "output")]
    _output: IgnoredAny,
    #[serde(default, rename = "judgments")]
    _judgments: IgnoredAny,
    #[serde(default, rename = "errors")]
    _errors: IgnoredAny,
}

/// Reads scores of single answers: JSON lines, or an array, of `{"prompt", "score", "length"}`; the score may be null, the
/// length null or absent.
///
/// # Errors
/// When the file cannot be read, a record has another form, or a length is negative.
pub fn read_scored(path: &Path) -> Result<Vec<Scored>, EvalError> {
    scored_from_json(&path.display().to_string(), &read(path)?)
}

/// As [`read_scored`], from text; `file` names it in errors.
///
/// # Errors
/// As [`read_scored`].
pub fn scored_from_json(file: &str, text: &str) -> Result<Vec<Scored>, EvalError> {
    let raw: Vec<RawScored> = records(file, text, "expected scores with prompt, score, length")?;
    let scored: Vec<Scored> =
        raw.into_iter().map(|RawScored { prompt, score, length, .. }| Scored { prompt, score, length }).collect();
    match scored.iter().position(|item| item.length.is_some_and(|length| length < 0.0)) {
        Some(index) => Err(EvalError::Form { place: record(file, index), message: "a length is negative".to_string() }),
        None => Ok(scored),
    }
}

impl BiasReport {
    /// All that comparisons say of a judge; its scores are added by [`saturation`]. A choice that is missing counts as
    /// unreadable.
    pub fn from_shown(judge: &str, shown: &Groups<Shown>, length_unit: &str, bootstrap: &Bootstrap) -> BiasReport {
        let outcomes = shown.map(|seen| seen.choice.is_none().then(|| "no choice could be read".to_string()));
        BiasReport {
            judge: judge.to_string(),
            position: position(shown, bootstrap),
            length: length(shown, length_unit, bootstrap),
            own: self_preference(shown, bootstrap),
            saturation: None,
            failures: parse_failures(&outcomes, bootstrap),
            bootstrap: *bootstrap,
        }
    }
}

/// How position weighs. `None` without a comparison that was read.
pub fn position(shown: &Groups<Shown>, bootstrap: &Bootstrap) -> Option<PositionBias> {
    let read: Vec<(Choice, Option<Choice>)> =
        shown.values().filter_map(|seen| Some((seen.choice?, by_score(seen)))).collect();
    if read.is_empty() {
        return None;
    }
    let first = |keep: &dyn Fn(Option<Choice>) -> bool| {
        rate(shown, bootstrap, &|seen| {
            let choice = seen.choice.filter(|choice| choice.is_decided() && keep(by_score(seen)))?;
            Some(choice.points())
        })
    };
    let wins = |higher: bool| {
        rate(shown, bootstrap, &|seen| {
            let choice = seen.choice.filter(|choice| choice.is_decided())?;
            let best = by_score(seen).filter(|best| best.is_decided())?;
            Some(f64::from(u8::from((choice == best) == higher)))
        })
    };
    Some(PositionBias {
        first_equal: first(&|order| order == Some(Choice::Tie)),
        first_different: first(&|order| order.is_some_and(Choice::is_decided)),
        first_all: first(&|_| true),
        higher_wins: wins(true),
        lower_wins: wins(false),
        ties: read.iter().filter(|(choice, _)| !choice.is_decided()).count(),
    })
}

/// How length weighs. `None` without a comparison that was read and has lengths.
pub fn length(shown: &Groups<Shown>, unit: &str, bootstrap: &Bootstrap) -> Option<LengthBias> {
    let sized = shown.iter().flat_map(|(prompt, group)| group.iter().map(move |seen| (prompt.clone(), *seen)));
    let sized: Groups<Shown> = sized.filter(|(_, seen)| seen.choice.is_some() && seen.lengths.is_some()).collect();
    if sized.is_empty() {
        return None;
    }
    let longer_wins = rate(&sized, bootstrap, &|seen| {
        let (first, second) = seen.lengths?;
        let longer = Choice::by_score(first, second).filter(|longer| longer.is_decided())?;
        let choice = seen.choice.filter(|choice| choice.is_decided())?;
        Some(f64::from(u8::from(choice == longer)))
    });
    let all: Vec<&[Shown]> = sized.iter().map(|(_, group)| group).collect();
    let deviation = deviation(&all);
    let statistic = |groups: &[&[Shown]]| length_slope(groups, deviation).ok();
    let no_slope = length_slope(&all, deviation).err().map(|error| error.to_string());
    let slope = bootstrap.figure(&sized, &statistic);
    Some(LengthBias { longer_wins, slope, no_slope, deviation, length_unit: unit.to_string() })
}

/// How a judge treats its own answers. `None` without a comparison in which exactly one answer is its own.
pub fn self_preference(shown: &Groups<Shown>, bootstrap: &Bootstrap) -> Option<SelfPreference> {
    let own_points =
        |choice: Choice, own: Choice| if own == Choice::First { choice.points() } else { choice.turned().points() };
    let by_judge = |seen: &Shown| Some(own_points(seen.choice?, seen.own.filter(|own| own.is_decided())?));
    let by_reference = |seen: &Shown| Some(own_points(seen.reference?, seen.own.filter(|own| own.is_decided())?));
    Some(SelfPreference {
        own_wins: rate(shown, bootstrap, &by_judge)?,
        reference: rate(shown, bootstrap, &by_reference),
        excess: rate(shown, bootstrap, &|seen| Some(by_judge(seen)? - by_reference(seen)?)),
    })
}

/// Whether a judge still tells answers apart, from its readable scores. `full_points` is the top of the scale;
/// `lengths` are points of score and length. `None` without a score.
pub fn saturation(
    scores: &Groups<f64>,
    full_points: f64,
    lengths: &Groups<(f64, f64)>,
    bootstrap: &Bootstrap,
) -> Option<Saturation> {
    let histogram = Spread::of(scores.values());
    Some(Saturation {
        entropy: histogram.entropy()?,
        mode: histogram.mode()?,
        mean: mean(scores, bootstrap)?,
        full: share_from(scores, full_points, bootstrap)?,
        length_correlation: spearman_figure(lengths, bootstrap),
        histogram,
    })
}

/// Counts what could not be read. A value is `None` for a judgment that was read, and else says why not. `None` without
/// a judgment.
pub fn parse_failures(outcomes: &Groups<Option<String>>, bootstrap: &Bootstrap) -> Option<ParseFailures> {
    let mut reasons = BTreeMap::new();
    for reason in outcomes.values().flatten() {
        *reasons.entry(reason.clone()).or_default() += 1;
    }
    let rate = mean(&outcomes.map(|reason| f64::from(u8::from(reason.is_some()))), bootstrap)?;
    Some(ParseFailures { rate, reasons })
}

/// Which of both has the higher score.
fn by_score(seen: &Shown) -> Option<Choice> {
    seen.scores.and_then(|(first, second)| Choice::by_score(first, second))
}

/// Mean of a value over the comparisons that have it.
fn rate(shown: &Groups<Shown>, bootstrap: &Bootstrap, value: &dyn Fn(&Shown) -> Option<f64>) -> Option<Figure> {
    let values = shown
        .iter()
        .flat_map(|(prompt, group)| group.iter().filter_map(move |seen| Some((prompt.clone(), value(seen)?))));
    bootstrap.figure(&values.collect::<Groups<f64>>(), &mean_of)
}

fn differences<'a>(groups: &'a [&'a [Shown]]) -> impl Iterator<Item = f64> + 'a {
    groups.iter().flat_map(|group| group.iter()).filter_map(|seen| seen.lengths.map(|(first, second)| first - second))
}

/// Root mean square of the length differences: which one is called first must not matter, so their mean counts as 0.
fn deviation(groups: &[&[Shown]]) -> f64 {
    let count = differences(groups).count().max(1) as f64;
    (differences(groups).map(|difference| difference * difference).sum::<f64>() / count).sqrt()
}

/// The weight of length in a logistic regression of the choice on length difference and position.
fn length_slope(groups: &[&[Shown]], deviation: f64) -> Result<f64, FitError> {
    if deviation <= 0.0 {
        return Err(FitError::SameLengths);
    }
    let seen = groups.iter().flat_map(|group| group.iter());
    let observations: Vec<Observation<2>> = seen
        .filter_map(|seen| {
            let (first, second) = seen.lengths?;
            Some(Observation {
                features: [(first - second) / deviation, 1.0],
                label: seen.choice?.points(),
                weight: 1.0,
            })
        })
        .collect();
    fit(&observations, Penalty::None).map(|[slope, _]| slope)
}

impl fmt::Display for BiasReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{} as a judge", self.judge)?;
        let mut line = |name: &str, figure: &Option<Figure>| match figure {
            Some(figure) => writeln!(f, "{name}: {}", share(figure, &self.bootstrap)),
            None => Ok(()),
        };
        if let Some(position) = &self.position {
            line("first position chosen, equal scores", &position.first_equal)?;
            line("first position chosen, different scores", &position.first_different)?;
            line("first position chosen, all", &position.first_all)?;
            line("the higher score chosen", &position.higher_wins)?;
            line("the lower score chosen", &position.lower_wins)?;
        }
        if let Some(length) = &self.length {
            line("the longer one chosen", &length.longer_wins)?;
        }
        if let Some(own) = &self.own {
            line("its own answer chosen, ties half", &Some(own.own_wins))?;
            line("the same by the reference", &own.reference)?;
            line("more often than by the reference", &own.excess)?;
        }
        if let Some(length) = &self.length {
            if let Some(slope) = &length.slope {
                let (deviation, unit) = (length.deviation, &length.length_unit);
                let slope = number(slope, &self.bootstrap, 3, "");
                writeln!(f, "log odds of being chosen per {deviation:.1} {unit} more: {slope}")?;
            }
            if let Some(why) = &length.no_slope {
                writeln!(f, "weight of length: {why}")?;
            }
        }
        if let Some(found) = &self.saturation {
            writeln!(f, "mean score: {}", number(&found.mean, &self.bootstrap, 3, ""))?;
            let (mode, most) = found.mode;
            writeln!(f, "most frequent score: {mode}, in {:.1} %; entropy {:.2} bits", 100.0 * most, found.entropy)?;
            writeln!(f, "scores at the top: {}", share(&found.full, &self.bootstrap))?;
            let counts: Vec<String> =
                found.histogram.counts.iter().map(|(score, count)| format!("{score}: {count}")).collect();
            writeln!(f, "scores: {}", counts.join(", "))?;
            if let Some(correlation) = &found.length_correlation {
                writeln!(f, "Spearman of score and length: {}", number(correlation, &self.bootstrap, 3, ""))?;
            }
        }
        if let Some(failures) = &self.failures {
            writeln!(f, "unread: {}", share(&failures.rate, &self.bootstrap))?;
            for (reason, count) in &failures.reasons {
                writeln!(f, "  {count}: {reason}")?;
            }
        }
        Ok(())
    }
}
