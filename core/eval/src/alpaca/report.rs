//! The raw win rate of annotations, and everything that is known of a model in lines of text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::annotations::Annotations;
use super::length_control::{LengthControlled, Method, place, standard_error};
use super::tables::LeaderboardRow;
use crate::error::EvalError;
use crate::logistic::Penalty;
use crate::show::{number, share};
use crate::{Bootstrap, Figure, Groups, mean};

/// Win rate as it was judged. Rates from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Mean preference for the model.
    pub win_rate: Figure,
    /// Standard error of that mean.
    pub standard_error: f64,
    /// Preferences above a half.
    pub wins: usize,
    /// Preferences below a half.
    pub losses: usize,
    /// Preferences of exactly a half.
    pub draws: usize,
    /// Records without a preference, which count nowhere else.
    pub without_preference: usize,
    /// Share of wins, a draw as half a win.
    pub discrete_win_rate: Figure,
    /// Mean length of the model's outputs.
    pub length: Figure,
    /// Mean length of the baseline's outputs.
    pub baseline_length: Figure,
    /// What lengths are counted in.
    pub length_unit: String,
}

/// A model on AlpacaEval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlpacaReport {
    /// The model.
    pub model: String,
    /// What it is compared with.
    pub baseline: String,
    /// Who judged.
    pub annotator: Option<String>,
    /// As it was judged.
    pub raw: WinRate,
    /// Length-controlled, by each way that was asked for.
    pub length_controlled: Vec<LengthControlled>,
    /// What the leaderboard says of the model, in per cent.
    pub published: Option<LeaderboardRow>,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

/// The raw win rate of annotations.
///
/// # Errors
/// When no record has a preference.
pub fn win_rate(annotations: &Annotations, bootstrap: &Bootstrap) -> Result<WinRate, EvalError> {
    let numbered = || annotations.items.iter().enumerate();
    let preferences: Groups<f64> =
        numbered().filter_map(|(index, item)| Some((place(index), item.preference?))).collect();
    let count = |test: fn(&f64) -> bool| preferences.values().filter(|value| test(value)).count();
    let empty = || EvalError::Empty { place: annotations.file.clone(), expected: "expected at least one preference" };
    let rounded = preferences.map(|value| {
        if *value > 0.5 {
            1.0
        } else if *value < 0.5 {
            0.0
        } else {
            0.5
        }
    });
    let lengths: Groups<f64> = numbered().map(|(index, item)| (place(index), item.length as f64)).collect();
    let baselines: Groups<f64> = numbered().map(|(index, item)| (place(index), item.baseline_length as f64)).collect();
    Ok(WinRate {
        win_rate: mean(&preferences, bootstrap).ok_or_else(empty)?,
        standard_error: standard_error(&preferences),
        wins: count(|value| *value > 0.5),
        losses: count(|value| *value < 0.5),
        draws: count(|value| *value == 0.5),
        without_preference: annotations.items.len() - preferences.len(),
        discrete_win_rate: mean(&rounded, bootstrap).ok_or_else(empty)?,
        length: mean(&lengths, bootstrap).ok_or_else(empty)?,
        baseline_length: mean(&baselines, bootstrap).ok_or_else(empty)?,
        length_unit: "characters".to_string(),
    })
}

impl AlpacaReport {
    /// Puts together what is known of a model. `name` replaces the name in the annotations where that is not the
    /// leaderboard's.
    ///
    /// # Errors
    /// When no record has a preference.
    pub fn new(
        annotations: &Annotations,
        name: Option<&str>,
        bootstrap: &Bootstrap,
    ) -> Result<AlpacaReport, EvalError> {
        Ok(AlpacaReport {
            model: name.unwrap_or(&annotations.model).to_string(),
            baseline: annotations.baseline.clone(),
            annotator: annotations.annotator.clone(),
            raw: win_rate(annotations, bootstrap)?,
            length_controlled: Vec::new(),
            published: None,
            bootstrap: *bootstrap,
        })
    }
}

impl fmt::Display for AlpacaReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let AlpacaReport { raw, bootstrap, .. } = self;
        let annotator = self.annotator.as_deref().unwrap_or("an annotator without a name");
        writeln!(f, "{} against {}, judged by {annotator}", self.model, self.baseline)?;
        let error = 100.0 * raw.standard_error;
        writeln!(f, "win rate: {}, standard error {error:.2} points", share(&raw.win_rate, bootstrap))?;
        writeln!(f, "{} wins, {} losses, {} draws", raw.wins, raw.losses, raw.draws)?;
        if raw.without_preference > 0 {
            writeln!(f, "left out: {} without a preference", raw.without_preference)?;
        }
        writeln!(f, "win rate of rounded preferences: {}", share(&raw.discrete_win_rate, bootstrap))?;
        for found in &self.length_controlled {
            write!(f, "length-controlled win rate, {}: {}", found.method, share(&found.win_rate, bootstrap))?;
            if let Some(error) = found.standard_error {
                write!(f, ", standard error {:.2} points", 100.0 * error)?;
            }
            writeln!(f)?;
            let weights = &found.weights;
            writeln!(
                f,
                "  weights: length {:.4}, difficulty {:.4}, model {:.4}",
                weights.length, weights.difficulty, weights.model
            )?;
            one_sided(f, found)?;
        }
        let unit = format!(" {}", raw.length_unit);
        writeln!(f, "mean length: {}", number(&raw.length, bootstrap, 1, &unit))?;
        writeln!(f, "mean length of {}: {}", self.baseline, number(&raw.baseline_length, bootstrap, 1, &unit))?;
        if let Some(row) = &self.published {
            write!(f, "leaderboard: win rate {:.2} %, standard error {:.2} points", row.win_rate, row.standard_error)?;
            if let Some(rate) = row.length_controlled_winrate {
                write!(f, ", length-controlled {rate:.2} %")?;
            }
            writeln!(f, ", mean length {} characters", row.avg_length)?;
            for (found, rate) in self.length_controlled.iter().zip(std::iter::repeat(row.length_controlled_winrate)) {
                if let Some(rate) = rate {
                    let off = 100.0 * found.win_rate.value - rate;
                    writeln!(f, "  {}: {off:+.4} points from the leaderboard's", found.method)?;
                }
            }
        }
        Ok(())
    }
}

/// Warns of a figure that is guessed from few comparisons.
pub(crate) fn one_sided(f: &mut fmt::Formatter, found: &LengthControlled) -> fmt::Result {
    match found.shorter.filter(|_| found.one_sided()) {
        None => Ok(()),
        Some(share) => writeln!(
            f,
            "  the model's output is the shorter one in {:.1} % of comparisons: what equal lengths would give is hardly seen",
            100.0 * share
        ),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Method::Given => write!(f, "predicted from given weights"),
            Method::Baseline => write!(f, "one half, since the model is the baseline"),
            Method::Fitted { penalty, difficulties, anchors } => {
                match penalty {
                    Penalty::None => write!(f, "fitted without a penalty")?,
                    Penalty::L1(strength) => write!(f, "fitted with an L1 penalty of strength {strength:.4}")?,
                    Penalty::L2(strength) => write!(f, "fitted with an L2 penalty of strength {strength:.4}")?,
                }
                if !difficulties {
                    write!(f, ", without difficulties")?;
                }
                if *anchors > 0 {
                    write!(f, ", {anchors} anchors")?;
                }
                Ok(())
            }
        }
    }
}
