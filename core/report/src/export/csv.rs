//! Tables as CSV, as RFC 4180 has it: a heading, CRLF, quotes where they are needed.

use std::path::{Path, PathBuf};

use csv::{Terminator, WriterBuilder};

use super::{
    file::{Draft, failed},
    tables::{Cell, Sink, Table},
};
use crate::ReportError;

/// A CSV file.
pub(super) struct Writer {
    path: PathBuf,
    csv: csv::Writer<Draft>,
}

impl Writer {
    /// Begins the file with its heading.
    pub fn create(path: &Path, table: &Table) -> Result<Self, ReportError> {
        let path = path.with_extension("csv");
        let draft = Draft::create(&path)?;
        let mut csv = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(draft);
        csv.write_record(table.columns.iter().map(|(name, _)| *name)).map_err(|error| failed(&path, error))?;
        Ok(Self { path, csv })
    }
}

impl Sink for Writer {
    fn row(&mut self, row: Vec<Cell>) -> Result<(), ReportError> {
        let fields = row.into_iter().map(|cell| match cell {
            Cell::None => String::new(),
            Cell::Text(text) => text,
            Cell::Whole(number) => number.to_string(),
            Cell::Number(number) => number.to_string(),
            Cell::Truth(truth) => truth.to_string(),
        });
        self.csv.write_record(fields).map_err(|error| failed(&self.path, error))
    }

    fn finish(self: Box<Self>) -> Result<PathBuf, ReportError> {
        let Self { path, csv } = *self;
        let draft = csv.into_inner().map_err(|error| failed(&path, error.error()))?;
        draft.finish()?;
        Ok(path)
    }
}
