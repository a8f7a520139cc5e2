//! MT-Bench (Zheng et al. 2023), single-answer grading: two turns, a rating from 1 to 10 for each, means per turn and
//! per category.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use metareward_api::PromptId;
use serde::{Deserialize, Serialize};

use crate::bracketed::{Several, Unread, verdict};
use crate::error::{EvalError, read, record};
use crate::records::records;
use crate::show::number;
use crate::{Bootstrap, Figure, Groups, mean};

/// The least and the greatest rating.
pub const SCALE: (f64, f64) = (1.0, 10.0);

/// Reads the rating from a judge's text: a number in double brackets or, where there is none, in single ones, as the
/// public tool does, which takes the first.
///
/// # Errors
/// When there is no such number, when several differ and `several` asks for agreement, and when it is off the scale.
pub fn read_rating(text: &str, several: Several) -> Result<f64, Unread> {
    let number = |inside: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, rest) = inside.split_once('.').unwrap_or((inside, "0"));
        (digits(whole) && (rest.is_empty() || digits(rest))).then(|| inside.parse::<f64>().ok()).flatten()
    };
    let rating = match verdict(text, several, number) {
        Err(Unread::Missing) => {
            // Doubled, single brackets are what `verdict` looks for.
            verdict(&text.replace('[', "[[").replace(']', "]]"), several, number)
        }
        found => found,
    }?;
    if (SCALE.0..=SCALE.1).contains(&rating) { Ok(rating) } else { Err(Unread::OffScale) }
}

/// A rating of one turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rated {
    /// The question's number.
    pub question: u32,
    /// The model that answered.
    pub model: String,
    /// The turn, 1 or 2.
    pub turn: u32,
    /// The rating, or why there is none.
    pub rating: Result<f64, Unread>,
}

/// The categories of questions by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Categories(pub BTreeMap<u32, String>);

#[derive(Deserialize)]
struct RawQuestion {
    question_id: u32,
    category: String,
}

/// A record as the public tool writes it.
#[derive(Deserialize)]
struct Raw {
    question_id: u32,
    model: String,
    turn: u32,
    score: Option<f64>,
    judgment: Option<String>,
}

impl Categories {
    /// Reads a file of questions.
    ///
    /// # Errors
    /// When it cannot be read, or a record has another form.
    pub fn read(path: &Path) -> Result<Categories, EvalError> {
        let file = path.display().to_string();
        let questions: Vec<RawQuestion> =
            records(&file, &read(path)?, "expected questions with question_id, category")?;
        Ok(Categories(questions.into_iter().map(|item| (item.question_id, item.category)).collect()))
    }
}

/// Reads a judgment file: JSON lines or an array, as [`read_ratings`] says.
///
/// # Errors
/// As [`read_ratings`], and when the file cannot be read.
pub fn read_ratings_file(path: &Path, several: Several) -> Result<Vec<Rated>, EvalError> {
    read_ratings(&path.display().to_string(), &read(path)?, several)
}

/// Reads judgments from text; `file` names it in errors. A score of −1, the public tool's sign of failure, and a
/// missing one are looked for in the judge's text.
///
/// # Errors
/// When a record has another form, a turn is neither 1 nor 2, a score is off the scale, or a turn was rated twice.
pub fn read_ratings(file: &str, text: &str, several: Several) -> Result<Vec<Rated>, EvalError> {
    let raw: Vec<Raw> = records(file, text, "expected ratings with question_id, model, turn, score")?;
    let mut seen = std::collections::BTreeSet::new();
    let mut ratings = Vec::with_capacity(raw.len());
    for (index, item) in raw.into_iter().enumerate() {
        let form = |message: String| EvalError::Form { place: record(file, index), message };
        if !(1..=2).contains(&item.turn) {
            return Err(form(format!("the turn is {}; expected 1 or 2", item.turn)));
        }
        let rating = match item.score.filter(|score| *score != -1.0) {
            Some(score) if (SCALE.0..=SCALE.1).contains(&score) => Ok(score),
            Some(score) => return Err(form(format!("the score is {score}; expected {} to {}", SCALE.0, SCALE.1))),
            None => item.judgment.map_or(Err(Unread::NoJudgment), |text| read_rating(&text, several)),
        };
        let Raw { question_id: question, model, turn, .. } = item;
        if !seen.insert((model.clone(), question, turn)) {
            return Err(form(format!("turn {turn} of {model} on question {question} was rated before")));
        }
        ratings.push(Rated { question, model, turn, rating });
    }
    Ok(ratings)
}

