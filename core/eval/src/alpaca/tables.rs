//! The tables that AlpacaEval publishes, from their CSV files: weights of the length-controlled model, difficulties of
//! the instructions, the judged rows that regularise a fit, and the leaderboard.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{EvalError, beginning, read, record};

/// Weights of one model in the length-controlled regression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlmWeights {
    /// Of tanh of the standardised length difference, baseline minus model.
    pub length: f64,
    /// Of the instruction's difficulty.
    pub difficulty: f64,
    /// Of the model itself.
    pub model: f64,
}

/// Weights by model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightTable {
    /// Where they are from.
    pub file: String,
    /// The weights.
    pub weights: BTreeMap<String, GlmWeights>,
}

/// A difficulty per instruction, in the order of the instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difficulties {
    /// Where they are from.
    pub file: String,
    /// The difficulties.
    pub values: Vec<f64>,
    /// The instructions, where the table has a column of that name: then they are compared with the annotations'.
    pub instructions: Option<Vec<String>>,
}

/// Judged answers of the baseline told to be brief or verbose: they tie the length weight to what length alone is
/// worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anchors {
    /// Where they are from.
    pub file: String,
    /// The rows.
    pub rows: Vec<Anchor>,
    /// Number of different models among them; their weight is shared among these.
    pub models: usize,
}

/// One judged answer of a baseline told to be brief or verbose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// From 0 to 1.
    pub preference: f64,
    /// Standardised length difference, before tanh.
    pub length: f64,
    /// The instruction's difficulty.
    pub difficulty: f64,
}

/// A row of the leaderboard; rates in per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaderboardRow {
    /// Raw win rate.
    pub win_rate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Wins.
    pub n_wins: usize,
    /// Wins of the baseline.
    pub n_wins_base: usize,
    /// Draws.
    pub n_draws: usize,
    /// All.
    pub n_total: usize,
    /// Win rate with every preference rounded.
    pub discrete_win_rate: f64,
    /// Mean length in characters, cut to a whole number.
    pub avg_length: f64,
    /// Length-controlled win rate.
    pub length_controlled_winrate: Option<f64>,
    /// Its standard error.
    pub lc_standard_error: Option<f64>,
}

/// The leaderboard, by model.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaderboard {
    /// Where it is from.
    pub file: String,
    /// The rows.
    pub rows: BTreeMap<String, LeaderboardRow>,
}

impl WeightTable {
    /// Reads a CSV file with the columns of AlpacaEval: the model's name, `np.tanh(std_delta_len)`,
    /// `instruction_difficulty`, `not_gamed_baseline.astype(float)`.
    ///
    /// # Errors
    /// When the file cannot be read, a column is missing, or a cell is not a finite number.
    pub fn read(path: &Path) -> Result<WeightTable, EvalError> {
        WeightTable::from_csv(&path.display().to_string(), &read(path)?)
    }

    /// The same from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`WeightTable::read`].
    pub fn from_csv(file: &str, text: &str) -> Result<WeightTable, EvalError> {
        let sheet = Sheet::new(file, text)?;
        let columns =
            [sheet.column("tanh")?, sheet.column("instruction_difficulty")?, sheet.column("not_gamed_baseline")?];
        let mut weights = BTreeMap::new();
        for row in 0..sheet.rows.len() {
            let [length, difficulty, model] = [0, 1, 2].map(|place| sheet.number(row, columns[place]));
            let entry = GlmWeights { length: length?, difficulty: difficulty?, model: model? };
            weights.insert(sheet.cell(row, 0).to_string(), entry);
        }
        Ok(WeightTable { file: file.to_string(), weights })
    }

    /// The weights of a model.
    ///
    /// # Errors
    /// When it has none; names the one that is spelled most alike.
    pub fn of(&self, model: &str) -> Result<GlmWeights, EvalError> {
        self.weights.get(model).copied().ok_or_else(|| unknown(model, &self.file, self.weights.keys()))
    }
}

impl Difficulties {
    /// Reads a CSV file with the column `instruction_difficulty`, in the order of the instructions. With a column
    /// `index` the rows are checked to be in order; with a column `instruction` they are later compared with the
    /// annotations.
    ///
    /// # Errors
    /// When the file cannot be read, the column is missing, a cell is not a finite number, or rows are out of order.
    pub fn read(path: &Path) -> Result<Difficulties, EvalError> {
        Difficulties::from_csv(&path.display().to_string(), &read(path)?)
    }

    /// The same from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`Difficulties::read`].
    pub fn from_csv(file: &str, text: &str) -> Result<Difficulties, EvalError> {
        let sheet = Sheet::new(file, text)?;
        let column = sheet.column("instruction_difficulty")?;
        let rows = 0..sheet.rows.len();
        if let Some(index) = sheet.find("index") {
            for row in rows.clone() {
                if sheet.number(row, index)? != row as f64 {
                    let message =
                        format!("the index is `{}`; the rows must be in order from 0", sheet.cell(row, index));
                    return Err(EvalError::Form { place: record(file, row), message });
                }
            }
        }
        let values = rows.clone().map(|row| sheet.number(row, column)).collect::<Result<_, _>>()?;
        let instructions = sheet
            .headings
            .iter()
            .position(|heading| heading == "instruction")
            .map(|place| rows.map(|row| sheet.cell(row, place).to_string()).collect());
        Ok(Difficulties { file: file.to_string(), values, instructions })
    }
}

