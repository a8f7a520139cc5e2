//! How well a judge agrees with a reference: a stronger judge, people, or the oracle (paper, tables 3 and 7).

use std::fmt;
use std::path::Path;

use metareward_api::PromptId;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::choice::Choice;
use crate::error::{EvalError, read, record};
use crate::records::records;
use crate::show::{number, share};
use crate::{Bootstrap, Figure, Groups, Ties, kendall_figure, mean, spearman_figure};

/// Who chose the two answers of a pair as one to prefer and one to reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// The reference: the judge's ties are what can happen (paper: GPT-4-chosen pairs).
    Reference,
    /// The judge itself: the reference's ties are what can happen (paper: self-chosen pairs).
    Judge,
}

/// Two answers to one prompt, and what both sides say of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedPair {
    /// The prompt.
    pub prompt: PromptId,
    /// The judge's choice.
    pub judge: Choice,
    /// The reference's choice.
    pub reference: Choice,
}

/// Agreement on one set of pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairAgreement {
    /// Who chose the pairs.
    pub chosen_by: ChosenBy,
    /// Share of agreement from 0 to 1, a tie of the side that did not choose as half. `None` without a pair.
    pub ties_half: Option<Figure>,
    /// Share of agreement among pairs on which neither side sees a tie.
    pub without_ties: Option<Figure>,
    /// Pairs on which the side that did not choose sees a tie.
    pub ties: usize,
    /// Pairs that the choosing side calls a tie: it did not choose there, and they count nowhere.
    pub not_chosen: usize,
}

/// How well a judge agrees with a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeReport {
    /// The judge.
    pub judge: String,
    /// Whom it is compared with.
    pub reference: String,
    /// Agreement on pairs, by who chose them.
    pub pairs: Vec<PairAgreement>,
    /// Spearman's correlation of scores; `None` without scores, or when one side always gives the same.
    pub spearman: Option<Figure>,
    /// Kendall's tau-b of scores.
    pub kendall: Option<Figure>,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

/// Agreement on pairs that one side chose.
pub fn pair_agreement(pairs: &[JudgedPair], chosen_by: ChosenBy, bootstrap: &Bootstrap) -> PairAgreement {
    let sides = |pair: &JudgedPair| match chosen_by {
        ChosenBy::Reference => (pair.reference, pair.judge),
        ChosenBy::Judge => (pair.judge, pair.reference),
    };
    let chosen = || pairs.iter().map(|pair| (&pair.prompt, sides(pair))).filter(|(_, (chosen, _))| chosen.is_decided());
    let agreed = |ties: Ties| {
        let counted = chosen().filter(|(_, (_, other))| ties == Ties::Half || other.is_decided());
        let points = counted.map(|(prompt, (chosen, other))| {
            let points = if other.is_decided() { f64::from(u8::from(chosen == other)) } else { 0.5 };
            (prompt.clone(), points)
        });
        mean(&points.collect::<Groups<f64>>(), bootstrap)
    };
    PairAgreement {
        chosen_by,
        ties_half: agreed(Ties::Half),
        without_ties: agreed(Ties::LeftOut),
        ties: chosen().filter(|(_, (_, other))| !other.is_decided()).count(),
        not_chosen: pairs.len() - chosen().count(),
    }
}

/// The pairs that one side would choose from scores: per prompt its highest against its lowest, the first of equal
/// ones. A prompt on which it gives one score to everything has none. The answer listed first is the preferred one.
pub fn chosen_pairs(scores: &Groups<(f64, f64)>, chosen_by: ChosenBy) -> Vec<JudgedPair> {
    let mut pairs = Vec::new();
    for (prompt, answers) in scores.iter() {
        let of = |answer: &(f64, f64)| match chosen_by {
            ChosenBy::Judge => answer.0,
            ChosenBy::Reference => answer.1,
        };
        let mut scored = answers.iter().filter(|answer| !answer.0.is_nan() && !answer.1.is_nan());
        let Some(first) = scored.next() else { continue };
        let (mut best, mut worst) = (first, first);
        for answer in scored {
            best = if of(answer) > of(best) { answer } else { best };
            worst = if of(answer) < of(worst) { answer } else { worst };
        }
        if of(best) <= of(worst) {
            continue;
        }
        if let (Some(judge), Some(reference)) = (Choice::by_score(best.0, worst.0), Choice::by_score(best.1, worst.1)) {
            pairs.push(JudgedPair { prompt: prompt.clone(), judge, reference });
        }
    }
    pairs
}

impl JudgeReport {
    /// From scores of the same answers: both pair sets and the rank correlations. A point is the judge's score and the
    /// reference's.
    pub fn from_scores(
        judge: &str,
        reference: &str,
        scores: &Groups<(f64, f64)>,
        bootstrap: &Bootstrap,
    ) -> JudgeReport {
        let pairs = [ChosenBy::Reference, ChosenBy::Judge]
            .map(|chosen_by| pair_agreement(&chosen_pairs(scores, chosen_by), chosen_by, bootstrap));
        JudgeReport {
            judge: judge.to_string(),
            reference: reference.to_string(),
            pairs: pairs.to_vec(),
            spearman: spearman_figure(scores, bootstrap),
            kendall: kendall_figure(scores, bootstrap),
            bootstrap: *bootstrap,
        }
    }

