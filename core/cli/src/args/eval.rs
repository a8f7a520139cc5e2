//! What can be typed after `eval`.

mod live;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use metareward_eval::{
    Bootstrap,
    alpaca::Regularization,
    arena::{self, ArenaOptions},
    judge,
};

pub use live::LiveArgs;

/// `metareward eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// AlpacaEval 2: win rate, standard error, draws, lengths, and the win rate at equal lengths.
    Alpaca(AlpacaArgs),
    /// Arena-Hard: the chance of winning against an anchor, from judgments in both orders.
    Arena(ArenaArgs),
    /// MT-Bench: mean ratings per turn and per category.
    MtBench(MtBenchArgs),
    /// Two models on prompts of your own: win rate over both orders, and at equal lengths.
    Pairwise(PairwiseArgs),
    /// How well a judge agrees with a reference: on pairs, and in the ranks of its scores.
    Judge(JudgeArgs),
    /// What a judge looks at besides quality: position, length, its own answers; and whether its scores still tell answers
    /// apart.
    Bias(BiasArgs),
}

/// Intervals over prompts.
#[derive(Clone, Debug, Args)]
pub struct DrawArgs {
    /// Draws behind each interval; 0 gives none.
    #[arg(long, default_value_t = Bootstrap::default().draws)]
    pub rounds: u32,
    /// Seed of the draws: the same seed gives the same intervals.
    #[arg(long, default_value_t = Bootstrap::default().seed)]
    pub seed: u64,
}

impl DrawArgs {
    /// 95 % intervals from these draws.
    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap { draws: self.rounds, seed: self.seed, ..Bootstrap::default() }
    }
}

/// `metareward eval alpaca`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("equal-lengths").multiple(true).args(["weights", "fit"]))]
pub struct AlpacaArgs {
    /// AlpacaEval's annotations of one model: JSON or JSON lines with instruction, output_1, output_2, preference. Several
    /// files, of as many models, must hold the same instructions in the same order; each gets a report.
    #[arg(long, value_name = "FILE", required_unless_present = "outputs", num_args = 1..)]
    pub annotations: Vec<PathBuf>,
    /// Without annotations: the model's outputs, for --judge to annotate. JSON or JSON lines with instruction, output,
    /// generator.
    #[arg(long, value_name = "FILE", requires_all = ["baseline_outputs", "judge"], conflicts_with = "annotations")]
    pub outputs: Option<PathBuf>,
    /// The outputs that they are compared with, for the same instructions in the same order.
    #[arg(long, value_name = "FILE", requires = "outputs")]
    pub baseline_outputs: Option<PathBuf>,
    /// The model's name in the tables, where the annotations have another one. With several files one name for each, in
    /// their order.
    #[arg(long)]
    pub name: Vec<String>,
    /// CSV of published weights (glm_weights.csv): predicts the win rate at equal lengths, as the leaderboard does.
    #[arg(long, value_name = "FILE", requires = "difficulties")]
    pub weights: Option<PathBuf>,
    /// CSV of the instructions' difficulties (instruction_difficulty.csv), for --weights and --fit.
    #[arg(long, value_name = "FILE", requires = "equal-lengths")]
    pub difficulties: Option<PathBuf>,
    /// CSV of judged answers of the baseline told to be brief or verbose (df_gamed.csv): they hold a fit's length weight.
    #[arg(long, value_name = "FILE", requires = "fit")]
    pub anchors: Option<PathBuf>,
    /// The leaderboard's CSV: its figures are shown beside ours.
    #[arg(long, value_name = "FILE")]
    pub leaderboard: Option<PathBuf>,
    /// Fit the win rate at equal lengths here: `none` (no penalty), `cv` (L1, its strength by cross-validation, as
    /// AlpacaEval does), `l1=S` or `l2=S` with the strength S. May be given many times. Every draw of an interval is fitted
    /// anew.
    #[arg(long, value_name = "PENALTY", value_parser = penalty)]
    pub fit: Vec<Regularization>,
    /// Leave records without a preference out instead of refusing them.
    #[arg(long)]
    pub allow_missing: bool,
    /// Count records with an empty output as they were judged instead of refusing them.
    #[arg(long)]
    pub allow_empty: bool,
    /// Intervals.
    #[command(flatten)]
    pub draws: DrawArgs,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// A published version of Arena-Hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArenaVersion {
    /// Bradley–Terry ratings of all models, 95 % intervals.
    #[value(name = "0.1")]
    First,
    /// Each model's mean points, 90 % intervals.
    #[value(name = "2.0")]
    Second,
}