impl Anchors {
    /// Reads a CSV file with the columns `preference` (0 … 1), `std_delta_len`, `instruction_difficulty`, and `model`
    /// where there are several.
    ///
    /// # Errors
    /// When the file cannot be read, a column is missing, or a cell is not a finite number.
    pub fn read(path: &Path) -> Result<Anchors, EvalError> {
        Anchors::from_csv(&path.display().to_string(), &read(path)?)
    }

    /// The same from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`Anchors::read`].
    pub fn from_csv(file: &str, text: &str) -> Result<Anchors, EvalError> {
        let sheet = Sheet::new(file, text)?;
        let columns =
            [sheet.column("preference")?, sheet.column("std_delta_len")?, sheet.column("instruction_difficulty")?];
        let mut rows = Vec::with_capacity(sheet.rows.len());
        for row in 0..sheet.rows.len() {
            // The published table has empty preferences, which count nowhere.
            if sheet.cell(row, columns[0]).is_empty() {
                continue;
            }
            let [preference, length, difficulty] = [0, 1, 2].map(|place| sheet.number(row, columns[place]));
            let anchor = Anchor { preference: preference?, length: length?, difficulty: difficulty? };
            if !(0.0..=1.0).contains(&anchor.preference) {
                let message = format!("the preference is {}, but must lie between 0 and 1", anchor.preference);
                return Err(EvalError::Form { place: record(file, row), message });
            }
            rows.push(anchor);
        }
        let models = sheet.find("model").map_or(1, |column| {
            let mut names: Vec<&str> = (0..sheet.rows.len()).map(|row| sheet.cell(row, column)).collect();
            names.sort_unstable();
            names.dedup();
            names.len()
        });
        Ok(Anchors { file: file.to_string(), rows, models })
    }
}

impl Leaderboard {
    /// Reads the CSV file of a leaderboard.
    ///
    /// # Errors
    /// When the file cannot be read, a column is missing, or a cell is not a number.
    pub fn read(path: &Path) -> Result<Leaderboard, EvalError> {
        Leaderboard::from_csv(&path.display().to_string(), &read(path)?)
    }

    /// The same from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`Leaderboard::read`].
    pub fn from_csv(file: &str, text: &str) -> Result<Leaderboard, EvalError> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let mut rows = BTreeMap::new();
        let form = |message: csv::Error| EvalError::Form { place: file.to_string(), message: message.to_string() };
        let headings = reader.headers().map_err(form)?.clone();
        for row in reader.records() {
            let row = row.map_err(form)?;
            let entry: LeaderboardRow = row.deserialize(Some(&headings)).map_err(form)?;
            rows.insert(row.get(0).unwrap_or_default().to_string(), entry);
        }
        Ok(Leaderboard { file: file.to_string(), rows })
    }

    /// The row of a model.
    ///
    /// # Errors
    /// When it has none; names the one that is spelled most alike.
    pub fn of(&self, model: &str) -> Result<&LeaderboardRow, EvalError> {
        self.rows.get(model).ok_or_else(|| unknown(model, &self.file, self.rows.keys()))
    }
}

/// Rows of a CSV file, as text.
struct Sheet {
    file: String,
    headings: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

impl Sheet {
    fn new(file: &str, text: &str) -> Result<Sheet, EvalError> {
        let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let form = |error: csv::Error| EvalError::Form { place: file.to_string(), message: error.to_string() };
        let headings = reader.headers().map_err(form)?.iter().map(str::to_string).collect();
        let rows: Vec<_> = reader.records().collect::<Result<_, _>>().map_err(form)?;
        if rows.is_empty() {
            return Err(EvalError::Empty { place: file.to_string(), expected: "expected a heading and rows" });
        }
        Ok(Sheet { file: file.to_string(), headings, rows })
    }

    /// Place of the column with that name, or, failing that, of the first whose name holds it.
    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.headings.iter().position(|heading| heading == name);
        exact.or_else(|| self.headings.iter().position(|heading| heading.contains(name)))
    }

    fn column(&self, name: &str) -> Result<usize, EvalError> {
        self.find(name).ok_or_else(|| EvalError::Form {
            place: self.file.clone(),
            message: format!("no column `{name}`; there are: {}", self.headings.join(", ")),
        })
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|row| row.get(column)).unwrap_or_default()
    }

    fn number(&self, row: usize, column: usize) -> Result<f64, EvalError> {
        let cell = self.cell(row, column);
        cell.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| EvalError::Form {
            place: record(&self.file, row),
            message: format!("`{}` is not a finite number (column {})", beginning(cell), self.headings[column]),
        })
    }
}

/// An error that offers the name spelled most alike.
fn unknown<'a>(name: &str, table: &str, names: impl Iterator<Item = &'a String>) -> EvalError {
    let nearest = metareward_plugin::nearest(name, names.map(String::as_str)).map(str::to_string);
    EvalError::Unknown { name: name.to_string(), table: table.to_string(), nearest }
}