/// One model's ratings, from 1 to 10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MtBenchRow {
    /// The model.
    pub model: String,
    /// Mean of all ratings of both turns. Intervals are over questions.
    pub mean: Figure,
    /// Mean of the first and of the second turn; `None` without a rating.
    pub turns: [Option<Figure>; 2],
    /// Mean of both turns by category.
    pub categories: BTreeMap<String, Figure>,
    /// Ratings that could not be read, by why.
    pub unread: BTreeMap<Unread, usize>,
    /// Mean length of its answers, and what it is counted in; `None` where no answers were given.
    pub length: Option<(Figure, String)>,
}

/// Ratings of all models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MtBenchReport {
    /// The models, the best first.
    pub rows: Vec<MtBenchRow>,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

/// Means per model. A model without a readable rating is an error. `lengths` are those of answers by model, with their
/// unit.
///
/// # Errors
/// When there is no readable rating of a model, or a question has no category while others have.
pub fn rate(
    ratings: &[Rated],
    categories: &Categories,
    lengths: Option<(&BTreeMap<String, Groups<f64>>, &str)>,
    bootstrap: &Bootstrap,
) -> Result<MtBenchReport, EvalError> {
    let mut models: BTreeMap<&str, Vec<&Rated>> = BTreeMap::new();
    for rated in ratings {
        models.entry(&rated.model).or_default().push(rated);
    }
    let mut rows = Vec::new();
    for (model, ratings) in models {
        let figure = |keep: &dyn Fn(&Rated) -> bool| {
            let kept = ratings.iter().filter(|rated| keep(rated));
            let values = kept.filter_map(|rated| Some((question(rated), *rated.rating.as_ref().ok()?)));
            mean(&values.collect::<Groups<f64>>(), bootstrap)
        };
        let mut by_category = BTreeMap::new();
        if !categories.0.is_empty() {
            for rated in &ratings {
                let category = categories.0.get(&rated.question).ok_or_else(|| EvalError::Form {
                    place: format!("question {}", rated.question),
                    message: "it is not in the file of questions".to_string(),
                })?;
                if !by_category.contains_key(category) {
                    let of = |rated: &Rated| categories.0.get(&rated.question) == Some(category);
                    by_category.extend(figure(&of).map(|figure| (category.clone(), figure)));
                }
            }
        }
        let mut unread = BTreeMap::new();
        for why in ratings.iter().filter_map(|rated| rated.rating.as_ref().err()) {
            *unread.entry(why.clone()).or_default() += 1;
        }
        let length =
            lengths.and_then(|(lengths, unit)| Some((mean(lengths.get(model)?, bootstrap)?, unit.to_string())));
        rows.push(MtBenchRow {
            model: model.to_string(),
            mean: figure(&|_| true)
                .ok_or(EvalError::Empty { place: model.to_string(), expected: "expected a rating that was read" })?,
            turns: [1, 2].map(|turn| figure(&|rated| rated.turn == turn)),
            categories: by_category,
            unread,
            length,
        });
    }
    if rows.is_empty() {
        return Err(EvalError::Empty { place: "the ratings".to_string(), expected: "expected ratings" });
    }
    rows.sort_by(|a, b| b.mean.value.total_cmp(&a.mean.value).then_with(|| a.model.cmp(&b.model)));
    Ok(MtBenchReport { rows, bootstrap: *bootstrap })
}

fn question(rated: &Rated) -> PromptId {
    PromptId(format!("{:08}", rated.question))
}

impl fmt::Display for MtBenchReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let show = |figure: &Figure| number(figure, &self.bootstrap, 3, "");
        writeln!(f, "Ratings from {} to {}; n counts ratings, intervals are over questions", SCALE.0, SCALE.1)?;
        for row in &self.rows {
            writeln!(f, "{}: {}", row.model, show(&row.mean))?;
            for (turn, figure) in row.turns.iter().enumerate() {
                let text = figure.as_ref().map_or("no rating".to_string(), show);
                writeln!(f, "  turn {}: {text}", turn + 1)?;
            }
            for (category, figure) in &row.categories {
                writeln!(f, "  {category}: {}", show(figure))?;
            }
            if let Some((length, unit)) = &row.length {
                writeln!(f, "  mean length: {}", number(length, &self.bootstrap, 1, &format!(" {unit}")))?;
            }
            for (why, count) in &row.unread {
                writeln!(f, "  not counted: {count}: {why}")?;
            }
        }
        Ok(())
    }
}