/// What is drawn for an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawn {
    /// Single games, as published; the intervals come out too narrow.
    Games,
    /// Questions with all their games.
    Questions,
}

/// `metareward eval arena`.
#[derive(Debug, Args)]
pub struct ArenaArgs {
    /// Judgments by one judge: JSON lines with question_id or uid, model and two games, the anchor's answer as A in the
    /// first and as B in the second.
    #[arg(long, value_name = "FILE", required_unless_present = "questions", num_args = 1..)]
    pub judgments: Vec<PathBuf>,
    /// Without judgments: the questions, for --judge to compare every model's --answers with the anchor's. JSON lines with
    /// question_id and turns, or uid and prompt.
    #[arg(long, value_name = "FILE", requires_all = ["answers", "judge"], conflicts_with = "judgments")]
    pub questions: Option<PathBuf>,
    /// The model that all are compared with.
    #[arg(long, value_name = "MODEL")]
    pub anchor: String,
    /// The statistic of this version.
    #[arg(long, value_enum, value_name = "VERSION", default_value = "0.1")]
    pub statistic: ArenaVersion,
    /// The models' answers, for their mean lengths and for --judge.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub answers: Vec<PathBuf>,
    /// How many times a strong win (`A>>B`) counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub strong_weight: u32,
    /// What is drawn for an interval.
    #[arg(long, value_enum, default_value = "games")]
    pub draw: Drawn,
    /// Draws behind each interval; 0 gives none.
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,
    /// Seed of the draws: the same seed gives the same intervals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

impl ArenaArgs {
    /// The version's options with what was changed.
    pub fn options(&self) -> ArenaOptions {
        let published = match self.statistic {
            ArenaVersion::First => ArenaOptions::version_0_1(&self.anchor),
            ArenaVersion::Second => ArenaOptions::version_2_0(&self.anchor),
        };
        let draws = match self.draw {
            Drawn::Games => arena::Draws::Games,
            Drawn::Questions => arena::Draws::Questions,
        };
        let bootstrap = Bootstrap { draws: self.rounds, seed: self.seed, ..published.bootstrap };
        ArenaOptions { strong_weight: self.strong_weight, bootstrap, draws, ..published }
    }
}

/// `metareward eval mt-bench`.
#[derive(Debug, Args)]
pub struct MtBenchArgs {
    /// Single-answer ratings: JSON lines with question_id, model, turn, and score or judgment.
    #[arg(long, value_name = "FILE", required_unless_present = "answers")]
    pub ratings: Option<PathBuf>,
    /// The questions, for their categories and for --judge: JSON lines with question_id, category, turns.
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Without ratings: the models' answers, for --judge to rate both turns of. JSON lines with question_id, model_id,
    /// choices.
    #[arg(long, value_name = "FILE", num_args = 1.., requires_all = ["questions", "judge"], conflicts_with = "ratings")]
    pub answers: Vec<PathBuf>,
    /// Intervals.
    #[command(flatten)]
    pub draws: DrawArgs,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// `metareward eval pairwise`.
#[derive(Debug, Args)]
pub struct PairwiseArgs {
    /// JSON lines with prompt, model_output, baseline_output, model_first, baseline_first. The last two are the judge's
    /// choices with the model's and with the baseline's output shown first: `first`, `second`, `tie`, or null where there is
    /// none, which --judge is asked for.
    #[arg(long, value_name = "FILE")]
    pub pairs: PathBuf,
    /// The model's name.
    #[arg(long, default_value = "model")]
    pub model: String,
    /// Name of what it is compared with.
    #[arg(long, default_value = "baseline")]
    pub baseline: String,
    /// How the fit at equal lengths is held back: `none`, `cv` (L1, its strength by cross-validation), `l1=S` or `l2=S`.
    #[arg(long, value_name = "PENALTY", value_parser = penalty, default_value = "cv")]
    pub fit: Regularization,
    /// Intervals.
    #[command(flatten)]
    pub draws: DrawArgs,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// Who chose the pairs of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChosenBy {
    /// The judge: the reference's ties count as half.
    Judge,
    /// The reference: the judge's ties count as half.
    Reference,
}

impl From<ChosenBy> for judge::ChosenBy {
    fn from(who: ChosenBy) -> Self {
        match who {
            ChosenBy::Judge => judge::ChosenBy::Judge,
            ChosenBy::Reference => judge::ChosenBy::Reference,
        }
    }
}

/// `metareward eval judge`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["scores", "pairs", "run"]))]
pub struct JudgeArgs {
    /// JSON lines with prompt, judge, reference: both scores of one answer. Each side's pairs are its best and its worst
    /// answer to a prompt. Where judge is missing, --judge rates the answer under output from 1 to 10.
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// JSON lines with prompt, judge, reference: both choices, `first`, `second` or `tie`. Where judge is missing, --judge
    /// compares the answers under first and second in both orders.
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// A run folder: each of its models as a judge of the held-out answers, against the oracle.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["judge", "judge_name", "reference"])]
    pub run: Option<PathBuf>,
    /// Who chose the pairs as one to prefer and one to reject; by default both views are shown.
    #[arg(long, value_enum, requires = "pairs")]
    pub chosen_by: Option<ChosenBy>,
    /// Name of whom it is compared with.
    #[arg(long, default_value = "reference")]
    pub reference: String,
    /// Intervals.
    #[command(flatten)]
    pub draws: DrawArgs,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// `metareward eval bias`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true).args(["verdicts", "scores", "run"]))]
pub struct BiasArgs {
    /// JSON lines with prompt, choice, scores, lengths, own, reference; all but the prompt may be null or left out. Choices
    /// and own are `first` or `second`, by the place in which it was shown, or `tie`; scores and lengths are two numbers.
    /// Where choice is missing, --judge compares the answers under first and second as they are shown.
    #[arg(long, value_name = "FILE")]
    pub verdicts: Option<PathBuf>,
    /// JSON lines with prompt, score, length: what the judge gave single answers. A score of null could not be read; the
    /// length may be left out. With --judge, a missing score is asked for: the answer under output, from 1 to 10.
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// A run folder: the judge and meta-judge of every iteration.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["verdicts", "scores", "judge", "judge_name", "length_unit", "full_points"])]
    pub run: Option<PathBuf>,
    /// What the file's lengths are counted in.
    #[arg(long, value_name = "UNIT", default_value = "characters")]
    pub length_unit: String,
    /// Top of the scale of the scores: by default 5, and 10 with --judge.
    #[arg(long, value_name = "POINTS")]
    pub full_points: Option<f64>,
    /// Intervals.
    #[command(flatten)]
    pub draws: DrawArgs,
    /// A judge that is asked.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// Reads how a fit is held back.
fn penalty(text: &str) -> Result<Regularization, String> {
    let strength = |digits: &str| {
        let number = digits.parse::<f64>().ok().filter(|strength| strength.is_finite() && *strength >= 0.0);
        number.ok_or_else(|| format!("the strength is `{digits}`, but must be a number from 0"))
    };
    match text.split_once('=') {
        None if text == "none" => Ok(Regularization::None),
        None if text == "cv" => Ok(Regularization::CrossValidated),
        Some(("l1", digits)) => strength(digits).map(Regularization::L1),
        Some(("l2", digits)) => strength(digits).map(Regularization::L2),
        _ => Err("expected none, cv, l1=S or l2=S".to_owned()),
    }
}