    /// From pairs that were judged, each set with who chose it.
    pub fn from_pairs(
        judge: &str,
        reference: &str,
        sets: &[(ChosenBy, Vec<JudgedPair>)],
        bootstrap: &Bootstrap,
    ) -> JudgeReport {
        JudgeReport {
            judge: judge.to_string(),
            reference: reference.to_string(),
            pairs: sets.iter().map(|(chosen_by, pairs)| pair_agreement(pairs, *chosen_by, bootstrap)).collect(),
            spearman: None,
            kendall: None,
            bootstrap: *bootstrap,
        }
    }
}

/// Reads pairs: JSON lines, or an array, of `{"prompt", "judge", "reference"}` with `"first"`, `"second"` or `"tie"`.
///
/// # Errors
/// When the file cannot be read, or a record has another form.
pub fn read_pairs(path: &Path) -> Result<Vec<JudgedPair>, EvalError> {
    pairs_from_json(&path.display().to_string(), &read(path)?)
}

/// As [`read_pairs`], from text; `file` names it in errors.
///
/// # Errors
/// As [`read_pairs`].
pub fn pairs_from_json(file: &str, text: &str) -> Result<Vec<JudgedPair>, EvalError> {
    let raw: Vec<Raw<Choice>> = records(file, text, "expected pairs with prompt, judge, reference")?;
    let pair = |(index, item): (usize, Raw<Choice>)| {
        let Raw { prompt, judge, reference, .. } = item;
        Ok(JudgedPair { prompt, judge: judge.ok_or_else(|| unjudged(file, index))?, reference })
    };
    raw.into_iter().enumerate().map(pair).collect()
}

/// A record as a file holds it: beside what counts, what a live judge was shown and said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<T> {
    prompt: PromptId,
    judge: Option<T>,
    reference: T,
    #[serde(default, rename = "first")]
    _first: IgnoredAny,
    #[serde(default, rename = "second")]
    _second: IgnoredAny,
    #[serde(default, rename = "output")]
    _output: IgnoredAny,
    #[serde(default, rename = "judgments")]
    _judgments: IgnoredAny,
    #[serde(default, rename = "errors")]
    _errors: IgnoredAny,
}

fn unjudged(file: &str, index: usize) -> EvalError {
    let message = "the judge said nothing; let a judge be asked, or leave the record out".to_string();
    EvalError::Form { place: record(file, index), message }
}

/// Reads scores: JSON lines, or an array, of `{"prompt", "judge", "reference"}` with numbers, one per answer.
///
/// # Errors
/// When the file cannot be read, or a record has another form.
pub fn read_scores(path: &Path) -> Result<Groups<(f64, f64)>, EvalError> {
    scores_from_json(&path.display().to_string(), &read(path)?)
}

/// As [`read_scores`], from text; `file` names it in errors.
///
/// # Errors
/// As [`read_scores`].
pub fn scores_from_json(file: &str, text: &str) -> Result<Groups<(f64, f64)>, EvalError> {
    let answers: Vec<Raw<f64>> = records(file, text, "expected scores with prompt, judge, reference")?;
    let mut scores = Groups::default();
    for (index, answer) in answers.iter().enumerate() {
        let judge = answer.judge.ok_or_else(|| unjudged(file, index))?;
        if !judge.is_finite() || !answer.reference.is_finite() {
            let message = "a score is not a finite number".to_string();
            return Err(EvalError::Form { place: record(file, index), message });
        }
        scores.push(&answer.prompt, (judge, answer.reference));
    }
    Ok(scores)
}

impl fmt::Display for JudgeReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{} against {}", self.judge, self.reference)?;
        for set in &self.pairs {
            let whose = match set.chosen_by {
                ChosenBy::Reference => format!("pairs chosen by {}", self.reference),
                ChosenBy::Judge => format!("pairs chosen by {} itself", self.judge),
            };
            let show = |figure: &Option<Figure>| {
                figure.as_ref().map_or("no pair to measure it on".to_string(), |figure| share(figure, &self.bootstrap))
            };
            writeln!(f, "{whose}: agreement, ties half: {}", show(&set.ties_half))?;
            writeln!(f, "{whose}: agreement without ties: {}; {} ties", show(&set.without_ties), set.ties)?;
        }
        for (name, figure) in [("Spearman", &self.spearman), ("Kendall's tau-b", &self.kendall)] {
            if let Some(figure) = figure {
                writeln!(f, "{name} of scores: {}", number(figure, &self.bootstrap, 3, ""))?;
            }
        }
        Ok(())
    }
}
