//! The file read back with the crate's own reader.

use std::collections::BTreeMap;

use bytes::Bytes;
use chimera_domain::event::{RequestError, RequestErrorKind};
use chimera_domain::ids::{AgentId, RequestId};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::*;
use crate::sample::report;

fn request(id: &str, ttft_ms: Option<f64>) -> RequestReport {
    RequestReport {
        request_id: RequestId::try_new(id).unwrap(),
        step: "report".to_owned(),
        sent_s: Some(0.25),
        ttft_ms,
        e2e_ms: ttft_ms.map(|ttft| ttft + 500.0),
        tpot_ms: None,
        itl_p50_ms: None,
        itl_max_ms: None,
        head_ms: None,
        done_ms: None,
        decode_tokens_per_s: None,
        engine_tokens_per_s: None,
        load_ms: None,
        prompt_eval_ms: Some(90.5),
        eval_ms: None,
        total_ms: None,
        prompt_tokens: Some(400),
        cached_tokens: Some(0),
        output_tokens: Some(32),
        output_tokens_source: Some(TokenSource::Engine),
        chunks: 32,
        finish: Some(FinishReason::Length),
        prompt_sha256: "aa".to_owned(),
        output_sha256: "bb".to_owned(),
        error: None,
        good: None,
    }
}

/// Two agents: the first alone and together, the second's solo leg shared and its request failed.
fn with_requests() -> Report {
    let mut report = report("exp-1", &[2.0]);
    let agents = &mut report.tests[0].runs[0].agents;
    agents[0].requests = vec![request("r1", Some(100.0))];
    agents[0].solo_requests = vec![request("r2", Some(80.0))];
    let mut failed = request("r3", None);
    failed.error = Some(RequestError {
        kind: RequestErrorKind::GapTimeout,
        detail: "no byte for 30 s".to_owned(),
    });
    agents[1].requests = vec![failed];
    agents[1].solo_requests = vec![request("r2", Some(80.0))];
    agents[1].solo_shared_with = Some(AgentId::try_new("collector").unwrap());
    report
}

fn read(bytes: Vec<u8>) -> Vec<BTreeMap<String, Field>> {
    let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        row.get_column_iter()
            .map(|(name, field)| (name.clone(), field.clone()))
            .collect()
    })
    .collect()
}

fn text(text: &str) -> Field {
    Field::Str(text.to_owned())
}

#[test]
fn every_request_is_there_once_with_its_nulls() {
    let rows = read(events_parquet(&with_requests()).unwrap());
    let ids: Vec<&Field> = rows.iter().map(|row| &row["request_id"]).collect();
    assert_eq!(ids, [&text("r1"), &text("r2"), &text("r3")]);
    let legs: Vec<&Field> = rows.iter().map(|row| &row["leg"]).collect();
    assert_eq!(legs, [&text("together"), &text("solo"), &text("together")]);
    let [first, _, failed] = rows.as_slice() else {
        panic!("{}", rows.len());
    };
    assert_eq!(first["experiment"], text("exp-1"));
    assert_eq!(first["ttft_ms"], Field::Double(100.0));
    assert_eq!(first["engine_prompt_eval_ms"], Field::Double(90.5));
    assert_eq!(first["output_tokens"], Field::Long(32));
    assert_eq!(first["run_valid"], Field::Bool(true));
    assert_eq!(first["finish"], text("length"));
    assert_eq!(first["tpot_ms"], Field::Null);
    assert_eq!(first["error"], Field::Null);
    assert_eq!(failed["ttft_ms"], Field::Null);
    assert_eq!(failed["error"], text("gap_timeout"));
    assert_eq!(failed["error_detail"], text("no byte for 30 s"));
}

#[test]
fn a_report_without_requests_is_a_table_without_rows() {
    let bytes = events_parquet(&report("exp-1", &[2.0])).unwrap();
    assert!(read(bytes.clone()).is_empty());
    let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    assert_eq!(schema.num_columns(), columns().len());
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    let report = with_requests();
    assert_eq!(
        events_parquet(&report).unwrap(),
        events_parquet(&report).unwrap()
    );
}

#[test]
fn every_column_is_documented() {
    let document = include_str!("../../../../docs/metrics.md");
    let missing: Vec<&str> = columns()
        .iter()
        .map(|column| column.name)
        .filter(|name| !document.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
