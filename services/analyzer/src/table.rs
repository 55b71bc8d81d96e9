//! `events.parquet`: one row per request, for whoever wants to compute for themselves.
//!
//! The rows are those of the report, so that both always say the same: the attempt of each leg that
//! decides, valid or not, together and alone. A solo leg that several agents share is there once, under
//! the agent that ran it. Column names carry their units; a null is "not measured", never zero. The
//! columns are listed in `docs/metrics.md`, and `COLUMNS` is the only place that defines them.

use std::sync::Arc;

use chimera_domain::event::FinishReason;
use chimera_domain::latency::TokenSource;
use chimera_domain::report::{AgentRun, Report, RequestReport, RunReport, TestReport};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

/// Name of the file in a bundle.
pub const EVENTS_PARQUET: &str = "events.parquet";

/// Rows in a row group: a reader's unit of work, and what is held in memory while writing.
const ROWS_PER_GROUP: usize = 65_536;

/// One request with where it belongs.
struct Row<'a> {
    report: &'a Report,
    test: &'a TestReport,
    run: &'a RunReport,
    agent: &'a AgentRun,
    /// Whether the agent was alone.
    alone: bool,
    request: &'a RequestReport,
}

/// A column: its name, and its value of a row. `None` is a null.
struct Column {
    name: &'static str,
    value: Value,
}

