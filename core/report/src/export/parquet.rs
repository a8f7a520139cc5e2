//! Tables as Parquet: every column may miss values. Pages are not compressed, so that no library for it is needed; texts
//! that repeat, such as ids, are kept once per row group.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{ConvertedType, Repetition, Type as PhysicalType},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};

use super::{
    file::{Draft, failed},
    tables::{Cell, ColumnType, Sink, Table},
};
use crate::ReportError;

/// Rows of a row group: what is in memory at a time.
const GROUP: usize = 10_000;

/// A Parquet file.
pub(super) struct Writer {
    path: PathBuf,
    columns: Vec<ColumnType>,
    file: SerializedFileWriter<Draft>,
    rows: Vec<Vec<Cell>>,
}

impl Writer {
    /// Begins the file.
    pub fn create(path: &Path, table: &Table) -> Result<Self, ReportError> {
        let path = path.with_extension("parquet");
        let wrong = |error: ParquetError| failed(&path, error);
        let mut fields = Vec::new();
        for (name, kind) in table.columns {
            let (physical, converted) = match kind {
                ColumnType::Text => (PhysicalType::BYTE_ARRAY, ConvertedType::UTF8),
                ColumnType::Whole => (PhysicalType::INT64, ConvertedType::NONE),
                ColumnType::Number => (PhysicalType::DOUBLE, ConvertedType::NONE),
                ColumnType::Truth => (PhysicalType::BOOLEAN, ConvertedType::NONE),
            };
            let field = Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_converted_type(converted)
                .build()
                .map_err(wrong)?;
            fields.push(Arc::new(field));
        }
        let schema = Type::group_type_builder(table.name).with_fields(fields).build().map_err(wrong)?;
        // The writer's name holds no version of ours: the same run gives the same bytes.
        let properties = WriterProperties::builder().set_created_by("metareward".into()).build();
        let file =
            SerializedFileWriter::new(Draft::create(&path)?, Arc::new(schema), Arc::new(properties)).map_err(wrong)?;
        let columns = table.columns.iter().map(|(_, kind)| *kind).collect();
        Ok(Self { path, columns, file, rows: Vec::new() })
    }

    /// Writes the rows at hand as a row group.
    fn group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for place in 0..self.columns.len() {
            let Some(mut column) = group.next_column()? else { break };
            let cells = || rows.iter().filter_map(|row| row.get(place));
            let present: Vec<i16> = cells().map(|cell| i16::from(*cell != Cell::None)).collect();
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let values: Vec<ByteArray> = cells()
                        .filter_map(|cell| match cell {
                            Cell::Text(text) => Some(ByteArray::from(text.as_str())),
                            _ => None,
                        })
                        .collect();
                    writer.write_batch(&values, Some(&present), None)?;
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let values: Vec<i64> = cells()
                        .filter_map(|cell| match cell {
                            Cell::Whole(number) => Some(*number),
                            _ => None,
                        })
                        .collect();
                    writer.write_batch(&values, Some(&present), None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let values: Vec<f64> = cells()
                        .filter_map(|cell| match cell {
                            Cell::Number(number) => Some(*number),
                            _ => None,
                        })
                        .collect();
                    writer.write_batch(&values, Some(&present), None)?;
                }
                ColumnWriter::BoolColumnWriter(writer) => {
                    let values: Vec<bool> = cells()
                        .filter_map(|cell| match cell {
                            Cell::Truth(truth) => Some(*truth),
                            _ => None,
                        })
                        .collect();
                    writer.write_batch(&values, Some(&present), None)?;
                }
                _ => return Err(ParquetError::General("a column of a type that no table has".into())),
            }
            column.close()?;
        }
        group.close().map(drop)
    }
}

impl Sink for Writer {
    fn row(&mut self, row: Vec<Cell>) -> Result<(), ReportError> {
        self.rows.push(row);
        if self.rows.len() < GROUP {
            return Ok(());
        }
        self.group().map_err(|error| failed(&self.path, error))
    }

    fn finish(mut self: Box<Self>) -> Result<PathBuf, ReportError> {
        self.group().map_err(|error| failed(&self.path, error))?;
        let Self { path, file, .. } = *self;
        let draft = file.into_inner().map_err(|error| failed(&path, error))?;
        draft.finish()?;
        Ok(path)
    }
}