enum Value {
    Text(fn(&Row<'_>) -> Option<String>),
    Whole(fn(&Row<'_>) -> Option<i64>),
    Number(fn(&Row<'_>) -> Option<f64>),
    Flag(fn(&Row<'_>) -> Option<bool>),
}

fn text(name: &'static str, of: fn(&Row<'_>) -> Option<String>) -> Column {
    Column {
        name,
        value: Value::Text(of),
    }
}

fn whole(name: &'static str, of: fn(&Row<'_>) -> Option<i64>) -> Column {
    Column {
        name,
        value: Value::Whole(of),
    }
}

fn number(name: &'static str, of: fn(&Row<'_>) -> Option<f64>) -> Column {
    Column {
        name,
        value: Value::Number(of),
    }
}

fn flag(name: &'static str, of: fn(&Row<'_>) -> Option<bool>) -> Column {
    Column {
        name,
        value: Value::Flag(of),
    }
}

/// The columns, in order.
fn columns() -> Vec<Column> {
    vec![
        text("experiment", |row| Some(row.report.experiment.to_string())),
        whole("phase", |row| Some(row.test.phase.into())),
        text("test", |row| Some(row.test.id.clone())),
        text("label", |row| Some(row.test.label.clone())),
        whole("run", |row| Some(row.run.run.into())),
        flag("run_valid", |row| Some(row.run.valid)),
        text("run_invalid_reason", |row| row.run.invalid_reason.clone()),
        text("leg", |row| {
            Some(if row.alone { "solo" } else { "together" }.to_owned())
        }),
        text("agent", |row| Some(row.agent.agent.to_string())),
        text("role", |row| Some(row.agent.role.to_string())),
        text("request_id", |row| Some(row.request.request_id.to_string())),
        text("step", |row| Some(row.request.step.clone())),
        number("agent_start_offset_s", |row| {
            row.agent.start_offset_s.filter(|_| !row.alone)
        }),
        number("sent_s", |row| row.request.sent_s),
        number("head_ms", |row| row.request.head_ms),
        number("ttft_ms", |row| row.request.ttft_ms),
        number("e2e_ms", |row| row.request.e2e_ms),
        number("done_ms", |row| row.request.done_ms),
        number("tpot_ms", |row| row.request.tpot_ms),
        number("itl_p50_ms", |row| row.request.itl_p50_ms),
        number("itl_max_ms", |row| row.request.itl_max_ms),
        number("decode_tokens_per_s", |row| row.request.decode_tokens_per_s),
        whole("prompt_tokens", |row| {
            row.request.prompt_tokens.map(Into::into)
        }),
        whole("cached_tokens", |row| {
            row.request.cached_tokens.map(Into::into)
        }),
        whole("output_tokens", |row| {
            row.request.output_tokens.map(Into::into)
        }),
        text("output_tokens_source", |row| {
            row.request.output_tokens_source.map(|source| {
                match source {
                    TokenSource::Engine => "engine",
                    TokenSource::Chunks => "chunks",
                }
                .to_owned()
            })
        }),
        whole("chunks", |row| Some(row.request.chunks.into())),
        text("finish", |row| {
            row.request.finish.map(|finish| {
                match finish {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Other => "other",
                }
                .to_owned()
            })
        }),
        number("engine_load_ms", |row| row.request.load_ms),
        number("engine_prompt_eval_ms", |row| row.request.prompt_eval_ms),
        number("engine_eval_ms", |row| row.request.eval_ms),
        number("engine_total_ms", |row| row.request.total_ms),
        number("engine_tokens_per_s", |row| row.request.engine_tokens_per_s),
        text("error", |row| {
            row.request
                .error
                .as_ref()
                .map(|error| error.kind.as_str().to_owned())
        }),
        text("error_detail", |row| {
            row.request.error.as_ref().map(|error| error.detail.clone())
        }),
        text("prompt_sha256", |row| {
            Some(row.request.prompt_sha256.clone())
        }),
        text("output_sha256", |row| {
            Some(row.request.output_sha256.clone())
        }),
    ]
}

/// The requests of a report as a Parquet file, compressed with Snappy.
///
/// *Shape*: rows by test, run and agent in the order of the report, together before alone; every column
/// optional. No request: a file with the columns and no rows. The same report gives the same bytes.
///
/// # Errors
/// When the format refuses, which no report makes happen.
pub fn events_parquet(report: &Report) -> Result<Vec<u8>, ParquetError> {
    let columns = columns();
    let fields = columns
        .iter()
        .map(|column| column.field().map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("request")
        .with_fields(fields)
        .build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties))?;
    let rows = rows(report);
    for group in rows.chunks(ROWS_PER_GROUP) {
        let mut open = writer.next_row_group()?;
        for column in &columns {
            column.write(group, &mut open)?;
        }
        open.close()?;
    }
    writer.close()?;
    Ok(bytes)
}

fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for test in &report.tests {
        for run in &test.runs {
            for agent in &run.agents {
                let alone = if agent.solo_shared_with.is_none() {
                    agent.solo_requests.as_slice()
                } else {
                    &[]
                };
                for (requests, alone) in [(agent.requests.as_slice(), false), (alone, true)] {
                    rows.extend(requests.iter().map(|request| Row {
                        report,
                        test,
                        run,
                        agent,
                        alone,
                        request,
                    }));
                }
            }
        }
    }
    rows
}

impl Column {
    fn field(&self) -> Result<Type, ParquetError> {
        let (physical, logical) = match self.value {
            Value::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Value::Whole(_) => (Physical::INT64, None),
            Value::Number(_) => (Physical::DOUBLE, None),
            Value::Flag(_) => (Physical::BOOLEAN, None),
        };
        Type::primitive_type_builder(self.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
    }

    fn write(
        &self,
        rows: &[Row<'_>],
        group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    ) -> Result<(), ParquetError> {
        match self.value {
            Value::Text(of) => {
                let bytes = |row: &Row<'_>| of(row).map(|text| ByteArray::from(text.as_str()));
                put::<ByteArrayType>(group, rows.iter().map(bytes))
            }
            Value::Whole(of) => put::<Int64Type>(group, rows.iter().map(of)),
            Value::Number(of) => put::<DoubleType>(group, rows.iter().map(of)),
            Value::Flag(of) => put::<BoolType>(group, rows.iter().map(of)),
        }
    }
}

/// Writes the next column: what is there, and for each row whether it is.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut there, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        there.extend(value);
    }
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General(
            "the schema has fewer columns than the table".to_owned(),
        ));
    };
    column
        .typed::<T>()
        .write_batch(&there, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests;
